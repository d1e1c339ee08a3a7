"""Prompt templates, the well-known formats, and the prompts that a server is checked with."""
