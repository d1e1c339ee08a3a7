# SPDX-License-Identifier: Apache-2.0
"""The text in a PNG from which A1111 and its relatives read how a picture was drawn: prompt, negative prompt, and a line of settings.

They take the last line for settings only if three or more stand in it; a value with a comma, a colon or a line break is in JSON's quotes.
A LoRA is named as the file is that the WebUI has, and by twelve digits of ``sshs_model_hash``, by which sites find it.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraforge import Adapter, __version__, open_file

# What no file name has on some system that a WebUI runs on, or what its prompt would take for something else.
FORBIDDEN = set(':,<>/\\"|?*')
_LONGEST_HEADER = 100_000_000  # bytes


@dataclass(frozen=True)
class Called:
    """A LoRA as a WebUI knows it.

    Attributes:
        name: of its file, without the ending.
        digest: the file's ``sshs_model_hash``; empty where there is no such file yet.
    """

    name: str
    digest: str = ""


@dataclass(frozen=True)
class Drawn:
    """What a picture was drawn with.

    Attributes:
        size: (width, height).
        sampler: as A1111 calls it.
        model: the base's name.
        model_sha256: of the base's file; empty where it is none.
        loras: those that acted, each with its strength.
    """

    prompt: str
    negative: str
    steps: int
    sampler: str
    cfg: float
    seed: int
    size: tuple[int, int]
    model: str
    model_sha256: str = ""
    clip_skip: int = 1
    loras: Sequence[tuple[Called, float]] = ()

    def infotext(self) -> str:
        """The text."""
        called = "".join(f" <lora:{lora.name}:{strength:g}>" for lora, strength in self.loras)
        negative = f"\nNegative prompt: {self.negative}" if self.negative else ""
        settings = {
            "Steps": self.steps,
            "Sampler": self.sampler,
            "CFG scale": f"{self.cfg:g}",
            "Seed": self.seed,
            "Size": f"{self.size[0]}x{self.size[1]}",
            "Model hash": self.model_sha256[:10],
            "Model": self.model,
            "Clip skip": self.clip_skip if self.clip_skip > 1 else "",
            "Lora hashes": _hashes([lora for lora, _ in self.loras]),
            "Version": f"LoRAForge {__version__}",
        }
        line = ", ".join(f"{name}: {quoted(value)}" for name, value in settings.items() if value != "")
        return f"{self.prompt}{called}{negative}\n{line}"


def quoted(value: object) -> str:
    """A value of the line of settings."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if set(text) & set(',:\n"') else text


def renamed(text: str, lora: Called) -> str:
    """The text with the name and the hash that a LoRA has in the end: it was drawn before its file was written."""
    found = re.search(r"<lora:[^:>]*:", text)
    if found is None:
        return text
    text = text.replace(found[0], f"<lora:{lora.name}:", 1)
    lines = text.split("\n")
    if lora.digest and "Lora hashes: " not in lines[-1]:
        start, version, rest = lines[-1].rpartition("Version: ")
        lines[-1] = f"{start}Lora hashes: {quoted(_hashes([lora]))}, {version}{rest}" if version else lines[-1]
    return "\n".join(lines)


def _hashes(loras: Sequence[Called]) -> str:
    return ", ".join(f"{lora.name}: {lora.digest[:12]}" for lora in loras if lora.digest)


def stem_of(name: str) -> str:
    """A run's name, or ``output_name``, as the name of a file without its ending."""
    return "".join("_" if sign in FORBIDDEN or not sign.isprintable() else sign for sign in name).strip(". ") or "lora"


def exported_stem(adapter: Adapter) -> str:
    """The name, without its ending, of the file that is exported for an adapter."""
    config: Mapping[str, Any] = adapter.facts.get("config") or {}
    return stem_of(str(config.get("output_name") or adapter.facts.get("name") or "lora"))


def called(adapter: Adapter) -> Called:
    """How a WebUI knows an adapter: by the file that was exported for it, or by the name that such a file would have."""
    file = (adapter.facts.get("exported") or {}).get("webui")
    if file is None:
        return Called(exported_stem(adapter))
    return called_by(Path(file))


def called_by(file: Path) -> Called:
    """How a WebUI knows the LoRA in a file."""
    return Called(file.stem, _digest(file))


def _digest(file: Path) -> str:
    """``sshs_model_hash`` of a file's header; empty if it cannot be read."""
    try:
        with open_file(file) as stream:
            length = struct.unpack("<Q", stream.read(8))[0]
            header = json.loads(stream.read(length)) if length <= _LONGEST_HEADER else {}
        return str(header["__metadata__"]["sshs_model_hash"])
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return ""
