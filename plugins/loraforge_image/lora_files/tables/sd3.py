# SPDX-License-Identifier: Apache-2.0
"""Stable Diffusion 3 and 3.5. The last block's text half ends before its feed-forward part; its modulation has shift and scale alone."""

from __future__ import annotations

from ..webui_format import WebuiTable

SD3 = WebuiTable(
    architecture="stable-diffusion-3/lora",
    base_version="sd3",
    card="SD3",
    fused={
        "joint_blocks.{i}.x_block.attn.qkv": tuple(f"transformer_blocks.{{i}}.attn.to_{one}" for one in "qkv"),
        "joint_blocks.{i}.context_block.attn.qkv": tuple(f"transformer_blocks.{{i}}.attn.add_{one}_proj" for one in "qkv"),
        "joint_blocks.{i}.x_block.attn2.qkv": tuple(f"transformer_blocks.{{i}}.attn2.to_{one}" for one in "qkv"),
    },
    plain={
        "joint_blocks.{i}.x_block.attn.proj": "transformer_blocks.{i}.attn.to_out.0",
        "joint_blocks.{i}.context_block.attn.proj": "transformer_blocks.{i}.attn.to_add_out",
        "joint_blocks.{i}.x_block.attn2.proj": "transformer_blocks.{i}.attn2.to_out.0",
        "joint_blocks.{i}.x_block.mlp.fc1": "transformer_blocks.{i}.ff.net.0.proj",
        "joint_blocks.{i}.x_block.mlp.fc2": "transformer_blocks.{i}.ff.net.2",
        "joint_blocks.{i}.context_block.mlp.fc1": "transformer_blocks.{i}.ff_context.net.0.proj",
        "joint_blocks.{i}.context_block.mlp.fc2": "transformer_blocks.{i}.ff_context.net.2",
        "joint_blocks.{i}.x_block.adaLN_modulation.1": "transformer_blocks.{i}.norm1.linear",
    },
    outside={
        "context_embedder": "context_embedder",
        "final_layer.linear": "proj_out",
        "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
        "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
        "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
        "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
    },
    halves={
        "final_layer.adaLN_modulation.1": "norm_out.linear",
        "joint_blocks.{i}.context_block.adaLN_modulation.1": "transformer_blocks.{i}.norm1_context.linear",
    },
)
