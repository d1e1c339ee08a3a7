# SPDX-License-Identifier: Apache-2.0
"""A LoRA: which layers it sits on, how it is put on and taken off, and its files in PEFT's layout."""
