# SPDX-License-Identifier: Apache-2.0
"""GGUF files as bases: read, turned once into a folder of transformers, and kept."""
