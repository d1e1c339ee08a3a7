# SPDX-License-Identifier: Apache-2.0
"""FLUX.1 dev and schnell: CLIP for the whole caption and T5 for its words, latents of 16 channels packed two by two."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import RunConfig, speaker

from ...lora_files.tables import FLUX1
from ...records import ImageKeys
from ..base_files import read_config
from ..image_base import Conditioning
from .family import TransformerFamily
from .flux import TIME, PackedBase, unguided, walk_embedding, walk_packed
from .memory import Walk
from .single_file import Layout

if TYPE_CHECKING:
    import torch
    from torch import Tensor

say = speaker(__name__)


class Flux1Base(PackedBase):
    """FLUX.1, loaded. It is told how strongly to follow the caption, so nothing is drawn without one beside it; a network without that
    entrance is schnell, which has learned to draw in four steps.

    Attributes:
        words: how many of T5's tokens a caption has, padding included, which the network reads like words.
    """

    guided = False
    usual_steps, usual_cfg = 28, 3.5

    def __init__(self, pipe: Any, dtype: torch.dtype, settings: Mapping[str, Any]) -> None:
        super().__init__(pipe, dtype, settings)
        if not self.told:
            self.usual_steps, self.usual_cfg = 4, 1.0

    @property
    def told(self) -> bool:
        """Whether the network is told the strength of the guidance."""
        network: Any = self.denoiser
        return bool(network.config.guidance_embeds)

    @property
    def words(self) -> int:
        return 512 if self.told else 256

    def embed_key(self, caption: str) -> Mapping[str, Any]:
        return {**super().embed_key(caption), "words": self.words}

    def embed(self, caption: str) -> Conditioning:
        context, pooled, _ = self.pipe.encode_prompt(caption, caption, device=self.device, max_sequence_length=self.words)
        return {"context": context[0].to(self.dtype), "pooled": pooled[0].to(self.dtype)}

    def predict(self, noisy: Tensor, levels: Tensor, conditioning: Conditioning, extras: Conditioning) -> Tensor:
        """Trained at a strength of 1, which stands for no guidance; drawn at ``cfg``."""
        strength = levels.new_full(levels.shape, 1.0 if self.cfg is None else self.cfg) if self.told else None
        pooled = conditioning["pooled"].to(self.dtype)
        return self.denoised(noisy, levels, conditioning["context"], pooled_projections=pooled, guidance=strength)


class Flux1(TransformerFamily):
    """FLUX.1."""

    name = "flux1"
    title = "FLUX.1"
    help = "FLUX.1 dev and schnell: a diffusers folder, a hub id, or the transformer as a .safetensors file with base_config."
    pipeline = "FluxPipeline"
    transformer = "FluxTransformer2DModel"
    distilled = "schnell"
    relatives = ("FluxKontextPipeline", "FluxFillPipeline", "FluxControlPipeline", "FluxPriorReduxPipeline")
    source = "black-forest-labs/FLUX.1-dev"
    base = Flux1Base
    webui = FLUX1
    layouts = (
        Layout(("double_blocks.0.img_attn.qkv.weight", "vector_in.in_layer.weight"), original=True),
        Layout(("single_transformer_blocks.0.proj_mlp.weight", "time_text_embed.text_embedder.linear_1.weight")),
    )
    tokenizer = "tokenizer_2"
    text_tokens = (512, 512)

    def counted(self, folder: Path) -> tuple[str, int]:
        told = read_config(folder / "transformer" / "config.json").get("guidance_embeds")
        return self.tokenizer, (512 if told else 256) - 1  # T5 ends every text with a sign

    def _is_distilled(self, config: RunConfig, keys: ImageKeys) -> bool:
        """schnell has no entrance for the strength of the guidance; that tells better than a name."""
        return not read_config(self.parts_folder(config, keys.base_config) / "transformer" / "config.json").get("guidance_embeds")

    def _distilled_remarks(self, config: RunConfig, keys: ImageKeys) -> list[str]:
        told = not self._is_distilled(config, keys)
        if told and keys.assistant_adapter:
            return [
                say(
                    "assistant_adapter: base_model {base} is FLUX.1 dev; a training adapter belongs to the distilled base that it was made "
                    "for, and spoils the training of any other",
                    base=config.base_model,
                )
            ]
        if told:
            return []
        if keys.assistant_adapter:
            return [*unguided(keys)]
        return [
            say(
                "base_model {base} is FLUX.1 schnell, which was distilled to draw in four steps, and plain training wears that off: "
                "drawings become blurred. Name its training adapter (assistant_adapter), or train on FLUX.1 dev",
                base=config.base_model,
            ),
            *unguided(keys),
        ]

    def text_width(self, configs: Mapping[str, Mapping[str, Any]]) -> int:
        return int(configs["transformer"]["joint_attention_dim"])

    def walk(self, config: Mapping[str, Any], walk: Walk) -> None:
        wide = int(config["attention_head_dim"]) * int(config["num_attention_heads"])
        told = ("timestep_embedder", "guidance_embedder") if config.get("guidance_embeds") else ("timestep_embedder",)
        for name in told:
            walk_embedding(walk, f"time_text_embed.{name}", TIME, wide)
        walk_embedding(walk, "time_text_embed.text_embedder", int(config["pooled_projection_dim"]), wide)
        walk.linear("norm_out.linear", wide, 2 * wide, 1)
        walk_packed(walk, config, modulated=True)
