# SPDX-License-Identifier: Apache-2.0
"""Prompt templates, the well-known formats, and the prompts that a server is checked with."""
