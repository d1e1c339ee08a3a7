# SPDX-License-Identifier: Apache-2.0
"""Chroma: FLUX.1 without CLIP and without a strength of guidance. Of T5's padding it reads one token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...lora_files.tables import CHROMA
from ..image_base import Conditioning
from .family import TransformerFamily
from .flux import PackedBase, walk_packed
from .memory import Walk
from .single_file import Layout

if TYPE_CHECKING:
    from torch import Tensor


class ChromaBase(PackedBase):
    """Chroma, loaded.

    Captions are kept as long as they are, with the one token of padding that the network reads. Those of one length go through it
    together, so nothing has to be masked: what is masked out of attention changes no picture. diffusers 0.42 would add a mask of ones and
    zeros to the attention's scores instead, and leave it out of the single blocks under gradient checkpointing.
    """

    usual_steps, usual_cfg = 35, 5.0

    def embed(self, caption: str) -> Conditioning:
        asked = {"padding": "max_length", "max_length": 512, "truncation": True, "return_tensors": "pt"}
        read = self.pipe.tokenizer([caption], **asked).to(self.device)
        states = self.pipe.text_encoder(read.input_ids, attention_mask=read.attention_mask)[0]
        length = min(int(read.attention_mask.sum()) + 1, states.shape[1])
        return {"context": states[0, :length].to(self.dtype)}

    def join(self, rows: Sequence[Conditioning]) -> Conditioning:
        """A list: captions differ in length."""
        return {"context": [row["context"] for row in rows]}

    def predict(self, noisy: Tensor, levels: Tensor, conditioning: Conditioning, extras: Conditioning) -> Tensor:
        import torch

        contexts: Sequence[Any] = conditioning["context"]
        found: dict[int, Tensor] = {}
        for length in sorted({len(context) for context in contexts}):
            rows = [number for number, context in enumerate(contexts) if len(context) == length]
            guess = self.denoised(noisy[rows], levels[rows], torch.stack([contexts[number] for number in rows]))
            found |= dict(zip(rows, guess, strict=True))
        return torch.stack([found[number] for number in range(len(contexts))])


class Chroma(TransformerFamily):
    """Chroma1."""

    name = "chroma"
    title = "Chroma1"
    help = "Chroma1 (HD, Base): a diffusers folder, a hub id, or the transformer as a .safetensors file with base_config."
    pipeline = "ChromaPipeline"
    transformer = "ChromaTransformer2DModel"
    source = "lodestones/Chroma1-HD"
    base = ChromaBase
    webui = CHROMA
    # Radiance is built alike, has no autoencoder, and takes in pixels elsewhere.
    layouts = (
        Layout(("double_blocks.0.img_attn.qkv.weight", "distilled_guidance_layer.in_proj.weight", "img_in.weight"), original=True),
        Layout(("single_transformer_blocks.0.proj_mlp.weight", "distilled_guidance_layer.in_proj.weight", "x_embedder.weight")),
    )
    text_tokens = (2, 512)

    def text_width(self, configs: Mapping[str, Mapping[str, Any]]) -> int:
        return int(configs["transformer"]["joint_attention_dim"])

    def counted(self, folder: Path) -> tuple[str, int]:
        return self.tokenizer, 512 - 1  # T5 ends every text with a sign; the token of padding is read where there is room

    def walk(self, config: Mapping[str, Any], walk: Walk) -> None:
        wide = int(config["attention_head_dim"]) * int(config["num_attention_heads"])
        given, hidden = int(config.get("approximator_num_channels", 64)), int(config.get("approximator_hidden_dim", 5120))
        scales = 3 * int(config["num_single_layers"]) + 12 * int(config["num_layers"]) + 2
        walk.linear("distilled_guidance_layer.in_proj", given, hidden, scales)
        for number in range(int(config.get("approximator_layers", 5))):
            walk.linear(f"distilled_guidance_layer.layers.{number}.linear_1", hidden, hidden, scales)
            walk.linear(f"distilled_guidance_layer.layers.{number}.linear_2", hidden, hidden, scales)
            walk.own(hidden)
        walk.linear("distilled_guidance_layer.out_proj", hidden, wide, scales)
        walk_packed(walk, config, modulated=False)
