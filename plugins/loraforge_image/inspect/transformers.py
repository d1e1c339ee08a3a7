# SPDX-License-Identifier: Apache-2.0
"""Which program reads how many modules of a LoRA for a transformer: Z-Image, FLUX, Chroma, Qwen-Image, Stable Diffusion 3."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from loraforge import speaker

from ..lora_files.lora_file import LoraFile, printable
from ..lora_files.modules import Module
from ..lora_files.prefixes import Place, place_of
from ..lora_files.tables import TABLES, TITLES
from .findings import FORGE_COMFY, READERS, Finding, each
from .matrix import COMFYUI, DEFAULT, DIFFUSERS, FORGE, KEPT, UNMAPPED

say = speaker(__name__)

_FORGE_LIMIT = 12
_T5 = re.compile(r"(SelfAttention|DenseReluDense|EncDecAttention)")


@dataclass(frozen=True)
class _Placed:
    """A module of the file with its place in the transformer."""

    module: Module
    place: Place

    @property
    def stored(self) -> bool:
        """Whether alpha is in the file."""
        return "alpha" in self.module.shapes

    @property
    def named(self) -> bool:
        """Whether the factors have the name of PEFT's adapter in theirs."""
        return self.module.down == "lora_A.default"

    @property
    def scaled(self) -> bool:
        """Whether its scale matters."""
        return self.module.scale not in (None, 1.0)


def unmeasured() -> str:
    """The sentence of what nobody tried."""
    return say("this naming was not measured; an export in the WebUI format is the safe way.")


def silent(n: int) -> str:
    """The sentence of modules that are lost without a word."""
    return say("{n} modules are not read under these names, and no error says so.", n=n)


def control(file: LoraFile) -> bool:
    """Whether it is one of Black Forest Labs' own control LoRAs (depth, canny), which bring norms and biases: by what ComfyUI goes by."""
    return "single_blocks.0.norm.key_norm.scale" in file.leftover and any(module.name == "img_in" for module in file.modules)


def transformers(file: LoraFile) -> Iterable[Finding]:
    """What every reader does with the modules of a transformer."""
    table = TABLES.get(file.family)
    if table is None:
        return
    if control(file):
        yield Finding("A1111", "refuses", say("it knows no {family}.", family=TITLES[file.family]), len(file.modules))
        told = say("a control LoRA of Black Forest Labs: ComfyUI and diffusers have a converter made for it; nothing else was measured.")
        yield from each([reader for reader in READERS if reader != "A1111"], "unknown", told)
        return
    found = [(module, place_of(module.name, table)) for module in file.modules]
    placed = [_Placed(module, place) for module, place in found if place is not None]
    title = TITLES[file.family]
    if file.family != "sd3":
        yield Finding("A1111", "refuses", say("it knows no {family}.", family=title), len(file.modules))
    if file.family not in FORGE:
        yield Finding("Forge", "refuses", say("it knows no {family}.", family=title), len(file.modules))
    if file.family in ("z-image", "flux2", "qwen-image"):
        yield Finding("kohya", "refuses", say("it knows no {family}.", family=title), len(file.modules))
    yield from _others(file, found)
    yield from _comfyui(file.family, placed)
    if file.family in FORGE:
        yield from _forge(file.family, placed)
    yield from _diffusers(file.family, placed)
    yield from _unmeasured_readers(file.family, placed)
    text = sum(module.part.startswith("te") and _T5.search(module.name) is not None for module in file.modules)
    if text:
        yield Finding("diffusers", "drops", say("{n} modules of T5 are not read.", n=text), text)


def _others(file: LoraFile, found: Iterable[tuple[Module, Place | None]]) -> Iterable[Finding]:
    """Modules that are no layer of the table: XLabs' trainer puts two pairs into one attention."""
    strange = [m for m, place in found if place is None and not m.part.startswith("te")]
    if not strange:
        return
    readers = [reader for reader in READERS if not (reader == "A1111" and file.family != "sd3")]
    if any(".processor." in m.name for m in strange):
        text = say("the naming of XLabs' trainer: its own nodes and diffusers' converter are made for it; nothing else was measured.")
        yield from each([*FORGE_COMFY, "SD.Next", "kohya", "diffusers"], "unknown", text)
        return
    text = say("{n} modules are no layers that are known here, the first is {name}.", n=len(strange), name=printable(strange[0].name))
    yield from each(readers, "unknown", text, len(strange))


def _lost(reader: str, placed: Iterable[_Placed], reads: Callable[[_Placed], bool]) -> Iterable[Finding]:
    """What a reader does that takes every module by itself: it knows the name or passes it over, and looks for alpha beside it."""
    known = Counter(reads(one) for one in placed)
    if known[False]:
        yield Finding(reader, "drops", silent(known[False]), known[False])
    wrong = sum(reads(one) and one.scaled and not one.stored for one in placed)
    if wrong:
        text = say("the scale of {n} modules stands where it does not look, and is taken for 1.", n=wrong)
        yield Finding(reader, "wrong", text, wrong)


def _comfyui(family: str, placed: list[_Placed]) -> Iterable[Finding]:
    def reads(one: _Placed) -> bool:
        naming, layer = one.place.naming, one.place.layer
        if naming in ("kohya", "comfyui") and (one.place.original or layer.same):
            return True
        mapped = not layer.original.startswith(UNMAPPED.get(family, ("?",)))
        return not one.place.original and family in COMFYUI.get(naming, ()) and mapped

    yield from _lost("ComfyUI", placed, reads)


def _forge(family: str, placed: list[_Placed]) -> Iterable[Finding]:
    def reads(one: _Placed) -> bool:
        if one.named:
            return False
        if one.place.naming in ("kohya", "comfyui"):
            return one.place.original or one.place.layer.same
        return not one.place.original and one.place.naming in FORGE[family]

    yield from _lost("Forge", placed, reads)
    n = sum(len(one.module.shapes) for one in placed if not reads(one))
    if n > _FORGE_LIMIT:
        text = say("{n} tensors are left over; with more than {limit}, Forge loads nothing.", n=n, limit=_FORGE_LIMIT)
        yield Finding("Forge", "refuses", text)


def _diffusers(family: str, placed: list[_Placed]) -> Iterable[Finding]:
    other = [one for one in placed if one.module.kind != "lora"]
    if other:
        if family in ("z-image", "flux2") and all(one.module.kind == "lokr" for one in other):
            yield Finding("diffusers", "unknown", say("LoKr in this naming was not measured."), len(other))
        else:
            yield Finding("diffusers", "drops", say("{n} modules are no pairs of factors, and are not read.", n=len(other)), len(other))
    mine = [one for one in placed if one.module.kind == "lora"]
    strange = [one for one in mine if not one.named and one.module.down not in ("lora_A", "lora_down", "")]
    if strange:
        yield Finding("diffusers", "unknown", unmeasured(), len(strange))
        return
    # The loader looks at the whole file first.
    alphas, downs = any(one.stored for one in mine), any(one.module.down == "lora_down" for one in mine)
    outcomes = Counter(_outcome(family, one, 2 * downs + alphas) for one in mine)
    if outcomes["error"]:
        yield Finding("diffusers", "refuses", say("{n} modules have names that raise an error.", n=outcomes["error"]), len(placed))
    if outcomes["lost"]:
        yield Finding("diffusers", "drops", silent(outcomes["lost"]), outcomes["lost"])
    if outcomes["outside"]:
        text = say("{n} modules outside of the blocks are dropped.", n=outcomes["outside"])
        yield Finding("diffusers", "drops", text, outcomes["outside"])
    if outcomes["halves"]:
        text = say("shift and scale of {n} modules are read the wrong way round.", n=outcomes["halves"])
        yield Finding("diffusers", "wrong", text, outcomes["halves"])
    if outcomes["scale"]:
        text = say("the scale of {n} modules stands where it does not look, and is taken for 1.", n=outcomes["scale"])
        yield Finding("diffusers", "wrong", text, outcomes["scale"])


def _outcome(family: str, one: _Placed, column: int) -> str:
    """read, lost, outside (lost because it is no block), halves, scale (wrong), or error."""
    named = one.place.naming, one.place.original
    row = DIFFUSERS[family].get(named)
    # A name that both models have is what the names beside it are.
    rule = DEFAULT.get(family, {}).get(named, "none") if one.named else row[column] if row else "none"
    layer = one.place.layer
    kept = not layer.outside or layer.original in KEPT.get(family, ())
    ends: dict[str, str] = {
        "blocks": "read" if kept else "outside",
        "strict": "error" if layer.outside else "read",
        "halves": "halves" if layer.halves else "read",
        "same": "read" if layer.same else "lost",
        "out": "read" if layer.same or layer.original.endswith("attention.out") else "lost",
        "scale": "scale" if one.scaled else "read",
        "strict scale": "error" if layer.outside else "scale" if one.scaled else "read",
        "all": "read",
        "none": "lost",
        "error": "error",
    }
    told = ends[rule]
    unseen = one.place.naming.startswith("peft") and not one.stored and one.scaled  # alpha is in the config of PEFT
    return "scale" if told == "read" and unseen else told


def _unmeasured_readers(family: str, placed: list[_Placed]) -> Iterable[Finding]:
    """A1111 (SD3 alone), SD.Next and kohya's scripts: what they are known to read, and what nobody tried."""
    usual = not any(one.named for one in placed)
    namings = {(one.place.naming, one.place.original or one.place.layer.same) for one in placed}
    kohya = usual and all(naming == "kohya" and original for naming, original in namings)
    own = usual and all(naming == "diffusers" and (not original or family == "qwen-image") for naming, original in namings)
    if family == "sd3":
        if own:
            yield Finding("A1111", "note", say("only version 1.10 and newer read SD3."))
        elif kohya:
            yield Finding("A1111", "unknown", say("version 1.10 and newer read SD3 with diffusers' names; kohya's were not measured."))
        else:
            yield Finding("A1111", "unknown", unmeasured())
    if not ((kohya and family in ("flux1", "sd3")) or (own and family == "flux1")):
        # The file is in the WebUI format already.
        text = say("{family} was not measured with it.", family=TITLES[family]) if kohya else unmeasured()
        yield Finding("SD.Next", "unknown", text)
    if family in ("flux1", "chroma", "sd3") and not kohya:
        trainer = sum(one.place.naming == "onetrainer" for one in placed)
        if trainer:
            text = say("{n} modules begin with lora_transformer_, which its tools do not know.", n=trainer)
            yield Finding("kohya", "drops", text, trainer)
        if trainer < len(placed):
            yield Finding("kohya", "unknown", unmeasured())
