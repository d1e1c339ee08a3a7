# SPDX-License-Identifier: Apache-2.0
"""The WebUI's file of a family, for the families: see ``lora_files.webui_format``, which what reads LoRA files uses too."""

from __future__ import annotations

from ..lora_files.webui_format import WebuiFormat, WebuiTable

__all__ = ["WebuiFormat", "WebuiTable"]
