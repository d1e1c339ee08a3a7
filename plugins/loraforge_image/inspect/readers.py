# SPDX-License-Identifier: Apache-2.0
"""Which programs take a LoRA file, and what each drops or gets wrong: one small rule per known difference between them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace

from loraforge import speaker

from ..families.stable_diffusion.kohya_names import known_modules
from ..lora_files.lora_file import LoraFile, printable
from ..lora_files.modules import Module
from .findings import FORGE_COMFY, LEVELS, READERS, Finding, each
from .layouts import COMFY_TEXT, bare_stable_diffusion, lycoris_kinds, peft_stable_diffusion
from .transformers import control, transformers

say = speaker(__name__)

FORBIDDEN = set(":,<>")
_FORGE_LIMIT = 12
_ATTENTION = re.compile(r"attn[12][._]")
_POINTWISE = re.compile(r"(conv_shortcut|skip_connection)$")
_POINTWISE_SD1 = re.compile(r"(conv_shortcut|skip_connection|proj_in|proj_out)$")
_FLAT = re.compile(r"lora_te\d?_encoder_layers_")
_OPEN_CLIP = re.compile(r"(.+self_attn_)(q|k|v|out)_proj$")


def _text(file: LoraFile, number: str = "") -> list[Module]:
    return [m for m in file.modules if m.part.startswith(f"te{number}")]


def _unet(file: LoraFile) -> list[Module]:
    return [m for m in file.modules if m.part in ("attention", "convolution")]


def _plain_attention(module: Module) -> bool:
    # ComfyUI wants the older "attn1.processor.to_q".
    return _ATTENTION.search(module.name) is not None and ".processor." not in module.name


def _kohya_sd(file: LoraFile) -> bool:
    return file.naming == "kohya" and file.family in ("sd15", "sd2", "sdxl")


def _flat_text(file: LoraFile) -> Iterable[Finding]:
    flat = [m for m in _text(file) if _FLAT.match(m.name)]
    if not flat or not _kohya_sd(file):
        return
    text = say("{n} text encoder modules have names without text_model_ and are dropped.", n=len(flat))
    yield from each(("A1111", "SD.Next", *FORGE_COMFY, "kohya"), "drops", text, len(flat))
    if file.family == "sdxl":
        yield Finding("diffusers", "refuses", say("text encoder names without text_model_ raise an error."), len(flat))


def _text_prefix(file: LoraFile) -> Iterable[Finding]:
    if not _kohya_sd(file):
        return
    wrong = "lora_te_" if file.family == "sdxl" else "lora_te1_"
    found = [m for m in _text(file) if m.name.startswith(wrong + "text_model_")]
    readers = {"sd15": ("SD.Next", "kohya"), "sd2": ("A1111", "SD.Next", "kohya"), "sdxl": ("A1111", "SD.Next", "kohya")}[file.family]
    if found:
        text = say(
            "{n} text encoder modules begin with {prefix}, which is not this family's name; they are dropped.", n=len(found), prefix=wrong
        )
        yield from each(readers, "drops", text, len(found))


def _original_names(file: LoraFile) -> Iterable[Finding]:
    if file.naming != "kohya" or not file.original or file.family not in ("sd15", "sd2"):
        return
    n = sum(bool(re.match(r"lora_unet_(input|output|middle)_block", m.name)) for m in file.modules)
    yield from each(("SD.Next", "kohya"), "drops", say("{n} U-Net modules have the original (sgm) names and are dropped.", n=n), n)
    yield Finding("diffusers", "refuses", say("the original (sgm) U-Net names raise an error for this family."), n)


def _upsampler(file: LoraFile) -> Iterable[Finding]:
    if file.family == "sdxl" and any(m.name == "lora_unet_up_blocks_0_upsamplers_0_conv" for m in file.modules):
        yield Finding("A1111", "drops", say("{name} is dropped (SDXL with diffusers' names).", name="up_blocks_0_upsamplers_0_conv"), 1)


def _own_names(file: LoraFile) -> Iterable[Finding]:
    if file.naming != "diffusers" or file.family not in ("sd15", "sd2", "sdxl"):
        return
    total, attention, text = len(file.modules), sum(_plain_attention(m) for m in file.modules), len(_text(file))
    yield from each(("A1111", "kohya"), "refuses", say("diffusers' own naming: none of the {n} modules is read.", n=total), total)
    if attention:
        lost = say("diffusers' own naming: {n} attention modules are dropped.", n=attention)
        yield from each(FORGE_COMFY, "drops", lost, attention)
    old = sum(_ATTENTION.search(m.name) is not None and ".processor." in m.name for m in file.modules)
    if old:
        lost = say("names of diffusers before 0.20 (attn1.processor): {n} attention modules are dropped.", n=old)
        yield Finding("SD.Next", "drops", lost, old)
    if text:
        yield Finding("SD.Next", "drops", say("diffusers' own naming: {n} text encoder modules are dropped.", n=text), text)


def _other_models(file: LoraFile) -> Iterable[Finding]:
    if file.family in ("sd15", "sd2", "sdxl") and file.naming in ("comfyui", "lycoris", "onetrainer", "bare"):
        yield from bare_stable_diffusion(file)
    elif file.family in ("sd15", "sd2", "sdxl") and file.naming == "peft":
        yield from peft_stable_diffusion(file)
    yield from transformers(file)


def _strangers(file: LoraFile) -> Iterable[Finding]:
    if file.family == "language":
        yield from each(READERS, "refuses", say("an adapter of a language model; PEFT and transformers load it."), len(file.modules))
    elif file.family == "unknown":
        yield from each(READERS, "unknown", say("the family was not recognised, so little can be said."))


def _incomplete(file: LoraFile) -> Iterable[Finding]:
    broken = [m for m in file.modules if m.fault == "incomplete"]
    if broken:
        first = printable(broken[0].name)
        text = say("{n} modules lack a factor, the first is {name}; the whole file is not loaded.", n=len(broken), name=first)
        yield from each(("A1111", *FORGE_COMFY), "refuses", text, len(broken))
        text = say("{n} modules lack a factor; this was not measured.", n=len(broken))
        yield from each(("SD.Next", "kohya", "diffusers"), "unknown", text, len(broken))
    misfits = [m for m in file.modules if m.fault == "shapes"]
    if misfits:
        text = say("the shapes of {n} modules do not fit together, the first is {name}.", n=len(misfits), name=printable(misfits[0].name))
        yield from each(READERS, "wrong", text, len(misfits))


def _split_attention(file: LoraFile) -> Iterable[Finding]:
    """A1111 puts q, k, v and out of open_clip's text encoders into one layer, and wants all four."""
    if file.naming != "kohya" or file.family not in ("sd2", "sdxl"):
        return
    groups: dict[str, set[str]] = defaultdict(set)
    for m in file.modules:
        found = _OPEN_CLIP.match(m.name) if m.part == ("te2" if file.family == "sdxl" else "te1") else None
        if found:
            groups[found[1]].add(found[2])
    lost = sum(len(g) for g in groups.values() if len(g) < 4)
    if lost:
        yield Finding("A1111", "drops", say("{n} text attention modules are dropped: it wants q, k, v and out together.", n=lost), lost)


def _flat_convolutions(file: LoraFile) -> Iterable[Finding]:
    if not _kohya_sd(file):
        return
    pattern = _POINTWISE_SD1 if file.family == "sd15" else _POINTWISE
    n = sum(pattern.search(m.name) is not None and len(m.shapes.get("down", ())) == 2 for m in _unet(file))
    if n:
        text = say("{n} 1x1 convolutions are stored in two dimensions, which raises an error.", n=n)
        yield from each(("kohya", "diffusers"), "refuses", text, n)


def _dora(file: LoraFile) -> Iterable[Finding]:
    found = [m for m in file.modules if m.dora]
    if not found or file.family == "language":
        return
    if file.naming != "kohya":
        yield from each(READERS, "unknown", say("DoRA in this naming was not measured."), len(found))
        return
    yield from each(("kohya", "diffusers"), "wrong", say("the DoRA magnitudes of {n} modules are ignored.", n=len(found)), len(found))
    by_output = [m for m in found if len(m.shapes["dora"]) < 2 or m.shapes["dora"][0] != 1]
    if by_output:
        text = say("DoRA per output in {n} modules: measured 50 % and more off what was trained.", n=len(by_output))
        yield from each(("A1111", "SD.Next"), "wrong", text, len(by_output))
        text = say("DoRA per output in {n} modules: measured 14 to 18 % off what was trained.", n=len(by_output))
        yield from each(FORGE_COMFY, "wrong", text, len(by_output))
    scaled = [m for m in found if m not in by_output and m.scale != 1]
    if scaled:
        text = say("DoRA per input with alpha unlike the rank in {n} modules: measured 27 % off.", n=len(scaled))
        yield Finding("SD.Next", "wrong", text, len(scaled))


def _mixed_alphas(file: LoraFile) -> Iterable[Finding]:
    if not _kohya_sd(file):
        return
    alphas = Counter(m.alpha for m in _unet(file) if m.alpha is not None)
    if len(alphas) < 2:
        return
    common = alphas.most_common(1)[0][0]
    n = sum(_ATTENTION.search(m.name) is not None and m.alpha is not None and m.alpha != common for m in _unet(file))
    if n:
        text = say("{n} attention modules have another alpha than {alpha}, and are loaded with {alpha}.", n=n, alpha=f"{common:g}")
        yield Finding("diffusers", "wrong", text, n)


def _other_kinds(file: LoraFile) -> Iterable[Finding]:
    if file.family == "language":
        return
    n = sum(m.mid for m in file.modules if m.kind == "lora")
    if n:
        yield Finding("kohya", "wrong", say("the middle convolutions (lora_mid) of {n} modules are ignored.", n=n), n)
        yield Finding("diffusers", "refuses", say("middle convolutions (lora_mid) raise an error."), n)
    yield from lycoris_kinds(file)
    n = sum(m.kind != "lora" for m in file.modules)
    if n and _kohya_sd(file):
        yield Finding("diffusers", "refuses", say("LyCORIS modules are left over, which raises an error."), n)


def _leftover(file: LoraFile) -> Iterable[Finding]:
    if file.family == "language" or control(file):
        return
    own = file.naming == "diffusers" and file.family in ("sd15", "sd2", "sdxl")
    lost = [m for m in file.modules if _FLAT.match(m.name) or COMFY_TEXT.match(m.name) or (own and _plain_attention(m))]
    n = len(file.leftover) + sum(len(m.shapes) for m in lost)
    if n > _FORGE_LIMIT:
        text = say("{n} tensors are left over; with more than {limit}, Forge loads nothing.", n=n, limit=_FORGE_LIMIT)
        yield Finding("Forge", "refuses", text)
    if file.leftover:
        text = say("{n} tensors belong to no known kind of module.", n=len(file.leftover))
        yield from each(("A1111", "ComfyUI", "SD.Next", "kohya"), "note", text)
        if n <= _FORGE_LIMIT:
            yield Finding("Forge", "note", text)
        yield Finding("diffusers", "refuses", say("tensors that are left over raise an error."))


def _unusual_names(file: LoraFile) -> Iterable[Finding]:
    if not _kohya_sd(file) or (file.original != (file.family == "sdxl") and _unet(file)):
        return
    known = known_modules(file.family)
    usual = re.compile(r"lora_te\d?_(text_model_)?encoder_layers_")
    odd = [m.name for m in file.modules if m.name not in known and not usual.match(m.name)]
    if odd:
        text = say("{n} modules are not among those that all readers know, the first is {name}.", n=len(odd), name=printable(odd[0]))
        yield from each(READERS, "note", text, len(odd))


def _header(file: LoraFile) -> Iterable[Finding]:
    if not file.quoted:
        yield Finding("A1111", "refuses", say("the header does not begin as it wants."))
    architecture = file.metadata.get("modelspec.architecture", "")
    if file.family == "sd15" and file.naming == "kohya" and not architecture.startswith("stable-diffusion-v1"):
        yield Finding("Forge", "note", say("Forge's list shows the file under no family: modelspec.architecture does not say SD1."))
    # A1111 sorts a file by these two alone, and takes for SD1 whatever has metadata and neither.
    large = file.metadata.get("ss_base_model_version", "").startswith("sdxl_")
    shown = "sdxl" if large else "sd2" if file.metadata.get("ss_v2") == "True" else "sd15"
    if file.metadata and shown != file.family and file.family in ("sd15", "sd2", "sdxl"):
        families = {"sd15": "SD1", "sd2": "SD2", "sdxl": "SDXL"}
        yield Finding(
            "A1111", "note", say("by its metadata it is listed under {family}, so the card may be hidden.", family=families[shown])
        )


def _file_name(file: LoraFile) -> Iterable[Finding]:
    if file.family != "language" and set(file.path.stem) & FORBIDDEN:
        text = say("the file's name has a sign that no prompt can hold ({signs}); rename it.", signs=": , < >")
        yield from each(("A1111", "Forge", "SD.Next"), "note", text)


def _numbers(file: LoraFile) -> Iterable[Finding]:
    if file.nonfinite:
        text = say("{n} tensors are not finite: pictures turn black.", n=len(file.nonfinite))
        yield from each(READERS, "wrong", text, len(file.nonfinite))


RULES: tuple[Callable[[LoraFile], Iterable[Finding]], ...] = (
    *(_strangers, _flat_text, _text_prefix, _original_names, _upsampler, _own_names, _other_models, _incomplete, _split_attention),
    *(_flat_convolutions, _dora, _mixed_alphas, _other_kinds, _leftover, _unusual_names, _header, _file_name, _numbers),
)


def findings_of(file: LoraFile) -> list[Finding]:
    """What all rules find, by reader, the gravest first."""
    found = [finding for rule in RULES for finding in rule(file)]
    # Who loses all modules has loaded nothing.
    found = [replace(f, severity="refuses") if f.severity == "drops" and f.modules == len(file.modules) else f for f in found]
    for reader in {f.reader for f in found}:
        if modules_read(reader, found, len(file.modules)) == 0:  # several findings together
            found = [replace(f, severity="refuses") if f.reader == reader and f.severity == "drops" else f for f in found]
    return sorted(found, key=lambda f: (READERS.index(f.reader), -LEVELS.index(f.severity)))


def verdict_of(reader: str, findings: Iterable[Finding]) -> str:
    """The gravest severity that concerns a reader; "takes" if there is none but notes."""
    levels = [LEVELS.index(f.severity) for f in findings if f.reader == reader]
    return LEVELS[max(levels)] if any(levels) else "takes"


def modules_read(reader: str, findings: Iterable[Finding], total: int) -> int | None:
    """How many of a file's modules a reader takes up, rightly or not; None if that was not measured."""
    mine = [f for f in findings if f.reader == reader]
    if any(f.severity == "refuses" for f in mine):
        return 0
    if any(f.severity == "unknown" for f in mine):
        return None
    return max(0, total - sum(f.modules for f in mine if f.severity == "drops"))
