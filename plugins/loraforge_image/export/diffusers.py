# SPDX-License-Identifier: Apache-2.0
"""Exporters for diffusers: its own LoRA file, and a whole model with the adapter merged in."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loraforge import Adapter, Exporter, ExportError, KeySet, ModelFamily, RunConfig, printable, read_text, speaker

from ..families import dit
from ..families.dit.family import TransformerFamily
from ..families.dit.single_file import transformer_file
from ..families.loading import load_pipeline
from ..families.objectives import with_terminal_snr
from ..families.stable_diffusion.loading import load_base
from ..families.stable_diffusion.published import PUBLISHED

say = speaker(__name__)


class DiffusersExporter(Exporter):
    """``pytorch_lora_weights.safetensors``, for ``pipe.load_lora_weights``."""

    name = "diffusers"
    task = "image"
    help = "A LoRA file for diffusers (load_lora_weights)."
    at_saves = True

    def refuses(self, config: RunConfig, keys: KeySet) -> str:
        if config.lora_variant == "dora":
            return say("export: diffusers ignores what DoRA adds, so the file would do something else. Use export: [merged].")
        return ""

    def refuses_family(self, family: ModelFamily, config: RunConfig, keys: KeySet) -> str:
        kind = str(getattr(family, "pipeline", ""))
        if family.name in PUBLISHED:
            return ""
        if not kind:
            return _no_pipeline(self.name, family)
        return say("export: diffusers reads no LoRA files for a {kind}. Use export: [merged].", kind=kind) if not _loads(kind) else ""

    def export(self, adapter: Adapter, destination: Path) -> Path:
        import diffusers
        import torch

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
        kind = getattr(diffusers, _pipeline_name(adapter))
        if not hasattr(kind, "save_lora_weights"):
            raise ExportError(say("export: diffusers reads no LoRA files for a {kind}. Use export: [merged].", kind=kind.__name__))
        parts = {f"{part}_lora_layers": tensors for part, tensors in layers.items()}
        kind.save_lora_weights(destination, safe_serialization=True, **parts)
        return destination / "pytorch_lora_weights.safetensors"

    def usage(self, adapter: Adapter, path: Path) -> Sequence[str]:
        return (f"pipe.load_lora_weights({_literal(path.parent)}, weight_name={_literal(path.name)})   # diffusers",)


class MergedExporter(Exporter):
    """A diffusers folder of the base with the adapter added to its weights."""

    name = "merged"
    task = "image"
    kinds = ("lora", "lokr", "loha")
    help = "A whole model in a diffusers folder, with the adapter merged into the weights."

    def refuses_family(self, family: ModelFamily, config: RunConfig, keys: KeySet) -> str:
        if family.name not in PUBLISHED and not getattr(family, "pipeline", None):
            return _no_pipeline(self.name, family)
        strange = isinstance(family, TransformerFamily) and all(one.name != family.name for one in dit.families())
        if strange and transformer_file(config.base_model, config.revision) is not None:
            return say(
                "export: {exporter} merges into single files of the built-in families only, and '{family}' is none. Take a diffusers "
                "folder as base_model.",
                exporter=self.name,
                family=family.name,
            )
        return ""

    def export(self, adapter: Adapter, destination: Path) -> Path:
        import torch

        from loraforge.adapters import lora

        from ..families.objectives import Diffusion

        pipe = _load(adapter, torch.float32)
        parts = {module.partition(".")[0] for module in adapter.modules}
        lora.merge(torch.nn.ModuleDict({part: getattr(pipe, part) for part in sorted(parts)}), adapter)
        if str(adapter.facts.get("family")) in PUBLISHED:  # these were loaded with the scheduler of the training
            pipe.scheduler = Diffusion(pipe.scheduler).scheduler("ddim", 20, 0, "cpu")
        pipe.save_pretrained(destination, safe_serialization=True)
        return destination

    def usage(self, adapter: Adapter, path: Path) -> Sequence[str]:
        return (f"DiffusionPipeline.from_pretrained({_literal(path)})   # diffusers",)


def _no_pipeline(exporter: str, family: ModelFamily) -> str:
    return say(
        "export: {exporter} needs a pipeline of diffusers, and the family '{family}' names none. Use an exporter of its plugin, or "
        "export: [].",
        exporter=exporter,
        family=family.name,
    )


@functools.cache
def _loads(kind: str) -> bool:
    """Whether diffusers' pipeline of this name reads LoRA files, by its source: importing it would import torch. What is not found there is
    for whoever loads it to say."""
    spec = importlib.util.find_spec("diffusers")
    places = [Path(place) / "pipelines" for place in (spec.submodule_search_locations or ())] if spec else []
    for file in (file for place in places for file in sorted(place.rglob("pipeline_*.py"))):
        text = read_text(file)
        found = re.search(rf"^class {re.escape(kind)}\(([^)]*)\)", text, re.MULTILINE)
        if found:
            bases = [base.strip() for base in found[1].split(",") if base.strip()]
            known = ("DiffusionPipeline", "FromSingleFileMixin", "TextualInversionLoaderMixin", "IPAdapterMixin", "StableDiffusionMixin")
            return any("LoraLoaderMixin" in base or (base not in known and base.endswith("Pipeline") and _loads(base)) for base in bases)
    return True


def _literal(value: Path | str) -> str:
    """A text in Python code."""
    return printable(json.dumps(str(value), ensure_ascii=False))


def _pipeline_name(adapter: Adapter) -> str:
    """The class in diffusers that draws with such an adapter; what was trained before it was kept has a U-Net."""
    return str(adapter.facts.get("image", {}).get("pipeline") or PUBLISHED[str(adapter.facts.get("family"))].pipeline)


def _load(adapter: Adapter, dtype: Any) -> Any:
    """The base of an adapter, as diffusers' pipeline."""
    family, revision = str(adapter.facts.get("family")), adapter.facts.get("revision")
    settings = dict(adapter.facts.get("image", {}))
    if family not in PUBLISHED:
        known = next((one for one in dit.families() if isinstance(one, TransformerFamily) and one.name == family), None)
        if known is not None:
            return known.load_pipe(str(adapter.base_model), revision, dtype, settings)
        pipe = load_pipeline(adapter.base_model, revision, _pipeline_name(adapter), dtype)
        if settings.get("prediction_type", "auto") != "auto":
            pipe.scheduler.register_to_config(prediction_type=settings["prediction_type"])
        if isinstance(settings.get("zero_terminal_snr"), bool):
            pipe.scheduler = with_terminal_snr(pipe.scheduler, settings["zero_terminal_snr"])
        return pipe
    return load_base(
        adapter.base_model,
        revision,
        dtype,
        family,
        prediction=settings.get("prediction_type", "auto"),
        allow_pickle=bool(settings.get("allow_pickle")),
        base_config=settings.get("base_config"),
        zero_snr=settings.get("zero_terminal_snr", "auto"),
    )
