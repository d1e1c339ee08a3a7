# SPDX-License-Identifier: Apache-2.0
"""FLUX.1: dev, schnell, Kontext. The original is Black Forest Labs' own code, whose blocks keep query, key and value in one layer."""

from __future__ import annotations

from ..webui_format import WebuiTable

DOUBLE = {
    "double_blocks.{i}.img_attn.proj": "transformer_blocks.{i}.attn.to_out.0",
    "double_blocks.{i}.txt_attn.proj": "transformer_blocks.{i}.attn.to_add_out",
    "double_blocks.{i}.img_mlp.0": "transformer_blocks.{i}.ff.net.0.proj",
    "double_blocks.{i}.img_mlp.2": "transformer_blocks.{i}.ff.net.2",
    "double_blocks.{i}.txt_mlp.0": "transformer_blocks.{i}.ff_context.net.0.proj",
    "double_blocks.{i}.txt_mlp.2": "transformer_blocks.{i}.ff_context.net.2",
}
ATTENTION = {
    "double_blocks.{i}.img_attn.qkv": tuple(f"transformer_blocks.{{i}}.attn.to_{one}" for one in "qkv"),
    "double_blocks.{i}.txt_attn.qkv": tuple(f"transformer_blocks.{{i}}.attn.add_{one}_proj" for one in "qkv"),
}
LINEAR1 = {
    "single_blocks.{i}.linear1": (
        *(f"single_transformer_blocks.{{i}}.attn.to_{one}" for one in "qkv"),
        "single_transformer_blocks.{i}.proj_mlp",
    )
}
# The feed-forward part is four times as wide as the others.
LINEAR1_SHARES = {"single_blocks.{i}.linear1": (1, 1, 1, 4)}

FLUX1 = WebuiTable(
    architecture="flux-1-dev/lora",
    base_version="flux1",
    implementation="https://github.com/black-forest-labs/flux",
    card="Flux",
    fused={**ATTENTION, **LINEAR1},
    shares=LINEAR1_SHARES,
    plain={
        **DOUBLE,
        "double_blocks.{i}.img_mod.lin": "transformer_blocks.{i}.norm1.linear",
        "double_blocks.{i}.txt_mod.lin": "transformer_blocks.{i}.norm1_context.linear",
        "single_blocks.{i}.linear2": "single_transformer_blocks.{i}.proj_out",
        "single_blocks.{i}.modulation.lin": "single_transformer_blocks.{i}.norm.linear",
    },
    outside={
        "img_in": "x_embedder",
        "txt_in": "context_embedder",
        "final_layer.linear": "proj_out",
        "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
        "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
        "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
        "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
        "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
        "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    },
    halves={"final_layer.adaLN_modulation.1": "norm_out.linear"},
)
