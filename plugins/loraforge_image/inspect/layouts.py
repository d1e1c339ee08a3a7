"""Which program reads which naming: of FLUX and Stable Diffusion 3, of ComfyUI's own names, of LyCORIS' kinds.

Measured in November 2026: files of one small model in eight namings were given to each program's own code, and the weights that changed
were counted. What was read in a program's source only is "not known".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from loraforge import speaker

from ..lora_files.lora_file import LoraFile
from .findings import FORGE_COMFY, READERS, Finding, each

say = speaker(__name__)

# Layers of FLUX outside of its blocks, by kohya's names: diffusers drops a LoRA on them.
_TOP = re.compile(r"lora_unet_(img_in|txt_in|time_in|vector_in|guidance_in|final_layer)")
_DIFFUSERS_BLOCKS = re.compile(r"(single_)?transformer_blocks[._]")
COMFY_TEXT = re.compile(r"(text_encoders?[._])?(clip_[lg]|t5xxl)[._]")


def unmeasured() -> str:
    """The sentence of what nobody tried."""
    return say("this naming was not measured; an export in the WebUI format is the safe way.")


def _count(file: LoraFile, *starts: str) -> int:
    return sum(m.name.startswith(starts) for m in file.modules)


def _none(n: int) -> str:
    return say("none of the {n} modules with these names is read, and no error says so.", n=n)


def flux(file: LoraFile) -> Iterable[Finding]:
    """FLUX.1 in every naming."""
    yield Finding("A1111", "refuses", say("it knows no FLUX."))
    if file.naming == "kohya":
        top = sum(_TOP.match(m.name) is not None for m in file.modules)
        if top:
            yield Finding("diffusers", "drops", say("{n} modules outside of the blocks are dropped.", n=top), top)
    elif file.naming == "diffusers":
        yield Finding("kohya", "unknown", unmeasured())
    elif file.naming == "bare":
        yield from _bare_flux(file)


def _bare_flux(file: LoraFile) -> Iterable[Finding]:
    comfy = [m for m in file.modules if m.name.startswith("diffusion_model.")]
    theirs = sum(_DIFFUSERS_BLOCKS.match(m.name.removeprefix("diffusion_model.")) is not None for m in comfy)
    trainer, lycoris = _count(file, "lora_transformer_"), _count(file, "lycoris_")
    xlabs = sum(".processor." in m.name for m in file.modules)
    if theirs:
        yield from each((*FORGE_COMFY, "diffusers"), "drops", _none(theirs), theirs)
    if len(comfy) > theirs:
        yield Finding("diffusers", "drops", _none(len(comfy) - theirs), len(comfy) - theirs)
    if trainer:
        yield Finding("diffusers", "refuses", say("names that begin with lora_transformer_ raise an error."), trainer)
        yield Finding("kohya", "drops", say("{n} modules begin with lora_transformer_, which its tools do not know.", n=trainer), trainer)
    if lycoris:
        yield from each(("kohya", "diffusers"), "unknown", unmeasured())
    if xlabs:
        text = say("the naming of XLabs' trainer: its own nodes and diffusers' converter are made for it; nothing else was measured.")
        yield from each((*FORGE_COMFY, "SD.Next", "kohya", "diffusers"), "unknown", text)
        return
    others = ("SD.Next",) if trainer else ("SD.Next", "kohya")
    yield from each(others, "unknown", unmeasured())
    if len(comfy) + trainer + lycoris < len(file.modules):
        yield from each((*FORGE_COMFY, "diffusers"), "unknown", unmeasured())


def stable_diffusion_3(file: LoraFile) -> Iterable[Finding]:
    """Stable Diffusion 3 and 3.5 in every naming."""
    if file.naming == "kohya":
        n = len(file.modules)
        yield Finding("diffusers", "refuses", _none(n), n)
        yield Finding("A1111", "unknown", say("version 1.10 and newer read SD3 with diffusers' names; kohya's were not measured."))
    elif file.naming == "diffusers":
        yield Finding("A1111", "note", say("only version 1.10 and newer read SD3."))
        n = len(file.modules)
        yield Finding("Forge", "drops", say("it reads no SD3 with diffusers' names: {n} modules are dropped.", n=n), n)
        yield from each(("SD.Next", "kohya"), "unknown", unmeasured())
    elif file.naming == "bare":
        original = [m for m in file.modules if m.name.startswith("diffusion_model.") and "joint_blocks" in m.name]
        if len(original) == len(file.modules):
            yield Finding("diffusers", "drops", _none(len(original)), len(original))
            yield from each(("A1111", "Forge", "SD.Next", "kohya"), "unknown", unmeasured())
        else:
            yield from each(READERS, "unknown", unmeasured())


def bare_stable_diffusion(file: LoraFile) -> Iterable[Finding]:
    """Stable Diffusion 1, 2 and XL under the names of ComfyUI, or of LyCORIS' library."""
    comfy, text = _count(file, "diffusion_model."), sum(COMFY_TEXT.match(m.name) is not None for m in file.modules)
    known = comfy + text + _count(file, "lycoris_")
    if known < len(file.modules):
        yield from each(READERS, "unknown", unmeasured())
        return
    yield from each(("A1111", "SD.Next", "kohya", "diffusers"), "unknown", unmeasured())
    if text:
        yield Finding("Forge", "drops", say("{n} text encoder modules have ComfyUI's names and are dropped.", n=text), text)


def lycoris_kinds(file: LoraFile) -> Iterable[Finding]:
    """LoHa, LoKr, OFT, whole differences, (IA)^3, GLoRA."""
    kinds = Counter(m.kind for m in file.modules if m.kind != "lora")
    n = sum(kinds.values())
    if not n:
        return
    text = say(
        "{n} modules are LyCORIS ones ({kinds}): its networks.lora reads none of them; its LyCORIS module does.",
        n=n,
        kinds=", ".join(kinds),
    )
    yield Finding("kohya", "drops", text, n)
    rare = {kind: count for kind, count in kinds.items() if kind in ("ia3", "glora", "oftv2")}
    if rare:
        text = say("{kinds} was not measured in any program.", kinds=", ".join(rare))
        yield from each((*("A1111", "SD.Next"), *FORGE_COMFY), "unknown", text, sum(rare.values()))
