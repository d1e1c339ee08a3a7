# SPDX-License-Identifier: Apache-2.0
"""What a look at a run finds, part by part, and in which state each part is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..messages import speaker
from ..runs.folder import RunFolder

if TYPE_CHECKING:
    from ..plugin_api.host import PluginHost

say = speaker(__name__)

UNCHANGED, ALTERED, MISSING, ADDED = "unchanged", "altered", "missing", "added"
DIFFERS, UNCHECKED, UNRECORDED = "differs", "not checked", "not recorded"
BAD = (ALTERED, MISSING, ADDED)


@dataclass(frozen=True)
class Part:
    """One thing that was looked at.

    Attributes:
        kind: manifest, seal, record, signature, file, later (a file that a record vouches for), figures, base, data, template, code,
            version or lineage.
        name: which: a file, a row, a library.
        state: unchanged, altered, missing, added, differs, not checked, or not recorded.
        sentence: what that means, for a reviewer.
    """

    kind: str
    name: str
    state: str
    sentence: str


@dataclass(frozen=True)
class Verification:
    """What ``verify`` found.

    Attributes:
        seal: SHA-256 of manifest.json as it is now.
        anchored: whether the seal that was kept elsewhere is that one, or a record's; None if none was given.
        newest: SHA-256 of the last record, or the seal if there is none.
        signed: who signed the manifest and all records, if that was proved.
    """

    run: Path
    seal: str
    anchored: bool | None
    parts: tuple[Part, ...]
    newest: str = ""
    signed: str | None = None

    @property
    def sound(self) -> bool:
        """Whether nothing was altered, is missing or was added."""
        return not any(part.state in BAD for part in self.parts)

    def of(self, kind: str, *states: str) -> list[Part]:
        """The parts of one kind, in these states if some are named."""
        return [part for part in self.parts if part.kind == kind and (not states or part.state in states)]

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        parts = [asdict(part) for part in self.parts]
        found = {"run": str(self.run), "sound": self.sound, "seal": self.seal, "anchored": self.anchored}
        return {**found, "newest": self.newest, "signed": self.signed, "parts": parts}


class Verifier:
    """Goes through the manifest of a run and collects parts. It may come from anybody: an entry is used only once its form is known."""

    def __init__(self, host: PluginHost, run: RunFolder, manifest: Mapping[str, Any]) -> None:
        self.host, self.run, self.manifest = host, run, manifest
        self.parts: list[Part] = []

    def add(self, kind: str, name: object, state: str, sentence: str) -> None:
        """Names come from files: what a terminal would obey is not passed on."""
        shown = "".join(c if c.isprintable() else "?" for c in str(name))
        self.parts.append(Part(kind, shown, state, "".join(c if c.isprintable() else " " for c in sentence)))

    def sound(self, kind: str) -> bool:
        """Whether everything of a kind that was looked at is as it was."""
        return all(part.state == UNCHANGED for part in self.parts if part.kind == kind)

    def entry(self, kind: str, *path: str, form: type = dict) -> Any:
        """An entry of the manifest, or None, which is told."""
        value: Any = self.manifest
        broken = False
        for key in path:
            broken = broken or not isinstance(value, Mapping | None)
            value = value.get(key) if isinstance(value, Mapping) else None
        name = ".".join(path)
        if value is None and not broken:
            self.add(kind, name, UNRECORDED, say("the manifest says nothing of it (an earlier LoRAForge, or an unfinished run)"))
        elif broken or not isinstance(value, form):
            self.add(kind, name, ALTERED, say("the manifest's entry is not of the form that LoRAForge writes"))
            return None
        return value
