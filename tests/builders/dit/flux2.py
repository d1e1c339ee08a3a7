# SPDX-License-Identifier: Apache-2.0
"""A tiny FLUX.2 klein."""

from __future__ import annotations

from pathlib import Path

from . import Case
from .parts import byte_tokenizer, filled

PUBLISHED = {"num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680, "guidance_embeds": False}


def make(folder: Path, *, distilled: bool = False, seed: int = 0) -> Path:
    """The base, or the one that draws in four steps, in a diffusers folder."""
    import torch
    from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Transformer2DModel
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    tokenizer = byte_tokenizer()
    encoder = Qwen3ForCausalLM(Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=16, num_hidden_layers=28, num_attention_heads=1, num_key_value_heads=1,
        head_dim=8, tie_word_embeddings=True,
    ))  # fmt: skip
    network = Flux2Transformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=24,
        axes_dims_rope=(4, 4, 4, 4), timestep_guidance_channels=16, guidance_embeds=False,
    )  # fmt: skip
    with torch.no_grad():  # so that blocks, whose scales and gates all come from these, count
        for name, value in network.named_parameters():
            value.mul_(3 if "modulation" in name or name == "proj_out.weight" else 1)
    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, block_out_channels=(4, 4, 8, 8),
        layers_per_block=1, latent_channels=4, norm_num_groups=2, sample_size=64,
    )  # fmt: skip
    vae.bn.running_mean.copy_(torch.linspace(-0.5, 0.5, 16))
    vae.bn.running_var.copy_(torch.linspace(0.5, 2, 16))
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    Flux2KleinPipeline(scheduler, vae, encoder, tokenizer, filled(network, seed), is_distilled=distilled).save_pretrained(folder)
    return folder


def plain(pipe, clean, noise, level, caption):
    """Tokens are places; those of the caption are numbered in the fourth column."""
    import torch

    with torch.no_grad():
        context, _ = pipe.encode_prompt(caption)
    height, width = clean.shape[-2:]
    rows = [(row, column) for row in range(height) for column in range(width)]
    mixed, wanted = (1 - level) * clean + level * noise, noise - clean
    said = pipe.transformer(
        torch.stack([mixed[0, :, row, column] for row, column in rows])[None], timestep=torch.tensor([level]), encoder_hidden_states=context,
        txt_ids=torch.tensor([[0.0, 0.0, 0.0, number] for number in range(512)]),
        img_ids=torch.tensor([[0.0, row, column, 0.0] for row, column in rows]),
    ).sample  # fmt: skip
    return (torch.stack([wanted[0, :, row, column] for row, column in rows])[None] - said).square().mean()


def original(tensors):
    """Query, key and value as one, other names, and shift before scale in the last layer."""
    import torch

    names = {
        "x_embedder": "img_in", "context_embedder": "txt_in", "time_guidance_embed.timestep_embedder.linear_1": "time_in.in_layer",
        "time_guidance_embed.timestep_embedder.linear_2": "time_in.out_layer", "proj_out": "final_layer.linear",
        "double_stream_modulation_img.linear": "double_stream_modulation_img.lin",
        "double_stream_modulation_txt.linear": "double_stream_modulation_txt.lin", "single_stream_modulation.linear": "single_stream_modulation.lin",
    }  # fmt: skip
    double = {
        "attn.norm_q": "img_attn.norm.query_norm", "attn.norm_k": "img_attn.norm.key_norm", "attn.to_out.0": "img_attn.proj",
        "ff.linear_in": "img_mlp.0", "ff.linear_out": "img_mlp.2", "attn.norm_added_q": "txt_attn.norm.query_norm",
        "attn.norm_added_k": "txt_attn.norm.key_norm", "attn.to_add_out": "txt_attn.proj", "ff_context.linear_in": "txt_mlp.0",
        "ff_context.linear_out": "txt_mlp.2",
    }  # fmt: skip
    single = {
        "attn.to_qkv_mlp_proj": "linear1", "attn.to_out": "linear2", "attn.norm_q": "norm.query_norm", "attn.norm_k": "norm.key_norm",
    }  # fmt: skip
    made = {}
    for name, value in tensors.items():
        layer = name.removesuffix(".weight")
        kind, _, rest = layer.partition(".")
        number, _, inside = rest.partition(".")
        if kind == "transformer_blocks" and inside in double:
            called = f"double_blocks.{number}.{double[inside]}"
            made[f"{called}.scale" if "norm" in called else f"{called}.weight"] = value
        elif kind == "single_transformer_blocks":
            called = f"single_blocks.{number}.{single[inside]}"
            made[f"{called}.scale" if "norm" in called else f"{called}.weight"] = value
        elif layer == "norm_out.linear":
            made["final_layer.adaLN_modulation.1.weight"] = torch.cat(value.chunk(2)[::-1])
        elif layer in names:
            made[f"{names[layer]}.weight"] = value
        elif inside in ("attn.to_q", "attn.add_q_proj"):
            parts = [tensors[name.replace("_q", f"_{one}")] for one in "qkv"]
            made[f"double_blocks.{number}.{'img' if 'to' in inside else 'txt'}_attn.qkv.weight"] = torch.cat(parts)
    return made


def _latents(found):
    """Flux2KleinPipeline returns them unfolded, at the autoencoder's own scale."""
    import torch

    rows, channels, height, width = found.shape
    folded = torch.zeros(rows, 4 * channels, height // 2, width // 2)
    for channel in range(channels):
        for y in (0, 1):
            for x in (0, 1):
                folded[:, 4 * channel + 2 * y + x] = found[:, channel, y::2, x::2]
    return (folded - torch.linspace(-0.5, 0.5, 16).view(1, -1, 1, 1)) / (torch.linspace(0.5, 2, 16) + 1e-4).sqrt().view(1, -1, 1, 1)


def _family():
    from loraforge_image.families.dit.flux2 import Flux2Klein

    return Flux2Klein()


CASE = Case(
    family=_family,
    make=make,
    plain=plain,
    blocks=r"transformer_blocks\.\d+\.(attn\.(to_[qkv]|add_[qkv]_proj|to_out\.0|to_add_out)|ff(_context)?\.linear_(in|out))"
    r"|single_transformer_blocks\.\d+\.attn\.(to_qkv_mlp_proj|to_out)",
    layers=12 + 2,
    channels=4,
    drawing={"negative": "", "unpack": _latents},
    original=original,
    published=(PUBLISHED, 3.88, 100),
)
