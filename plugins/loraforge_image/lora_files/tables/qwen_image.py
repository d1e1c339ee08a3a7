# SPDX-License-Identifier: Apache-2.0
"""Qwen-Image and Qwen-Image-Edit: the original model has diffusers' names, and no layer is fused."""

from __future__ import annotations

from ..webui_format import WebuiTable

_INSIDE = (
    *(f"attn.to_{one}" for one in ("q", "k", "v", "out.0", "add_out")),
    *(f"attn.add_{one}_proj" for one in "qkv"),
    *(f"{side}_{layer}" for side in ("img", "txt") for layer in ("mlp.net.0.proj", "mlp.net.2", "mod.1")),
)
_OUTSIDE = (
    *("img_in", "txt_in", "proj_out", "norm_out.linear"),
    *("time_text_embed.timestep_embedder.linear_1", "time_text_embed.timestep_embedder.linear_2"),
)

QWEN_IMAGE = WebuiTable(
    architecture="qwen-image/lora",
    base_version="qwen-image",
    implementation="https://github.com/QwenLM/Qwen-Image",
    plain={name: name for inside in _INSIDE for name in (f"transformer_blocks.{{i}}.{inside}",)},
    outside={name: name for name in _OUTSIDE},
)
