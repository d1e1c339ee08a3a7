# SPDX-License-Identifier: Apache-2.0
"""What one program does with a LoRA file: the programs, the verdicts, and a finding of a rule."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

READERS = ("A1111", "Forge", "ComfyUI", "SD.Next", "kohya", "diffusers")
FORGE_COMFY = ("Forge", "ComfyUI")
LEVELS = ("note", "unknown", "drops", "wrong", "refuses")


@dataclass(frozen=True)
class Finding:
    """What one reader does with a file.

    Attributes:
        reader: one of ``READERS``.
        severity: note, unknown (nobody measured it), drops (modules are lost), wrong (the effect is another one),
            refuses (nothing is loaded).
        modules: how many modules it concerns.
    """

    reader: str
    severity: str
    text: str
    modules: int = 0


def each(readers: Iterable[str], severity: str, text: str, modules: int = 0) -> list[Finding]:
    """The same finding for several readers."""
    return [Finding(reader, severity, text, modules) for reader in readers]
