# SPDX-License-Identifier: Apache-2.0
"""What later commands recorded of a sealed run. Its manifest is never written again; each command adds one file, and all form a chain.

    manifest.json         as sealed at the end of training; its SHA-256 is the run's seal
    records/0001.json     what `eval` wrote: names and hashes, entries of the manifest, and the SHA-256 of manifest.json
    records/0002.json     what `export` wrote, and the SHA-256 of records/0001.json

A record may add or replace what a command makes of a trained adapter, never what was trained, on which data, or how. Everything here may
come from a stranger, who can write any record: ``read_chain`` names what no command of LoRAForge would have written.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import read_file
from ..messages import speaker

say = speaker(__name__)

FOLDER = "records"
EVALUATION, REVIEW_KEYS, CARD, CHECKPOINTS = "eval.json", "review-keys.json", "model-card.md", "checkpoints.png"
_HEX = re.compile("[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}")
_LARGEST = 1 << 26  # bytes; a record of five hundred judged questions has a thousandth of it

# What each command may write and enter. The adapter is promote's alone, and only as a copy of a sealed checkpoint's.
_FILES: dict[str, tuple[str, ...]] = {
    "eval": (EVALUATION, REVIEW_KEYS, CARD),
    "grade": (CARD,),
    "export": ("export/", CARD),
    "promote": ("adapter/", "export/", EVALUATION, CARD, CHECKPOINTS),
    "card": (CARD,),
}
_ENTRIES: dict[str, tuple[str, ...]] = {
    "eval": ("evaluation",),
    "grade": ("grades",),
    "export": ("exports",),
    "promote": ("chosen", "evaluation", "grades", "exports"),
    "card": (),
}


@dataclass(frozen=True)
class Record:
    """One command's additions to a run.

    Attributes:
        digest: SHA-256 (hex) of the record's own file.
        command: eval, grade, export, promote or card.
        time: when, with the offset from UTC; as its writer says.
        files: names in the run's folder with the SHA-256 (hex) of what was written there; None for what was taken away.
        entries: entries of the manifest that hold from then on.
    """

    number: int
    digest: str
    command: str
    time: str
    files: Mapping[str, str | None]
    entries: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its file, relative to the run's folder."""
        return record_name(self.number)


@dataclass(frozen=True)
class Chain:
    """The records of a run, as far as each follows from the one before, and what is wrong with the others: (name, sentence)."""

    records: tuple[Record, ...] = ()
    problems: tuple[tuple[str, str], ...] = ()


def record_name(number: int) -> str:
    """``records/0001.json``"""
    return f"{FOLDER}/{number:04d}.json"


def read_json(data: bytes) -> Any:
    """A JSON document in which no key stands twice: of two values, one reader would show the first and another rely on the second.

    Raises:
        ValueError: if it is none.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
            raise ValueError(say("the key '{key}' stands there twice", key=twice))
        return found

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=once)
    except RecursionError:
        raise ValueError(say("nested too deeply")) from None


def read_chain(folder: Path, manifest: Mapping[str, Any], seal: str) -> Chain:
    """The records in a run's folder. Nothing else of the folder is read.

    Args:
        manifest: as it was sealed.
        seal: SHA-256 (hex) of manifest.json.
    """
    place = folder / FOLDER
    if not os.path.lexists(place):
        return Chain()
    if place.is_symlink() or not place.is_dir():
        return Chain(problems=((FOLDER, say("is no folder of this run")),))
    names = sorted(os.listdir(place))
    numbers = sorted(int(name[:-5]) for name in names if re.fullmatch(r"([0-9]{4}|[1-9][0-9]{4,8})\.json", name))
    numbers = [number for number in numbers if number]
    problems = [(f"{FOLDER}/{name}", say("is no record of this run")) for name in names if not _belongs(name, numbers)]
    records: list[Record] = []
    whole = True
    for number in range(1, max(numbers, default=0) + 1):
        if number not in numbers:
            problems.append((record_name(number), say("is gone, and later records are there")))
            whole = False
            if len(problems) > 100:  # a file called 999999999.json
                break
            continue
        before = records[-1].digest if records else seal
        found = _read(folder, number, seal, before if whole else None)
        if isinstance(found, Record) and (reason := forbidden(found, manifest, records)):
            found = reason
        if isinstance(found, str):
            problems.append((record_name(number), found))
            whole = False
        elif whole:
            records.append(found)
    return Chain(tuple(records), tuple(problems))


def _belongs(name: str, numbers: list[int]) -> bool:
    """Whether a file may stand among the records: one of them, its signature, or what a killed process left of either."""
    found = re.fullmatch(r"([0-9]{4,9})\.json(?:\.minisig)?|\.[0-9]{4,9}\.json(?:\.minisig)?\.[a-z0-9_]{8}", name)
    if found is None or not found[1]:
        return found is not None
    number = int(found[1])
    # A signature is written before its record: a command may have been killed in between.
    return f"{number:04d}" == found[1] and (number in numbers or number == max(numbers, default=0) + 1)


def _read(folder: Path, number: int, seal: str, before: str | None) -> Record | str:
    """The record of a number, or what is wrong with it.

    Args:
        before: the hash that it must name; None if a record before it is wrong, so that nothing can follow.
    """
    path = folder / record_name(number)
    if path.is_symlink() or not path.is_file():
        return say("is no file of this run")
    try:
        if path.stat().st_size > _LARGEST:
            return say("is not of the form that LoRAForge writes")
        data = read_file(path, _LARGEST)
        found = read_json(data)
    except (OSError, ValueError) as error:
        return say("cannot be read: {error}", error=error)
    if not _formed(found):
        return say("is not of the form that LoRAForge writes")
    if found["number"] != number:
        return say("calls itself record {number}", number=found["number"])
    if found["seal"] != seal:
        return say("belongs to another manifest")
    if before is None:
        return say("follows a record that is wrong or gone")
    if found["previous"] != before:
        return say("does not follow what stands before it: that was altered, or belongs to another chain")
    digest = hashlib.sha256(data).hexdigest()
    return Record(number, digest, found["command"], found["time"], found["files"], found["entries"])


def _formed(found: Any) -> bool:
    """Whether a record has the entries that LoRAForge writes, and no others."""
    kinds: dict[str, type] = {
        **{"number": int, "seal": str, "previous": str, "command": str, "time": str},
        **{"versions": dict, "files": dict, "entries": dict},
    }
    if not isinstance(found, dict) or set(found) != set(kinds):
        return False
    if not all(type(found[key]) is kind for key, kind in kinds.items()):
        return False
    hashes = all(value is None or (isinstance(value, str) and _HEX.fullmatch(value)) for value in found["files"].values())
    return bool(hashes and _HEX.fullmatch(found["previous"]) and _TIME.fullmatch(found["time"]))


# --- what a record may say ----------------------------------------------------------------------------------------------------


def forbidden(record: Record, manifest: Mapping[str, Any], before: list[Record]) -> str:
    """Why no command of LoRAForge wrote this record; otherwise nothing."""
    if record.command not in _FILES:
        return say("is of a command that this LoRAForge does not know: {command}", command=record.command)
    if not isinstance(manifest.get("files"), dict):
        return say("belongs to a run that was never sealed")
    for name, value in record.files.items():
        if not _may_write(record.command, name):
            return say("names {name}, which `{command}` does not write", name=name, command=record.command)
        if value is None and name == CARD:
            return say("takes {name} away", name=name)
    for key, value in record.entries.items():
        if key not in _ENTRIES[record.command] or not isinstance(value, dict | None):
            return say("changes the entry '{key}', which `{command}` does not", key=key, command=record.command)
    return _not_promoted(record, manifest, before) if record.command == "promote" else ""


def _may_write(command: str, name: str) -> bool:
    pieces = name.split("/")
    # A backslash leads elsewhere on Windows, a lone surrogate is no name, and control characters are nobody's choice.
    odd = any(c == "\\" or unicodedata.category(c) in ("Cc", "Cs") for c in name)
    plain = not odd and all(piece not in ("", ".", "..") for piece in pieces)
    allowed = _FILES[command]
    inside = (pieces[0] == "adapter" and len(pieces) > 1) or (pieces[0] == "export" and len(pieces) > 2)
    return plain and (name in allowed or (f"{pieces[0]}/" in allowed and inside))


def _not_promoted(record: Record, manifest: Mapping[str, Any], before: list[Record]) -> str:
    """The adapter after a promotion must be, file by file, that of a checkpoint that the sealed manifest names."""
    chosen = record.entries.get("chosen")
    step = chosen.get("step") if isinstance(chosen, Mapping) else None
    if type(step) is not int or not isinstance(chosen, Mapping) or chosen.get("by") != "promote":
        return say("does not say which checkpoint was promoted")
    after = merged_files(manifest, [*before, record])
    there = _under(after, "adapter/")
    if not there or there != _under(manifest["files"], f"checkpoints/step-{step:06d}/adapter/"):
        return say("makes files the run's adapter that are not those of the checkpoint of step {step}, as it was sealed", step=step)
    return ""


def _under(files: Mapping[str, Any], folder: str) -> dict[str, Any]:
    return {name.removeprefix(folder): value for name, value in files.items() if name.startswith(folder)}


# --- manifest and records together --------------------------------------------------------------------------------------------


def merged_files(manifest: Mapping[str, Any], records: list[Record] | tuple[Record, ...]) -> dict[str, Any]:
    """The files of a run with their hashes after these records."""
    files = manifest.get("files")
    found = dict(files) if isinstance(files, Mapping) else {}
    for record in records:
        gone = {name for name, value in record.files.items() if value is None}
        found = {name: value for name, value in {**found, **record.files}.items() if name not in gone}
    return dict(sorted(found.items())) if records else found


def merged(manifest: Mapping[str, Any], records: tuple[Record, ...]) -> dict[str, Any]:
    """What is known of a run after these records: the manifest with their entries and files."""
    if not records:
        return dict(manifest)
    found = dict(manifest)
    for record in records:
        found |= record.entries
        chosen = record.entries.get("chosen")
        if isinstance(chosen, Mapping):  # the figures are those of the step that the adapter is from
            metrics = found.get("metrics")
            found["metrics"] = {**(metrics if isinstance(metrics, Mapping) else {}), "held_out_loss": chosen.get("held_out_loss")}
    return {**found, "files": merged_files(manifest, records)}


def unit(name: str) -> str:
    """What is replaced as a whole when a record is put in place: the adapter, one export, or a single file."""
    pieces = name.split("/")
    return "/".join(pieces[: {"adapter": 1, "export": 2}.get(pieces[0], len(pieces))])
