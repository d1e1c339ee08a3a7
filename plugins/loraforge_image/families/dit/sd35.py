# SPDX-License-Identifier: Apache-2.0
"""Stable Diffusion 3.5, and 3: two CLIPs and T5 for captions, latents of 16 channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import RunConfig, speaker

from ...lora_files.tables import SD3
from ...records import ImageKeys
from ..base_files import title
from ..image_base import Conditioning, ImageBase
from ..objectives import FlowMatching
from .family import TransformerFamily
from .flux import TIME, walk_embedding, walk_joint_attention
from .memory import Walk
from .single_file import Layout

if TYPE_CHECKING:
    import torch
    from torch import Tensor

say = speaker(__name__)

_CLIP = 77
_WORDS = 256  # of T5, padding included, which the network reads like words


class SD35Base(ImageBase):
    """Stable Diffusion 3.5, loaded. A base without T5 reads zeros in its place, as its pipeline does."""

    layers = r"^transformer_blocks\.\d+\.(attn2?|ff|ff_context)\."

    usual_steps, usual_cfg = 28, 7.0

    def __init__(self, pipe: Any, dtype: torch.dtype, settings: Mapping[str, Any]) -> None:
        super().__init__(pipe, dtype, settings)
        if settings.get("distilled"):
            self.usual_steps, self.usual_cfg = 4, 1.0

    def make_objective(self) -> FlowMatching:
        """Trained without a shift, as the paper has it; drawn with the scheduler's."""
        config = self.pipe.scheduler.config
        if not config.get("use_dynamic_shifting"):
            return FlowMatching(self.pipe.scheduler, shift=1.0)
        few, many = config.get("base_image_seq_len") or 256, config.get("max_image_seq_len") or 4096
        low, high = config.get("base_shift") or 0.5, config.get("max_shift") or 1.16
        return FlowMatching(
            self.pipe.scheduler, shift=1.0, drawn_mu=lambda tokens, steps: low + (high - low) * (tokens - few) / (many - few)
        )

    def embed(self, caption: str) -> Conditioning:
        context, _, pooled, _ = self.pipe.encode_prompt(
            caption, caption, caption, device=self.device, do_classifier_free_guidance=False, max_sequence_length=_WORDS
        )
        return {"context": context[0].to(self.dtype), "pooled": pooled[0].to(self.dtype)}

    def predict(self, noisy: Tensor, levels: Tensor, conditioning: Conditioning, extras: Conditioning) -> Tensor:
        guess: Tensor = self.denoiser(
            hidden_states=noisy.to(self.dtype),
            timestep=levels * 1000,
            encoder_hidden_states=conditioning["context"].to(self.dtype),
            pooled_projections=conditioning["pooled"].to(self.dtype),
            return_dict=False,
        )[0]
        return guess


class SD35(TransformerFamily):
    """Stable Diffusion 3.5 and 3."""

    name = "sd35"
    title = "Stable Diffusion 3.5"
    help = "Stable Diffusion 3.5 and 3: a diffusers folder, a hub id, or the transformer as a .safetensors file with base_config."
    pipeline = "StableDiffusion3Pipeline"
    transformer = "SD3Transformer2DModel"
    source = "stabilityai/stable-diffusion-3.5-medium"
    base = SD35Base
    webui = SD3
    layouts = (
        Layout(("joint_blocks.0.x_block.attn.qkv.weight", "y_embedder.mlp.0.weight"), original=True),
        Layout(("pos_embed.pos_embed", "transformer_blocks.0.attn.add_q_proj.weight", "time_text_embed.text_embedder.linear_1.weight")),
    )
    tokenizer = "tokenizer_3"
    text_tokens = (_CLIP + _WORDS, _CLIP + _WORDS)

    def remarks(self, config: RunConfig, keys: ImageKeys) -> Sequence[str]:
        said = [*super().remarks(config, keys)]
        if self.called_distilled(config.base_model):
            said.append(
                say(
                    "base_model {base} is called turbo: it was distilled to draw in four steps without guidance, and is not meant to be "
                    "trained. Train on Stable Diffusion 3.5 large; pictures of this one are drawn in 4 steps with a cfg of 1",
                    base=config.base_model,
                )
            )
        return said

    def called_distilled(self, base_model: str) -> bool:
        return "turbo" in title(base_model).lower()

    def text_width(self, configs: Mapping[str, Mapping[str, Any]]) -> int:
        return int(configs["transformer"]["joint_attention_dim"])

    def counted(self, folder: Path) -> tuple[str, int]:
        """Of T5, whose texts end with a sign; where there is none, of CLIP, whose begin with one too."""
        return (self.tokenizer, _WORDS - 1) if (folder / "text_encoder_3").is_dir() else ("tokenizer", _CLIP - 2)

    def walk(self, config: Mapping[str, Any], walk: Walk) -> None:
        head, heads, count = int(config["attention_head_dim"]), int(config["num_attention_heads"]), int(config["num_layers"])
        wide, patch, dual = head * heads, int(config["patch_size"]) ** 2, config.get("dual_attention_layers") or ()
        norms = bool(config.get("qk_norm"))
        walk.linear("pos_embed.proj", patch * int(config["in_channels"]), wide, walk.image)
        walk.linear("context_embedder", int(config["joint_attention_dim"]), int(config["caption_projection_dim"]), walk.text)
        walk_embedding(walk, "time_text_embed.timestep_embedder", TIME, wide)
        walk_embedding(walk, "time_text_embed.text_embedder", int(config["pooled_projection_dim"]), wide)
        walk.linear("norm_out.linear", wide, 2 * wide, 1)
        for number in range(count):
            last = number == count - 1
            walk.enter(f"transformer_blocks.{number}", wide * (walk.image + walk.text))
            walk_joint_attention(walk, wide, heads, last=last)
            walk.own(0 if norms else -4 * head)
            walk.linear("norm1.linear", wide, (9 if number in dual else 6) * wide, 1)
            walk.linear("norm1_context.linear", wide, (2 if last else 6) * wide, 1)
            for part, tokens in (("ff", walk.image), ("ff_context", walk.text))[: 1 if last else 2]:
                walk.linear(f"{part}.net.0.proj", wide, 4 * wide, tokens)
                walk.linear(f"{part}.net.2", 4 * wide, wide, tokens)
                walk.keep(4 * wide * tokens)
            if number in dual:
                for name in ("to_q", "to_k", "to_v", "to_out.0"):
                    walk.linear(f"attn2.{name}", wide, wide, walk.image)
                walk.own(2 * head if norms else 0)
                walk.attention(walk.image, wide)
                walk.keep((1 + 2 + 3) * wide * walk.image)
        walk.enter("", 0)
        walk.linear("proj_out", wide, patch * int(config.get("out_channels") or config["in_channels"]), walk.image)
        walk.keep(wide * walk.image)
