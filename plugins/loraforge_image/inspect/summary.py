# SPDX-License-Identifier: Apache-2.0
"""What a LoRA file is, how strong, and which programs take it."""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from loraforge import speaker

from ..lora_files.lora_file import LoraFile, json_object, printable, read_json
from ..lora_files.modules import Module
from ..lora_files.tables import TABLES, TITLES
from .findings import READERS, Finding
from .readers import FORBIDDEN, findings_of, modules_read, verdict_of

say = speaker(__name__)

# What is told of the training -> the metadata that tell it, the first that is there.
_FACTS = {
    "base": ("ss_sd_model_name", "ss_base_model_version"),
    "steps": ("ss_steps", "ss_max_train_steps"),
    "epochs": ("ss_epoch", "ss_num_epochs"),
    "learning_rate": ("ss_learning_rate",),
    "unet_lr": ("ss_unet_lr",),
    "text_encoder_lr": ("ss_text_encoder_lr",),
    "resolution": ("ss_resolution", "modelspec.resolution"),
    "pictures": ("ss_num_train_images",),
    "optimizer": ("ss_optimizer",),
    "seed": ("ss_seed",),
    "date": ("modelspec.date", "ss_training_started_at"),
}
_BAR, _TAGS = 32, 10


def sentences(file: LoraFile, summary: Mapping[str, Any]) -> list[str]:
    """What ``summarise`` found, for people."""
    return [*_identity(file, summary), *_strength(summary), *_origin(file, summary), *_use(summary)]


def summarise(file: LoraFile) -> dict[str, Any]:
    """All figures as plain JSON values."""
    findings, card = findings_of(file), read_json(file.path.with_suffix(".json"))
    stored = file.metadata.get("sshs_model_hash", "").strip().lower()
    return {
        "path": str(file.path),
        "size": file.size,
        "naming": file.naming,
        "original_unet_names": file.original,
        "family": file.family,
        "evidence": file.evidence,
        "cross_attention_width": file.width,
        "claims": dict(file.claims),
        "disagreements": _disagreements(file),
        "modules": len(file.modules),
        "parts": dict(Counter(m.part for m in file.modules)),
        "kinds": dict(Counter(m.kind for m in file.modules)),
        "dora": sum(m.dora for m in file.modules),
        "mid": sum(m.mid for m in file.modules),
        "ranks": _spread(m.rank for m in file.modules),
        "alphas": _spread(m.alpha for m in file.modules),
        "scales": _spread(m.scale for m in file.modules),
        "dtypes": dict(file.dtypes),
        "parameters": file.parameters,
        "norm": _together(file.modules),
        "blocks": blocks(file.modules),
        "details": [_detail(m) for m in file.modules],
        "leftover": list(file.leftover),
        "nonfinite": list(file.nonfinite),
        "unmeasured": sum(m.norm is None for m in file.modules),
        "notes": list(file.notes),
        "trigger_words": _triggers(file, card),
        "tags": _tags(file.metadata),
        "training": _training(file),
        "sha256": file.sha256,
        "autov2": file.sha256[:10],
        "model_hash": file.body_sha256,
        "autov3": file.body_sha256[:12],
        "stored_model_hash": stored or None,
        "stored_hash_agrees": stored == file.body_sha256 if stored else None,
        "prompt": _prompt(file, card),
        "readers": {
            reader: {
                "verdict": verdict_of(reader, findings),
                "modules": modules_read(reader, findings, len(file.modules)),
                "findings": [_plain(f) for f in findings if f.reader == reader],
            }
            for reader in READERS
        },
    }


def _plain(finding: Finding) -> dict[str, Any]:
    return {key: value for key, value in asdict(finding).items() if key != "reader"}


def _detail(module: Module) -> dict[str, Any]:
    values = {**vars(module), "shapes": {what: list(shape) for what, shape in module.shapes.items()}}
    # JSON knows neither infinity nor NaN.
    return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}


def _spread(values: Iterable[float | None]) -> dict[str, int]:
    """How many modules have each value, the commonest first; "none" where there is none."""
    return dict(Counter("none" if v is None else f"{v:g}" for v in values).most_common())


def _together(modules: Iterable[Module]) -> float:
    return math.hypot(*(m.norm for m in modules if m.norm is not None))


def blocks(modules: Sequence[Module]) -> dict[str, dict[str, float]]:
    """Per block, in the order of the model: the number of modules and the norm of all their changes together.

    That is the root of the sum of the squares, so that many small modules do not look like one large one.
    """
    named: dict[str, list[Module]] = {}
    for module in modules:
        named.setdefault(module.block, []).append(module)
    order = ("te1", "te2", "te3", "noise", "context", "layer", "down", "mid", "up", "double", "block", "single", "joint", "other")

    def place(block: str) -> tuple[int, int]:
        word, _, number = block.partition(" ")
        return order.index(word), int(number or 0)

    return {b: {"modules": len(named[b]), "norm": _together(named[b])} for b in sorted(named, key=place)}


def _disagreements(file: LoraFile) -> list[str]:
    if file.family == "unknown":
        return []
    # Where the tensors left the family open, one key of the metadata can still contradict another.
    against = say("other metadata") if file.evidence == "metadata" else say("the tensors")
    return [
        say("{key} says {claimed}, {others} say {found}.", key=key, claimed=claim, others=against, found=file.family)
        for key, claim in file.claims.items()
        if claim != file.family
    ]


def _triggers(file: LoraFile, card: Mapping[str, Any]) -> list[str]:
    """Trigger words by those who know: the file's own field, then the card beside it."""
    phrases = [file.metadata.get("modelspec.trigger_phrase", ""), card.get("activation text", "")]
    words = [word.strip() for phrase in phrases if isinstance(phrase, str) for word in phrase.split(",")]
    return list(dict.fromkeys(printable(word) for word in words if word))


def _tags(metadata: Mapping[str, str]) -> dict[str, int]:
    """The commonest tags of the training captions, over all folders."""
    total: Counter[str] = Counter()
    for tags in json_object(metadata.get("ss_tag_frequency", "")).values():
        for tag, count in tags.items() if isinstance(tags, dict) else ():
            if isinstance(count, int) and 0 < count < 10**9:
                total[printable(tag.strip(), 60)] += count
    return dict(total.most_common(_TAGS))


def _training(file: LoraFile) -> dict[str, str]:
    told = {}
    for fact, keys in _FACTS.items():
        value = next((v for key in keys if (v := file.metadata.get(key, "")) not in ("", "None")), "")
        if value:
            told[fact] = _moment(value) if fact == "date" else printable(value)
    base = file.config.get("base_model_name_or_path")
    if isinstance(base, str) and base:
        told.setdefault("base", printable(base))
    return told


def _moment(value: str) -> str:
    """A time as kohya's trainer writes it, in seconds since 1970; any other text as it is."""
    with contextlib.suppress(ValueError, OverflowError, OSError):
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(float(value)))
    return printable(value)


def _prompt(file: LoraFile, card: Mapping[str, Any]) -> str | None:
    """The line for a WebUI's prompt; None where no WebUI could use it."""
    if file.family == "language" or file.naming == "peft" or set(file.path.stem) & FORBIDDEN:
        return None
    weight = card.get("preferred weight")
    usable = isinstance(weight, int | float) and 0 < weight <= 10
    return f"<lora:{printable(file.path.stem)}:{weight if usable else 1:g}> {', '.join(_triggers(file, card))}".rstrip()


def _identity(file: LoraFile, summary: Mapping[str, Any]) -> list[str]:
    families = {
        "sd15": "Stable Diffusion 1", "sd2": "Stable Diffusion 2", "sdxl": "Stable Diffusion XL", **TITLES,
        "language": say("a language model"), "unknown": say("not recognised"),
    }  # fmt: skip
    evidence = {
        "shapes": say("by the shapes of its tensors"),
        "names": say("by the names of its tensors"),
        "metadata": say("by its metadata"),
    }
    parts = {
        "attention": say("U-Net attention"), "convolution": say("U-Net convolutions"), "te1": say("text encoder 1"),
        "te2": say("text encoder 2"), "te3": say("text encoder 3"), "transformer": say("transformer"), "language": say("language model"),
        "other": say("other"),
    }  # fmt: skip
    path, size = printable(str(file.path), 1000), f"{file.size / 1e6:.2f}"
    lines = [
        say("File:     {path} ({size} MB, {types})", path=path, size=size, types=_listed(file.dtypes)),
        say("Naming:   {naming}", naming=_called(file)),
        say("Family:   {family}, {evidence}", family=families[file.family], evidence=evidence[file.evidence]),
    ]
    # A base with narrow layers (for tests, say) has the names of its family but not its shapes.
    if file.width is not None and file.evidence != "shapes":
        lines.append(say("          its cross-attention is {width} wide, which no published base of that family is", width=file.width))
    lines += [say("warning: {text}", text=text) for text in summary["disagreements"]]
    counts = ", ".join(f"{parts[part]} {n}" for part, n in summary["parts"].items())
    numbers = f"{file.parameters:,}"
    lines.append(say("Modules:  {n} ({parts}); {parameters} numbers", n=summary["modules"], parts=counts, parameters=numbers))
    special = {k: n for k, n in summary["kinds"].items() if k != "lora"} | {k: summary[k] for k in ("dora", "mid") if summary[k]}
    if special:
        lines.append(say("Kinds:    {kinds}", kinds=_listed(special)))
    return lines


def _called(file: LoraFile) -> str:
    """The naming, and whose names of the layers those are, where a naming leaves that open."""
    if file.family in TABLES and file.naming in ("kohya", "comfyui", "bare", "peft"):
        return (
            say("{naming}, the original model's names", naming=file.naming)
            if file.original
            else say("{naming}, diffusers' names", naming=file.naming)
        )
    return file.naming + (" (sgm)" if file.original else "")


def _listed(counts: Mapping[str, int], most: int = 8) -> str:
    shown = [f"{name} x {n}" if len(counts) > 1 else name for name, n in list(counts.items())[:most]]
    return ", ".join([*shown, *(["..."] if len(counts) > most else [])])


def _strength(summary: Mapping[str, Any]) -> list[str]:
    spreads = {name: _listed(summary[name]) for name in ("ranks", "alphas", "scales")}
    lines = [
        say("Rank:     {ranks}; alpha: {alphas}; scale (alpha / rank): {scales}", **spreads),
        say("Change:   {norm} in all (Frobenius norm), by block:", norm=f"{summary['norm']:.4g}"),
    ]
    highest = max((b["norm"] for b in summary["blocks"].values()), default=0.0)
    width = max((len(name) for name in summary["blocks"]), default=0)
    for name, block in summary["blocks"].items():
        bar = "#" * round(_BAR * block["norm"] / highest) if highest else ""
        lines.append(f"  {name:<{width}} {block['norm']:>9.4g} {bar}".rstrip())
    if summary["unmeasured"]:
        text = say("the change of {n} modules could not be measured and is not in these figures.", n=summary["unmeasured"])
        lines.append(say("note: {text}", text=text))
    elif not highest:
        lines.append(say("warning: {text}", text=say("it changes nothing.")))
    if summary["nonfinite"]:
        first = printable(summary["nonfinite"][0])
        text = say("{n} tensors hold NaN or infinity, the first is {name}.", n=len(summary["nonfinite"]), name=first)
        lines.append(say("warning: {text}", text=text))
    if summary["dora"]:
        lines.append(say("note: {text}", text=say("of DoRA modules only the low-rank part is measured; the rest depends on the base.")))
    return [*lines, *(say("note: {text}", text=text) for text in summary["notes"])]


def _origin(file: LoraFile, summary: Mapping[str, Any]) -> list[str]:
    headings = {
        "base": say("base"), "steps": say("steps"), "epochs": say("epochs"), "learning_rate": say("learning rate"),
        "unet_lr": say("U-Net learning rate"), "text_encoder_lr": say("text encoder learning rate"), "resolution": say("resolution"),
        "pictures": say("pictures"), "optimizer": say("optimizer"), "seed": say("seed"), "date": say("date"),
    }  # fmt: skip
    told = ", ".join(f"{headings[fact]} {value}" for fact, value in summary["training"].items())
    lines = [say("Training: {facts}", facts=told or say("the file does not say"))]
    if summary["tags"]:
        lines.append(say("Tags:     {tags}", tags=", ".join(f"{tag} ({n})" for tag, n in summary["tags"].items())))
    lines.append(say("sha256:   {digest} (AutoV2 {short})", digest=file.sha256, short=summary["autov2"]))
    lines.append(say("Tensors:  {digest} (AutoV3, A1111 {short})", digest=file.body_sha256, short=summary["autov3"]))
    if summary["stored_hash_agrees"] is False:
        text = say(
            "the stored sshs_model_hash is another ({stored}): the tensors were changed after it was written. A1111 shows the stored one.",
            stored=printable(summary["stored_model_hash"], 64),
        )
        lines.append(say("warning: {text}", text=text))
    return lines


def _use(summary: Mapping[str, Any]) -> list[str]:
    verdicts = {
        "takes": say("takes it"), "unknown": say("not known"), "drops": say("loses modules"), "wrong": say("gets it wrong"),
        "refuses": say("does not load it"),
    }  # fmt: skip
    lines = []
    if summary["trigger_words"]:
        lines.append(say("Triggers: {words}", words=", ".join(summary["trigger_words"])))
    if summary["prompt"]:
        lines.append(say("Prompt:   {prompt}", prompt=summary["prompt"]))
    lines.append(say("Readers:"))
    judgements = list(summary["readers"].items())
    for (reader, judged), (_, following) in zip(judgements, [*judgements[1:], ("", None)], strict=True):
        verdict = verdicts[judged["verdict"]]
        if judged["modules"] is not None and 0 < judged["modules"] < summary["modules"]:
            verdict = say("{verdict}: {n} of {all} are read", verdict=verdict, n=judged["modules"], all=summary["modules"])
        lines.append(f"  {reader:<14} {verdict}")
        # What is found in several neighbours is said once, below the last of them.
        lines += [f"    - {finding['text']}" for finding in judged["findings"] if judged != following]
    return lines
