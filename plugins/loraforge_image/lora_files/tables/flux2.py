# SPDX-License-Identifier: Apache-2.0
"""FLUX.2: dev and klein. The double blocks are FLUX.1's, with another feed-forward part; diffusers keeps the single blocks fused too."""

from __future__ import annotations

from ..webui_format import WebuiTable
from .flux1 import ATTENTION

FLUX2 = WebuiTable(
    architecture="flux-2-dev/lora",
    base_version="flux2",
    implementation="https://github.com/black-forest-labs/flux2",
    fused=ATTENTION,
    plain={
        "double_blocks.{i}.img_attn.proj": "transformer_blocks.{i}.attn.to_out.0",
        "double_blocks.{i}.txt_attn.proj": "transformer_blocks.{i}.attn.to_add_out",
        "double_blocks.{i}.img_mlp.0": "transformer_blocks.{i}.ff.linear_in",
        "double_blocks.{i}.img_mlp.2": "transformer_blocks.{i}.ff.linear_out",
        "double_blocks.{i}.txt_mlp.0": "transformer_blocks.{i}.ff_context.linear_in",
        "double_blocks.{i}.txt_mlp.2": "transformer_blocks.{i}.ff_context.linear_out",
        "single_blocks.{i}.linear1": "single_transformer_blocks.{i}.attn.to_qkv_mlp_proj",
        "single_blocks.{i}.linear2": "single_transformer_blocks.{i}.attn.to_out",
    },
    outside={
        "img_in": "x_embedder",
        "txt_in": "context_embedder",
        "final_layer.linear": "proj_out",
        "time_in.in_layer": "time_guidance_embed.timestep_embedder.linear_1",
        "time_in.out_layer": "time_guidance_embed.timestep_embedder.linear_2",
        "guidance_in.in_layer": "time_guidance_embed.guidance_embedder.linear_1",
        "guidance_in.out_layer": "time_guidance_embed.guidance_embedder.linear_2",
        "double_stream_modulation_img.lin": "double_stream_modulation_img.linear",
        "double_stream_modulation_txt.lin": "double_stream_modulation_txt.linear",
        "single_stream_modulation.lin": "single_stream_modulation.linear",
    },
    halves={"final_layer.adaLN_modulation.1": "norm_out.linear"},
)
