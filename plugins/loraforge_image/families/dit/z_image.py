# SPDX-License-Identifier: Apache-2.0
"""Z-Image (6 B): one stream of picture and caption; base and Turbo, which differ in their weights and their scheduler alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...lora_files.tables import Z_IMAGE
from ..image_base import Conditioning, ImageBase
from ..objectives import FlowMatching
from .family import TransformerFamily
from .memory import Walk
from .single_file import Layout

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_MULTIPLE = 32  # to which the network fills up the tokens of the picture, and those of the caption
_TIME = 256  # numbers that describe the level of noise


def _sigmas(steps: int) -> list[float]:
    """The levels that ZImagePipeline draws through, before the scheduler shifts them."""
    import torch

    return [float(level) for level in torch.linspace(1.0, 1 / steps, steps)]


class ZImageBase(ImageBase):
    """Latents of 16 channels; the last layer but one of Qwen3, as long as the caption is."""

    layers = r"^layers\.\d+\.(attention|feed_forward)\."
    usual_steps, usual_cfg = 50, 4.0

    def __init__(self, pipe: Any, dtype: torch.dtype, settings: Mapping[str, Any]) -> None:
        super().__init__(pipe, dtype, settings)
        if settings.get("distilled"):  # that is Turbo
            self.usual_steps, self.usual_cfg = 8, 1.0

    def make_objective(self) -> FlowMatching:
        config = self.pipe.scheduler.config
        if config.get("use_dynamic_shifting"):
            return FlowMatching(self.pipe.scheduler, mu=self._mu, sigmas=_sigmas)
        # 2 is what trainers of the base use; Turbo's own schedule has 3.
        return FlowMatching(self.pipe.scheduler, shift=3.0 if self.settings.get("distilled") else 2.0, sigmas=_sigmas)

    def _mu(self, tokens: int) -> float:
        config = self.pipe.scheduler.config
        (few, many), (low, high) = ((config.get(f"{end}_{kind}") for end in ("base", "max")) for kind in ("image_seq_len", "shift"))
        return float(low + (high - low) * (tokens - few) / (many - few))

    def embed(self, caption: str) -> Conditioning:
        rows, _ = self.pipe.encode_prompt(caption, device=self.device, do_classifier_free_guidance=False)
        return {"context": rows[0].to(self.dtype)}

    def join(self, rows: Sequence[Conditioning]) -> Conditioning:
        """Lists: the network takes each caption as long as it is."""
        return {name: [row[name] for row in rows] for name in rows[0]}

    def predict(self, noisy: Tensor, levels: Tensor, conditioning: Conditioning, extras: Conditioning) -> Tensor:
        import torch

        network: Any = self.denoiser
        pictures = list(noisy.to(self.dtype).unsqueeze(2).unbind())
        # Its time runs from noise to picture, and what it says points there too.
        guesses = network(pictures, 1 - levels, conditioning["context"], return_dict=False)[0]
        return -torch.stack(guesses).squeeze(2)


class ZImage(TransformerFamily):
    """Z-Image and Z-Image-Turbo."""

    name = "z-image"
    title = "Z-Image"
    help = "Z-Image, base and Turbo: a diffusers folder, a hub id, or the transformer as a .safetensors file with base_config."
    pipeline = "ZImagePipeline"
    transformer = "ZImageTransformer2DModel"
    source = "Tongyi-MAI/Z-Image"
    distilled = "turbo"
    base = ZImageBase
    webui = Z_IMAGE
    # Lumina 2 is built alike and has no cap_pad_token; with SigLIP it is Z-Image Omni, which edits pictures.
    layouts = tuple(
        Layout(("cap_pad_token", "layers.0.adaLN_modulation.0.weight", name), ("siglip_embedder.0.weight",), original)
        for name, original in (("layers.0.attention.qkv.weight", True), ("layers.0.attention.to_q.weight", False))
    )
    text_tokens = (8, 512)

    def walk(self, config: Mapping[str, Any], walk: Walk) -> None:
        wide, captions = int(config["dim"]), int(config["cap_feat_dim"])
        image, text = (-(-tokens // _MULTIPLE) * _MULTIPLE for tokens in (walk.image, walk.text))
        time, both = min(wide, _TIME), image + text
        patch = int(config["in_channels"]) * 4
        walk.linear("t_embedder.mlp.0", _TIME, 1024, 1)
        walk.linear("t_embedder.mlp.2", 1024, time, 1)
        walk.own(captions + 2 * wide)
        walk.linear("cap_embedder.1", captions, wide, text)
        walk.linear("all_x_embedder.2-1", patch, wide, image)
        for part, tokens in (("noise_refiner", image), ("context_refiner", text), ("layers", both)):
            count = int(config["n_layers" if part == "layers" else "n_refiner_layers"])
            for number in range(count):
                walk.enter(f"{part}.{number}", wide * tokens if part == "layers" else 0)
                self._block(walk, config, tokens, modulated=part != "context_refiner", learns=part == "layers")
        walk.enter("", 0)
        walk.linear("all_final_layer.2-1.adaLN_modulation.1", time, wide, 1)
        walk.linear("all_final_layer.2-1.linear", wide, patch, both)
        walk.keep(2 * wide * both)

    def _block(self, walk: Walk, config: Mapping[str, Any], tokens: int, *, modulated: bool, learns: bool) -> None:
        wide, heads = int(config["dim"]), int(config["n_heads"])
        inner = int(wide / 3 * 8)
        for name in ("to_q", "to_k", "to_v", "to_out.0"):
            walk.linear(f"attention.{name}", wide, wide, tokens, bias=False)
        walk.attention(tokens, wide)
        for name, inputs, outputs in (("w1", wide, inner), ("w2", inner, wide), ("w3", wide, inner)):
            walk.linear(f"feed_forward.{name}", inputs, outputs, tokens, bias=False)
        walk.own(4 * wide + (2 * (wide // heads) if config.get("qk_norm", True) else 0))
        if modulated:
            walk.linear("adaLN_modulation.0", min(wide, _TIME), 4 * wide, 1)
        if learns:  # what the refiners make does not depend on the LoRA
            # Four norms and those of query and key; query, key, value and result of the attention; both sides of the gate and its product.
            walk.keep((4 + 2 + 4) * wide * tokens + 3 * inner * tokens)
