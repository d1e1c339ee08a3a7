# SPDX-License-Identifier: Apache-2.0
"""What an answer is worth beside its reference, and what a model knows beside its examples."""
