# SPDX-License-Identifier: Apache-2.0
"""The exporter ``webui``: the LoRA file that A1111, Forge, SD.Next, ComfyUI, kohya's scripts and diffusers read alike."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from pydantic import Field, field_validator

from loraforge import (
    Adapter,
    Exporter,
    ExportError,
    Keys,
    KeySet,
    ModelFamily,
    RunConfig,
    first_few,
    printable,
    quoted,
    speaker,
)

from ..data.grids import png
from ..families.infotext import called_by, exported_stem, renamed
from ..families.stable_diffusion.kohya_names import KohyaFormat
from ..families.stable_diffusion.published import PUBLISHED
from ..families.stable_diffusion.targets import splits_text_attention
from ..families.webui_format import WebuiFormat, WebuiTable
from ..lora_files.factors import balanced as balanced_factors
from ..records import ImageKeys
from . import lycoris
from .installing import install, name_problem, place_problem
from .webui_metadata import metadata, serialise

say = speaker(__name__)

# Rounding to sixteen bits changes a weight change by about a thousandth (bf16: a hundredth); a wrong scale or layout by far more.
_TOLERANCE = {"fp16": 3e-3, "bf16": 2e-2, "fp32": 1e-5}


class WebuiKeys(Keys):
    """The keys of the WebUI exporter."""

    output_name: str | None = Field(None, description="The file's name without .safetensors; by default the run's name.")
    save_precision: Literal["fp16", "bf16", "fp32"] = Field(
        "fp16", description="The precision of the exported file.", json_schema_extra={"values": {"float": "fp32"}}
    )
    preferred_weight: float = Field(0.8, ge=0, le=2, description="The strength that the WebUI's card puts into the prompt.")
    webui: str | None = Field(
        None, description="A WebUI's folder to install the file into (A1111, Forge, SD.Next, ComfyUI).", json_schema_extra={"option": True}
    )
    overwrite: bool = Field(False, description="Replace files of the same name there.", json_schema_extra={"option": True})
    notes: str = Field("", description="Notes for the WebUI's card.")
    author: str = Field("", description="The author, for the file's metadata.")
    model_license: str = Field("", description="The licence of the adapter, for the file's metadata.")

    @field_validator("output_name")
    @classmethod
    def _without_ending(cls, value: str | None) -> str | None:
        """``style.safetensors`` is ``style``: the ending is put behind the name anyway."""
        return value[: -len(".safetensors")] if value and value.lower().endswith(".safetensors") else value


class WebuiExporter(Exporter):
    """One .safetensors with its card and preview."""

    name = "webui"
    task = "image"
    kinds = ("lora", "lokr", "loha")
    help = "A .safetensors for A1111, Forge, SD.Next, ComfyUI and kohya, with preview and card."
    at_saves = True
    keys = WebuiKeys

    def refuses(self, config: RunConfig, keys: KeySet) -> str:
        if config.lora_variant == "dora":
            return _no_dora()
        if keys[ImageKeys].train_text_encoder and splits_text_attention(config.lora_target, config.block_ranks):
            return say(
                "export: A1111 reads a text encoder's attention only if q, k, v and out all have a LoRA, so no WebUI file is written for "
                "lora_target: {value}. Use attention or all-linear, leave train_text_encoder off, or export: [diffusers].",
                value=config.lora_target,
            )
        mine = keys[WebuiKeys]
        problems = [
            name_problem(mine.output_name, config.output_dir),
            place_problem(config, mine.webui, mine.output_name, mine.overwrite),
        ]
        return "\n".join(filter(None, problems))

    def refuses_family(self, family: ModelFamily, config: RunConfig, keys: KeySet) -> str:
        if family.name in PUBLISHED or getattr(family, "webui", None) is not None:
            return ""
        return say("export: the family '{family}' has no WebUI format. Use export: [diffusers] or [merged].", family=family.name)

    def export(self, adapter: Adapter, destination: Path) -> Path:
        import torch

        if adapter.dora:
            raise ExportError(_no_dora())
        webui = _format(adapter)
        layers = _layers(adapter, webui)
        precision = str(adapter.facts.get("config", {}).get("save_precision", "fp16"))
        kind = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[precision]
        tensors: dict[str, Any] = {}
        for name, parts in layers.items():
            for ending, value in _tensors(adapter, parts, webui.rows, kind == torch.float16).items():
                # Sixteen bits cannot hold every sum of ranks.
                wanted = torch.float32 if ending == "alpha" else kind
                tensors[f"{name}.{ending}"] = torch.as_tensor(value).to(wanted).contiguous()
        stem = exported_stem(adapter)
        file = destination / f"{stem}.safetensors"
        file.write_bytes(serialise(tensors, metadata(adapter, stem, webui)))
        _compare(adapter, layers, webui.rows, file, _TOLERANCE[precision])
        (destination / f"{stem}.json").write_text(
            json.dumps(_card(adapter, webui), ensure_ascii=False, indent=1) + "\n", encoding="utf-8", newline="\n"
        )
        preview = adapter.files.get("preview.png")
        if preview:
            (destination / f"{stem}.png").write_bytes(_preview(preview, file))
        return file

    def deliver(self, adapter: Adapter, path: Path) -> Sequence[str]:
        config = adapter.facts.get("config", {})
        if not config.get("webui"):
            return ()
        files = [file for file in sorted(path.parent.iterdir()) if file.stem == path.stem]
        folder = install(files, Path(str(config["webui"])).expanduser(), bool(config.get("overwrite")))
        return [say("Installed:  {path}", path=folder / path.name)]

    def usage(self, adapter: Adapter, path: Path) -> Sequence[str]:
        config = adapter.facts.get("config", {})
        words = ", ".join(adapter.facts.get("trigger_words", []))
        copied = f"cp {quoted(path.parent / path.stem)}.* "
        if str(adapter.facts.get("family")) not in PUBLISHED:  # A1111 knows none of the transformers but SD3; ComfyUI knows them all
            lines = [] if config.get("webui") else [f"{copied}ComfyUI/models/loras/"]
            weight = f"{float(config.get('preferred_weight', 0.8)):g}"
            lines.append(say("# in ComfyUI: the node LoraLoader with {name}, strength {weight}", name=printable(path.name), weight=weight))
            return [*lines, *([say("# in the prompt: {text}", text=" ".join(printable(words).split()))] if words else [])]
        lines = [] if config.get("webui") else [f"{copied}stable-diffusion-webui/models/Lora/"]
        written = f"<lora:{path.stem}:{float(config.get('preferred_weight', 0.8)):g}> {words}".rstrip()
        # As a comment: the words are the data's, and a shell would obey them where somebody pastes all the lines.
        return [*lines, say("# in the prompt: {text}", text=" ".join(printable(written).split()))]


def _tensors(adapter: Adapter, parts: Sequence[str], rows: Mapping[str, int], balanced: bool) -> dict[str, Any]:
    """One layer of the file by its tensors' endings."""
    if adapter.kind != "lora":
        return lycoris.tensors(adapter, parts[0], balanced_factors if balanced else None)
    down, up, alpha = _factors(adapter, parts, rows, balanced)
    return {"alpha": alpha, "lora_down.weight": down, "lora_up.weight": up}


def _preview(drawn: bytes, file: Path) -> bytes:
    """The picture of a training, with the name and the hash of the file that was made of it in its settings."""
    with Image.open(io.BytesIO(drawn)) as picture:
        told = str(getattr(picture, "text", {}).get("parameters") or "")
        return png(picture, renamed(told, called_by(file)) if told else None)


def _factors(adapter: Adapter, parts: Sequence[str], rows: Mapping[str, int], balanced: bool) -> tuple[Any, Any, float]:
    """(down, up, alpha) of one layer of the file. A layer that holds several of the adapter's has their ranks one after the other, each
    with its own rows, and the scale in ``up``; rows without a LoRA are zero.

    Args:
        rows: how many rows the parts have that carry no LoRA.
    """
    import torch

    scale, pairs = adapter.alpha / adapter.rank, {}
    for module in parts:
        if f"{module}.lora_A.weight" in adapter.tensors:
            down, up = adapter.tensors[f"{module}.lora_A.weight"], adapter.tensors[f"{module}.lora_B.weight"]
            pairs[module] = balanced_factors(down, up) if balanced else (down, up)
    if len(parts) == 1:
        ((down, up),) = pairs.values()
        return down, up, scale * down.shape[0]
    rank = sum(down.shape[0] for down, _ in pairs.values())
    blocks, before = [], 0
    for module in parts:
        if module not in pairs:
            blocks.append(torch.zeros(rows[module], rank))
            continue
        up = scale * pairs[module][1]
        blocks.append(torch.nn.functional.pad(up, (before, rank - before - up.shape[1])))
        before += up.shape[1]
    return torch.cat([down for down, _ in pairs.values()]), torch.cat(blocks), float(rank)


def _no_dora() -> str:
    return say(
        "export: the WebUIs disagree on what a DoRA file means (14 to 86 % off where it was measured), so none is written. "
        "Use lora_variant: lora, or export: [merged]."
    )


def _format(adapter: Adapter) -> WebuiFormat:
    """Raises:
    ExportError: if the WebUIs have none for the adapter's family.
    """
    family = str(adapter.facts.get("family"))
    if family in PUBLISHED:
        return KohyaFormat(family)
    described = adapter.facts.get("image", {}).get("webui")
    if not described:
        raise ExportError(say("the family '{family}' has no WebUI format.", family=family))
    return WebuiTable.recall(described)


def _layers(adapter: Adapter, webui: WebuiFormat) -> dict[str, tuple[str, ...]]:
    """The modules in every layer of the file, by its name.

    Raises:
        ExportError: naming every module that a reader would not match.
    """
    strange = webui.strange(adapter.modules)
    # A1111 puts q, k, v and out of one text attention together, and takes none of them if one is missing.
    attention: dict[str, set[str]] = {}
    for module in adapter.modules:
        if module.startswith("text_encoder") and ".self_attn." in module and module not in strange:
            attention.setdefault(module.rpartition(".")[0], set()).add(module.rpartition(".")[2])
    partial = [place for place, found in attention.items() if len(found) < 4]
    if strange or partial:
        shown = [*strange, *(f"{place}.(q, k, v, out)" for place in partial)]
        raise ExportError(
            say(
                "the WebUIs would not read these modules, so nothing was written: {names}",
                names=first_few(shown, 8) + (f" ({len(shown)})" if len(shown) > 8 else ""),
            )
        )
    return webui.layers(adapter.modules) if adapter.kind == "lora" else lycoris.layers(adapter.modules, webui)


def _compare(adapter: Adapter, layers: Mapping[str, Sequence[str]], rows: Mapping[str, int], file: Path, tolerance: float) -> None:
    """Reads the file back and compares what it does with what was trained.

    Raises:
        ExportError: naming the modules that differ.
    """
    import safetensors.torch

    from loraforge.adapters import lora

    lora.verify(adapter)
    read = safetensors.torch.load_file(file)
    wrong = []
    for name, parts in layers.items():
        if adapter.kind == "lora":
            down, up = read[f"{name}.lora_down.weight"].float(), read[f"{name}.lora_up.weight"].float()
            delta = float(read[f"{name}.alpha"]) / down.shape[0] * up.flatten(1) @ down.flatten(1)
        else:
            mine = {key[len(name) + 1 :]: value for key, value in read.items() if key.startswith(f"{name}.")}
            delta = lycoris.delta(adapter, parts[0], mine)
        for module in parts:
            if module in rows:
                here, delta = delta[: rows[module]], delta[rows[module] :]
                error = float(here.abs().max())
            else:
                wanted = adapter.delta(module)
                here, delta = delta[: len(wanted)], delta[len(wanted) :]
                error = float((here - wanted).norm() / wanted.norm().clamp_min(1e-12)) if here.shape == wanted.shape else math.inf
            if not error <= tolerance:
                wrong.append(f"{module} ({error:.1%})")
    if wrong:
        raise ExportError(
            say(
                "rounded to this precision the file would not do what was trained; nothing was written. Write save_precision: fp32 and "
                "train again with --resume: what was learned is kept. {names}",
                names=first_few(wrong),
            )
        )


def _card(adapter: Adapter, webui: WebuiFormat) -> dict[str, Any]:
    """What A1111 and Forge show and insert."""
    config = adapter.facts.get("config", {})
    training = adapter.facts.get("training", {})
    made = say("Trained with LoRAForge on {n} pictures, {steps} steps, on {base}.", n=training.get("examples", "?"),
               steps=training.get("steps", "?"), base=adapter.facts.get("base_title", adapter.base_model))  # fmt: skip
    return {
        "description": made,
        "sd version": webui.card,
        "activation text": ", ".join(adapter.facts.get("trigger_words", [])),
        "preferred weight": float(config.get("preferred_weight", 0.8)),
        "negative text": "",
        "notes": str(config.get("notes", "")),
    }
