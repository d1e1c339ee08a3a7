"""Exporters for diffusers: its own LoRA file, and a whole model with the adapter merged in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loraforge import Adapter, Exporter, ExportError, KeySet, RunConfig, speaker

from ..families.parts import load_parts

say = speaker(__name__)


class DiffusersExporter(Exporter):
    """``pytorch_lora_weights.safetensors``, for ``pipe.load_lora_weights``."""

    name = "diffusers"
    task = "image"
    help = "A LoRA file for diffusers (load_lora_weights)."

    def refuses(self, config: RunConfig, keys: KeySet) -> str:
        if config.lora_variant == "dora":
            return say("export: diffusers ignores what DoRA adds, so the file would do something else. Use export: [merged].")
        return ""

    def export(self, adapter: Adapter, destination: Path) -> Path:
        import torch
        from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

        from loraforge.adapters import lora

        if adapter.dora:
            raise ExportError(say("export: diffusers ignores what DoRA adds, so the file would do something else. Use export: [merged]."))
        lora.verify(adapter)
        layers: dict[str, dict[str, Any]] = {}
        for name, tensor in adapter.tensors.items():
            part, _, inner = name.partition(".")
            # diffusers takes the scale for 1 where no alpha is given: it goes into B.
            value = tensor * (adapter.alpha / adapter.rank) if name.endswith("lora_B.weight") else tensor
            layers.setdefault(part, {})[inner] = value.to(torch.float32).contiguous()
        kind: Any = StableDiffusionXLPipeline if adapter.facts.get("family") == "sdxl" else StableDiffusionPipeline
        parts = {f"{part}_lora_layers": tensors for part, tensors in layers.items()}
        kind.save_lora_weights(destination, safe_serialization=True, **parts)
        return destination / "pytorch_lora_weights.safetensors"

    def usage(self, adapter: Adapter, path: Path) -> Sequence[str]:
        return (f'pipe.load_lora_weights("{path.parent}", weight_name="{path.name}")   # diffusers',)


class MergedExporter(Exporter):
    """A diffusers folder of the base with the adapter added to its weights."""

    name = "merged"
    task = "image"
    help = "A whole model in a diffusers folder, with the adapter merged into the weights."

    def export(self, adapter: Adapter, destination: Path) -> Path:
        from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

        from loraforge.adapters import lora

        from ..families.diffusion import make_network
        from ..families.drawing import scheduler_of

        settings = dict(adapter.facts.get("image", {}))
        parts = load_parts(
            adapter.base_model,
            adapter.facts.get("revision"),
            "fp32",
            str(adapter.facts.get("family")),
            prediction=settings.get("prediction_type", "auto"),
            allow_pickle=bool(settings.get("allow_pickle")),
            base_config=settings.get("base_config"),
        )
        lora.merge(make_network(parts, True), adapter)
        scheduler = scheduler_of(parts, "ddim")
        if parts.family == "sdxl":
            pipe: Any = StableDiffusionXLPipeline(parts.vae, *parts.text_encoders, *parts.tokenizers, unet=parts.unet, scheduler=scheduler)
        else:
            pipe = StableDiffusionPipeline(
                parts.vae, parts.text_encoders[0], parts.tokenizers[0], parts.unet, scheduler, None, None, requires_safety_checker=False
            )
        pipe.save_pretrained(destination, safe_serialization=True)
        return destination

    def usage(self, adapter: Adapter, path: Path) -> Sequence[str]:
        return (f'DiffusionPipeline.from_pretrained("{path}")   # diffusers',)
