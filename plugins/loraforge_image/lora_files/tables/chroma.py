# SPDX-License-Identifier: Apache-2.0
"""Chroma: FLUX.1 without its modulation layers; one network of its own makes what they made."""

from __future__ import annotations

from ..webui_format import WebuiTable
from .flux1 import ATTENTION, DOUBLE, LINEAR1, LINEAR1_SHARES

CHROMA = WebuiTable(
    architecture="chroma/lora",
    base_version="chroma",
    implementation="https://huggingface.co/lodestones/Chroma",
    fused={**ATTENTION, **LINEAR1},
    shares=LINEAR1_SHARES,
    plain={**DOUBLE, "single_blocks.{i}.linear2": "single_transformer_blocks.{i}.proj_out"},
    outside={
        "img_in": "x_embedder",
        "txt_in": "context_embedder",
        "final_layer.linear": "proj_out",
        "distilled_guidance_layer.in_proj": "distilled_guidance_layer.in_proj",
        "distilled_guidance_layer.out_proj": "distilled_guidance_layer.out_proj",
        "distilled_guidance_layer.layers.{i}.in_layer": "distilled_guidance_layer.layers.{i}.linear_1",
        "distilled_guidance_layer.layers.{i}.out_layer": "distilled_guidance_layer.layers.{i}.linear_2",
    },
)
