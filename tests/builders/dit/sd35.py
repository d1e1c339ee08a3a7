# SPDX-License-Identifier: Apache-2.0
"""A tiny Stable Diffusion 3.5."""

from __future__ import annotations

from ..tiny_images import make_sd3
from . import Case

MEDIUM = {
    "num_layers": 24, "num_attention_heads": 24, "attention_head_dim": 64, "caption_projection_dim": 1536, "joint_attention_dim": 4096,
    "pooled_projection_dim": 2048, "pos_embed_max_size": 384, "dual_attention_layers": tuple(range(13)), "qk_norm": "rms_norm",
}  # fmt: skip


def plain(pipe, clean, noise, level, caption):
    """The network's time goes to 1000."""
    import torch

    with torch.no_grad():
        context, _, pooled, _ = pipe.encode_prompt(caption, caption, caption, do_classifier_free_guidance=False, max_sequence_length=256)
    mixed = (1 - level) * clean + level * noise
    said = pipe.transformer(mixed, timestep=torch.tensor([1000 * level]), encoder_hidden_states=context, pooled_projections=pooled).sample
    return (noise - clean - said).square().mean()


def original(tensors):
    """Query, key and value as one, other names, and shift before scale where there is nothing else."""
    import torch

    names = {
        "pos_embed.proj": "x_embedder.proj", "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
        "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2", "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
        "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2", "context_embedder": "context_embedder",
        "proj_out": "final_layer.linear",
    }  # fmt: skip
    block = {
        "norm1.linear": "x_block.adaLN_modulation.1", "norm1_context.linear": "context_block.adaLN_modulation.1",
        "attn.norm_q": "x_block.attn.ln_q", "attn.norm_k": "x_block.attn.ln_k", "attn.norm_added_q": "context_block.attn.ln_q",
        "attn.norm_added_k": "context_block.attn.ln_k", "attn2.norm_q": "x_block.attn2.ln_q", "attn2.norm_k": "x_block.attn2.ln_k",
        "attn.to_out.0": "x_block.attn.proj", "attn.to_add_out": "context_block.attn.proj", "attn2.to_out.0": "x_block.attn2.proj",
        "ff.net.0.proj": "x_block.mlp.fc1", "ff.net.2": "x_block.mlp.fc2", "ff_context.net.0.proj": "context_block.mlp.fc1",
        "ff_context.net.2": "context_block.mlp.fc2",
    }  # fmt: skip
    fused = {"attn.to_q": "x_block.attn", "attn.add_q_proj": "context_block.attn", "attn2.to_q": "x_block.attn2"}
    last = max(int(name.split(".")[1]) for name in tensors if name.startswith("transformer_blocks."))
    made = {"pos_embed": tensors["pos_embed.pos_embed"]}
    for name, value in tensors.items():
        layer, _, end = name.rpartition(".")
        kind, _, rest = layer.partition(".")
        number, _, inside = rest.partition(".")
        if kind == "transformer_blocks" and inside in block:
            turned = inside == "norm1_context.linear" and int(number) == last
            made[f"joint_blocks.{number}.{block[inside]}.{end}"] = torch.cat(value.chunk(2)[::-1]) if turned else value
        elif kind == "transformer_blocks" and inside in fused:
            parts = [tensors[name.replace("_q", f"_{one}")] for one in "qkv"]
            made[f"joint_blocks.{number}.{fused[inside]}.qkv.{end}"] = torch.cat(parts)
        elif layer == "norm_out.linear":
            made[f"final_layer.adaLN_modulation.1.{end}"] = torch.cat(value.chunk(2)[::-1])
        elif layer in names:
            made[f"{names[layer]}.{end}"] = value
    return made


def _family():
    from loraforge_image.families.dit.sd35 import SD35

    return SD35()


CASE = Case(
    family=_family,
    make=make_sd3,
    plain=plain,
    blocks=r"transformer_blocks\.\d+\.(attn2?\.(to_[qkv]|add_[qkv]_proj|to_out\.0|to_add_out)|ff(_context)?\.net\.(0\.proj|2))",
    layers=12 + 4 + 9,
    channels=4,
    original=original,
    published=(MEDIUM, 2.24, 337),
)
