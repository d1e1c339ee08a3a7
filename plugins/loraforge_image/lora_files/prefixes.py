# SPDX-License-Identifier: Apache-2.0
"""How a file's name of a module begins says which program's naming it is; what follows is the layer's path. Without torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .webui_format import Layer, WebuiTable

# The first that fits. ``lycoris_`` stands before dotless paths in SimpleTuner's files and those of LyCORIS' own library.
_PREFIXES: tuple[tuple[str, str], ...] = (
    ("peft pipeline", r"base_model\.model\.(?:transformer|unet)\."),
    ("peft", r"(?:(?:unet|transformer)\.)?base_model\.model\.(?:(?:model\.)?diffusion_model\.)?"),
    ("kohya", r"lora_unet_"),
    ("onetrainer", r"lora_transformer_"),
    ("lycoris", r"lycoris_(?:lora_)?(?:unet_)?"),
    ("comfyui", r"(?:model\.)?diffusion_model\."),
    ("diffusers", r"(?:transformer|unet)\."),
)
_TEXT = (("kohya", r"lora_te\d?_"), ("diffusers", r"text_encoder(?:_\d)?\."), ("comfyui", r"text_encoders?\."), ("lycoris", r"lycoris_"))
# "peft pipeline" is PEFT's around a module that holds the pipeline's parts; it counts as PEFT's.
NAMINGS = ("kohya", "diffusers", "comfyui", "peft", "onetrainer", "lycoris", "bare")


@dataclass(frozen=True)
class Place:
    """Where a file's module lies in a transformer, and how the file calls it.

    Attributes:
        naming: one of ``NAMINGS``, or "peft pipeline".
        original: whether the name is the original model's; a name that both have counts as diffusers'.
    """

    naming: str
    original: bool
    layer: Layer


def split_prefix(name: str) -> tuple[str, str]:
    """The naming (see ``Place``) and the path behind its prefix; bare with the whole name if there is none."""
    for naming, pattern in _PREFIXES:
        found = re.match(pattern, name)
        if found:
            return naming, name[found.end() :]
    return "bare", name


def naming_of_name(name: str) -> str:
    """One of ``NAMINGS``, for a text encoder's module too."""
    text = next((naming for naming, pattern in _TEXT if re.match(pattern, name)), None)
    return text or split_prefix(name)[0].partition(" ")[0]


def place_of(name: str, table: WebuiTable) -> Place | None:
    """Where a module is; None if ``table`` has no such layer."""
    naming, path = split_prefix(name)
    layer = table.find(re.sub(r"[._]processor(?=[._])", "", path))
    if layer is None:
        return None
    spelled = path.replace(".", "_") == layer.original.replace(".", "_")
    return Place(naming, spelled and not layer.same, layer)
