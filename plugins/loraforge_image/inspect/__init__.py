# SPDX-License-Identifier: Apache-2.0
"""``loraforge inspect``: what a LoRA file is, how strong, and which programs take it."""
