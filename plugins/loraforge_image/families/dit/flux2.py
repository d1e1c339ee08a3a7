# SPDX-License-Identifier: Apache-2.0
"""FLUX.2 klein: three layers of Qwen3 for captions, latents of 128 channels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import RunConfig, speaker

from ...lora_files.tables import FLUX2
from ...records import ImageKeys
from ..base_files import read_config, title
from ..image_base import Conditioning, ImageBase
from ..objectives import FlowMatching
from .family import TransformerFamily
from .flux import even, folded, line, packed, places, unfolded, unguided, unpacked, walk_embedding, walk_joint_attention
from .memory import Walk
from .single_file import Layout

if TYPE_CHECKING:
    import torch
    from torch import Tensor

say = speaker(__name__)

_WORDS = 512
_TEMPLATE = 12  # of these, what Qwen3's template writes around a caption


class KleinBase(ImageBase):
    """FLUX.2 klein, loaded."""

    vae_scale = 16
    usual_steps, usual_cfg = 50, 4.0
    layers = r"^(transformer_blocks\.\d+\.(attn|ff|ff_context)|single_transformer_blocks\.\d+\.attn)\."

    def __init__(self, pipe: Any, dtype: torch.dtype, settings: Mapping[str, Any]) -> None:
        super().__init__(pipe, dtype, settings)
        if pipe.config.is_distilled or settings.get("distilled"):
            self.guided, self.usual_steps, self.usual_cfg = False, 4, 1.0

    def make_objective(self) -> FlowMatching:
        """Trained with the shift of FLUX.1, as the published trainers do it; drawn with one that depends on the number of steps too."""
        from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

        return FlowMatching(self.pipe.scheduler, mu=line(256, 0.5, 4096, 1.15), drawn_mu=compute_empirical_mu, sigmas=even)

    # --- latents -----------------------------------------------------------------------------------------------------------------

    def _norm(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the 128 channels, (1, 128, 1, 1), as the autoencoder keeps them."""
        vae = self.pipe.vae
        mean, variance = vae.bn.running_mean.view(1, -1, 1, 1), vae.bn.running_var.view(1, -1, 1, 1)
        return mean, (variance + vae.config.batch_norm_eps).sqrt()

    def encode(self, pixels: Tensor) -> Tensor:
        """The mean alone: its deviation is left out, as the pipeline does it for pictures that it is given."""
        import torch

        mean, deviation = self._norm()
        latents = folded(self.pipe.vae.encode(pixels.to(self.pipe.vae.device)).latent_dist.mode())
        normed = ((latents - mean) / deviation).float().cpu()
        return torch.cat([normed, torch.zeros_like(normed)])

    def decode(self, latents: Tensor) -> Tensor:
        mean, deviation = self._norm()
        pixels: Tensor = self.pipe.vae.decode(unfolded(latents.to(mean.device) * deviation + mean)).sample
        return pixels

    def latent_shape(self, width: int, height: int) -> tuple[int, ...]:
        return (4 * int(self.pipe.vae.config.latent_channels), height // self.vae_scale, width // self.vae_scale)

    def tokens(self, shape: Sequence[int]) -> int:
        """One of each place: they are squares of 2 x 2 already."""
        return int(shape[-1] * shape[-2])

    # --- captions and the network ------------------------------------------------------------------------------------------------

    def embed(self, caption: str) -> Conditioning:
        context, _ = self.pipe.encode_prompt(caption, device=self.device, max_sequence_length=_WORDS)
        return {"context": context[0].to(self.dtype)}

    def predict(self, noisy: Tensor, levels: Tensor, conditioning: Conditioning, extras: Conditioning) -> Tensor:
        import torch

        context = conditioning["context"].to(self.dtype)
        height, width = noisy.shape[-2:]
        words = torch.zeros(context.shape[1], 4, device=noisy.device)
        words[:, 3] = torch.arange(context.shape[1], device=noisy.device)
        guess = self.denoiser(
            hidden_states=packed(noisy.to(self.dtype)),
            timestep=levels,
            encoder_hidden_states=context,
            txt_ids=words,
            img_ids=places(height, width, 4, noisy.device),
            return_dict=False,
        )[0]
        return unpacked(guess, height, width)


class Flux2Klein(TransformerFamily):
    """FLUX.2 klein."""

    name = "flux2"
    title = "FLUX.2 klein"
    help = "FLUX.2 klein base, 4B and 9B: a diffusers folder, a hub id, or the transformer as a .safetensors file with base_config."
    pipeline = "Flux2KleinPipeline"
    transformer = "Flux2Transformer2DModel"
    source = "black-forest-labs/FLUX.2-klein-base-4B"
    base = KleinBase
    webui = FLUX2
    relatives = ("Flux2Pipeline",)
    # FLUX.2 dev is told the strength of the guidance, and reads another text encoder.
    layouts = (
        Layout(
            ("double_blocks.0.img_attn.qkv.weight", "double_stream_modulation_img.lin.weight"),
            ("guidance_in.in_layer.weight",),
            original=True,
        ),
        Layout(
            ("single_transformer_blocks.0.attn.to_qkv_mlp_proj.weight", "double_stream_modulation_img.linear.weight"),
            ("time_guidance_embed.guidance_embedder.linear_1.weight",),
        ),
    )
    text_tokens = (_WORDS, _WORDS)

    def counted(self, folder: Path) -> tuple[str, int]:
        return self.tokenizer, _WORDS - _TEMPLATE

    def _is_distilled(self, config: RunConfig, keys: ImageKeys) -> bool:
        told = read_config(self.parts_folder(config, keys.base_config) / "model_index.json").get("is_distilled")
        return bool(told) or self.called_distilled(config.base_model)

    def called_distilled(self, base_model: str) -> bool:
        """Of a single file nothing else says so: the folder beside it may be that of the base."""
        name = title(base_model).lower()
        return re.search(r"klein[-_ ]?\d+b", name) is not None and "base" not in name

    def remarks(self, config: RunConfig, keys: ImageKeys) -> Sequence[str]:
        said = [*super().remarks(config, keys)]
        if not self._is_distilled(config, keys):
            return said
        said.append(
            say(
                "base_model {base} is the FLUX.2 klein that was distilled to draw in four steps, which is not trained well. Train on "
                "FLUX.2-klein-base of the same size: its LoRAs are for the distilled one too",
                base=config.base_model,
            )
        )
        return [*said, *unguided(keys)]

    def text_width(self, configs: Mapping[str, Mapping[str, Any]]) -> int:
        return int(configs["transformer"]["joint_attention_dim"])

    def walk(self, config: Mapping[str, Any], walk: Walk) -> None:
        head, heads = int(config["attention_head_dim"]), int(config["num_attention_heads"])
        wide, both = head * heads, walk.image + walk.text
        inner, channels = int(wide * float(config.get("mlp_ratio", 3.0))), int(config["in_channels"])
        walk_embedding(walk, "time_guidance_embed.timestep_embedder", int(config.get("timestep_guidance_channels", 256)), wide, bias=False)
        for name, sets in (("double_stream_modulation_img", 6), ("double_stream_modulation_txt", 6), ("single_stream_modulation", 3)):
            walk.linear(f"{name}.linear", wide, sets * wide, 1, bias=False)
        walk.linear("norm_out.linear", wide, 2 * wide, 1, bias=False)
        walk.linear("x_embedder", channels, wide, walk.image, bias=False)
        walk.linear("context_embedder", int(config["joint_attention_dim"]), wide, walk.text, bias=False)
        for number in range(int(config["num_layers"])):
            walk.enter(f"transformer_blocks.{number}", wide * both)
            walk_joint_attention(walk, wide, heads, bias=False)
            for part, tokens in (("ff", walk.image), ("ff_context", walk.text)):
                walk.linear(f"{part}.linear_in", wide, 2 * inner, tokens, bias=False)
                walk.linear(f"{part}.linear_out", inner, wide, tokens, bias=False)
                walk.keep(3 * inner * tokens)  # both sides of the gate, and what becomes of one
        for number in range(int(config["num_single_layers"])):
            walk.enter(f"single_transformer_blocks.{number}", wide * both)
            walk.linear("attn.to_qkv_mlp_proj", wide, 3 * wide + 2 * inner, both, bias=False)
            walk.linear("attn.to_out", wide + inner, wide, both, bias=False)
            walk.own(2 * head)
            walk.attention(both, wide)
            walk.keep(((1 + 2 + 3 + 1) * wide + 3 * inner) * both)
        walk.enter("", 0)
        walk.linear("proj_out", wide, int(config.get("out_channels") or channels), walk.image, bias=False)
        walk.keep(wide * both)
