# SPDX-License-Identifier: Apache-2.0
"""Which program reads Stable Diffusion under the names of ComfyUI, LyCORIS' library or PEFT, and which reads LyCORIS' kinds.

Measured: files of one small model were given to each program's own code, and the weights that changed were counted. What was read in a
program's source only is "not known".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from loraforge import speaker

from ..lora_files.lora_file import LoraFile
from .findings import FORGE_COMFY, READERS, Finding, each
from .transformers import silent, unmeasured

say = speaker(__name__)

COMFY_TEXT = re.compile(r"(text_encoders?[._])?(clip_[lgh]|t5xxl)[._]")


def bare_stable_diffusion(file: LoraFile) -> Iterable[Finding]:
    """Stable Diffusion 1, 2 and XL under the names of ComfyUI, or of LyCORIS' library."""
    comfy = sum(m.name.startswith(("diffusion_model.", "lycoris_")) for m in file.modules)
    text = sum(COMFY_TEXT.match(m.name) is not None for m in file.modules)
    if comfy + text < len(file.modules):
        yield from each(READERS, "unknown", unmeasured())
        return
    yield from each(("A1111", "SD.Next", "kohya"), "unknown", unmeasured())
    yield Finding("diffusers", "drops", silent(len(file.modules)), len(file.modules))
    if text:
        yield Finding("Forge", "drops", say("{n} text encoder modules have ComfyUI's names and are dropped.", n=text), text)


def peft_stable_diffusion(file: LoraFile) -> Iterable[Finding]:
    """Stable Diffusion as PEFT saves it (``base_model.model.``): no key map has such names, and diffusers passes them over."""
    n = len(file.modules)
    yield from each(("A1111", "SD.Next", "kohya"), "unknown", unmeasured())
    yield from each((*FORGE_COMFY, "diffusers"), "drops", silent(n), n)


def lycoris_kinds(file: LoraFile) -> Iterable[Finding]:
    """LoHa, LoKr, OFT, whole differences, (IA)^3, GLoRA."""
    kinds = Counter(m.kind for m in file.modules if m.kind != "lora")
    n = sum(kinds.values())
    if not n:
        return
    text = say(
        "{n} modules are no LoRA ({kinds}): its networks.lora reads none of them; LyCORIS' module or its own for that kind may.",
        n=n,
        kinds=", ".join(kinds),
    )
    yield Finding("kohya", "drops", text, n)
    rare = {kind: count for kind, count in kinds.items() if kind in ("ia3", "glora", "oftv2", "boft")}
    if rare:
        text = say("{kinds} was not measured in any program.", kinds=", ".join(rare))
        yield from each((*("A1111", "SD.Next"), *FORGE_COMFY), "unknown", text, sum(rare.values()))
    for reader, unknown in (("Forge", ("ia3", "oftv2", "oft", "boft")), ("ComfyUI", ("ia3", "oftv2"))):
        lost = sum(kinds[kind] for kind in unknown)
        if lost:
            yield Finding(reader, "drops", say("{n} modules are of a kind whose tensors it does not know.", n=lost), lost)
