# SPDX-License-Identifier: Apache-2.0
"""What a finished run's own files say, for a page that shows it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraforge import printable, speaker

from ..problems import Refused
from .folders import Folders, Work

say = speaker(__name__)

_LARGEST = 1 << 28  # bytes of a JSON file that are read


@dataclass(frozen=True)
class Run:
    """A run that a page named.

    Attributes:
        word: it in a command that is given in the work's folder.
    """

    work: Work
    path: Path
    word: str

    @property
    def manifest(self) -> dict[str, Any]:
        """What is known of it: the manifest, with what later commands entered."""
        found = read_json(self.path / "manifest.json")
        if not isinstance(found, dict):
            raise Refused(422, say("{path} cannot be read.", path=f"{self.word}/manifest.json"))
        for place in sorted((self.path / "records").glob("*.json"), key=lambda one: (len(one.name), one.name)):
            record = read_json(place)
            entries = record.get("entries") if isinstance(record, dict) else None
            found |= entries if isinstance(entries, dict) else {}
        return found

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """What the last comparison with the base found, None if there was none."""
        found = read_json(self.path / "eval.json")
        return found if isinstance(found, dict) else None


def find_run(folders: Folders, name: str, run: str) -> Run:
    """A run of a work.

    Raises:
        Refused: if there is none, or it lies in no folder that may be read.
    """
    work = folders.work(name)
    path = folders.inside(run, work)
    if not (path / "manifest.json").is_file():
        raise Refused(404, say("there is no finished run at {path}.", path=printable(run)))
    inside = path.is_relative_to(work.folder)
    return Run(work, path, path.relative_to(work.folder).as_posix() if inside else str(path))


def read_json(file: Path) -> Any:
    """Its value; None if it is not there or no JSON."""
    try:
        if file.stat().st_size > _LARGEST:
            return None
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def measures(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The measures of a comparison, each with both parts of the hold-out together, in the user's words."""
    shown = []
    for new, key in ((True, "comparisons"), (False, "reworded")):
        for one in evaluation.get(key) or ():
            verdict = "too few" if one.get("too_few") else str(one.get("verdict", ""))
            keys = ("measure", "rows", "base", "adapter", "low", "high", "difference", "share", "lower_is_better")
            told = {key: one.get(key) for key in keys}
            shown.append({**told, "name": say(str(one.get("measure"))), "new": new, "verdict": verdict, "verdict_name": say(verdict)})
    order = list(dict.fromkeys(one["measure"] for one in shown))
    return sorted(shown, key=lambda one: order.index(one["measure"]))


def figures(evaluation: Mapping[str, Any]) -> list[dict[str, str]]:
    """Measures that a task gives in words, such as those of drawn pictures."""
    found = evaluation.get("figures")
    return [
        {"name": say(str(name)), "base": str(texts.get("base", "")), "adapter": str(texts.get("adapter", ""))}
        for name, texts in (found.items() if isinstance(found, dict) else ())
    ]


def samples_of(run: Run) -> list[dict[str, Any]]:
    """The pictures that the training drew: ``step``, and ``pictures``, relative to the work, in the order of the prompts."""
    folder = run.path / "samples"
    found = []
    for place in sorted(folder.glob("step-*")) if folder.is_dir() else ():
        files = sorted(place.glob("*.png"))
        if files and place.name[5:].isdigit():
            pictures = [f"{run.word}/samples/{place.name}/{one.name}" for one in files[:24]]
            found.append({"step": int(place.name[5:]), "pictures": pictures})
    return found
