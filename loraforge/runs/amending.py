# SPDX-License-Identifier: Apache-2.0
"""How a later command adds to a sealed run: all that it writes, and a record that says so, or nothing at all.

Files are written aside, into RUN/.record-0001; the record, which holds their hashes, is written next, and from then on they count; last,
each takes its place. A process that is killed before the record has changed nothing. One that is killed after it has left files aside that
the record vouches for: ``verify`` knows them, and the next command puts them in place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..messages import speaker
from . import provenance
from .disk import disk_errors, fsync
from .folder import RunFolder, settle, write_text
from .provenance import hash_file
from .records import FOLDER, Chain, Record, forbidden, merged_files, read_chain, record_name, unit
from .seal import LITTER, SEAL, complete_seal, kept_seal, read_manifest
from .signing import SUFFIX, Signer

say = speaker(__name__)

_OLD = ".old"


@dataclass(frozen=True)
class Recorded:
    """What a run can be held to after a command.

    Attributes:
        seal: the run's one seal, as at the end of training; None for a run that was never sealed.
        record: the file of the command's record, relative to the run; None if nothing has changed.
        digest: SHA-256 (hex) of the newest record, or the seal if there is none.
        signed: the number of the key that signed the record; empty for none.
    """

    seal: str | None
    record: str | None
    digest: str | None
    signed: str = ""


@dataclass
class Amendment:
    """What a command is about to add to a run.

    Attributes:
        stage: a folder that is laid out as the run's; what is written there takes its place at the end.
        manifest: what is known of the run so far.
        entries: entries of the manifest that will hold from then on.
        removed: files that will be taken away.
        recorded: is filled in when all is in place.
    """

    stage: RunFolder
    manifest: dict[str, Any]
    entries: dict[str, Any] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    recorded: Recorded = field(default_factory=lambda: Recorded(None, None, None))


@contextlib.contextmanager
def amend(run: RunFolder, command: str, signer: Signer | None = None) -> Iterator[Amendment]:
    """Claims a run for a command. When the block ends well, all that it has written holds, with its record; otherwise nothing does.

    Args:
        command: see ``records.Record``.

    Raises:
        RunError: if the run is not what was sealed, somebody else is writing into it, or the command may not write what it wrote.
    """
    with run.claimed(), disk_errors(run.path):
        run.tidy()
        sealed, seal = read_manifest(run, sealed=True)
        known = run.manifest()
        chain = read_chain(run.path, sealed, seal)
        _finish_last(run, sealed, chain)
        if "files" in sealed or os.path.lexists(run.path / SEAL):
            _require_seal(run, sealed, seal, signer)
        number = len(chain.records) + 1
        stage = stage_of(run.path, number)
        stage.mkdir()
        try:
            amendment = Amendment(RunFolder(stage), known)
            yield amendment
            amendment.recorded = _commit(run, command, sealed, seal, chain, amendment, signer)
        except BaseException:
            if not os.path.lexists(run.path / record_name(number)):  # otherwise the record vouches for what lies aside
                shutil.rmtree(stage, ignore_errors=True)
            raise
        shutil.rmtree(stage, ignore_errors=True)


def stage_of(folder: Path, number: int) -> Path:
    """Where the files of a record are written before they take their place."""
    return folder / f".record-{number:04d}"


def _require_seal(run: RunFolder, manifest: dict[str, Any], seal: str, signer: Signer | None) -> None:
    if isinstance(manifest.get("files"), dict):
        if not os.path.lexists(run.path / SEAL):
            complete_seal(run, signer)
        if kept_seal(run) == seal:
            return
    raise RunError(
        say("{path} is not the file that was sealed; it was left as it is. `loraforge verify` says more.", path=run.manifest_file)
    )


def _commit(
    run: RunFolder, command: str, sealed: dict[str, Any], seal: str, chain: Chain, amendment: Amendment, signer: Signer | None
) -> Recorded:
    stage = amendment.stage.path
    settle(stage)
    written = {name: hash_file(stage / name) for name in _staged(stage)}
    entries = json.loads(json.dumps(amendment.entries, default=str))
    if not isinstance(sealed.get("files"), dict):  # never sealed, so there is nothing that a record could rest on
        _put(run, stage, [*written], amendment.removed)
        if entries:
            run.write_manifest({**sealed, **entries})
        return Recorded(None, None, None)
    before = merged_files(sealed, chain.records)
    units = {unit(name) for name in written}
    files: dict[str, str | None] = {name: value for name, value in written.items() if before.get(name) != value}
    files |= {name: None for name in before if (unit(name) in units and name not in written) or name in amendment.removed}
    changed = {key: value for key, value in entries.items() if key == "chosen" or amendment.manifest.get(key) != value}
    newest = chain.records[-1].digest if chain.records else seal
    if not files and not changed:
        _put(run, stage, [name for name in written if not _same(run.path / name, written[name])], [])
        return Recorded(seal, None, newest)
    number = len(chain.records) + 1
    record = {
        **{"number": number, "seal": seal, "previous": newest, "command": command, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")},
        **{"versions": provenance.versions(), "files": dict(sorted(files.items())), "entries": changed},
    }
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    made = Record(number, hashlib.sha256(text.encode()).hexdigest(), command, str(record["time"]), files, changed)
    if reason := forbidden(made, sealed, list(chain.records)):
        raise RunError(f"{run.path / made.name}: {reason}")
    (run.path / FOLDER).mkdir(exist_ok=True)
    name = run.path / made.name
    if signer:  # before the record: without it, a signature means nothing
        write_text(name.with_name(name.name + SUFFIX), signer.sign(text.encode(), name.name))
    else:
        name.with_name(name.name + SUFFIX).unlink(missing_ok=True)
    write_text(name, text)
    _put(run, stage, [*written], [key for key, value in files.items() if value is None])
    return Recorded(seal, made.name, made.digest, signer.public.name if signer else "")


def _staged(stage: Path) -> list[str]:
    """What lies aside and waits for its place; what file managers left there, and what it replaces, do not."""
    names = [path.relative_to(stage).as_posix() for path in sorted(stage.rglob("*")) if path.is_symlink() or not path.is_dir()]
    return [name for name in names if name.rpartition("/")[2] not in LITTER and not name.startswith(f"{_OLD}/")]


def _same(path: Path, value: str) -> bool:
    return path.is_file() and not path.is_symlink() and hash_file(path) == value


def _put(run: RunFolder, stage: Path, written: list[str], removed: list[str]) -> None:
    """What was written aside takes its place: whole folders where a folder is replaced."""
    for name in sorted({unit(name) for name in written}):
        place = run.path / name
        place.parent.mkdir(exist_ok=True)
        if place.is_dir() and not place.is_symlink():
            old = stage / _OLD / name
            old.parent.mkdir(parents=True, exist_ok=True)
            os.replace(place, old)
        os.replace(stage / name, place)
        fsync(place.parent)
    for name in removed:
        (run.path / name).unlink(missing_ok=True)


def _finish_last(run: RunFolder, manifest: dict[str, Any], chain: Chain) -> None:
    """Takes away what a killed command left before its record, and puts in place what one left after it.

    Raises:
        RunError: if what lies aside is not what the record names.
    """
    for stage in sorted(run.path.glob(".record-*")):
        if not re.fullmatch(r"\.record-\d{4,9}", stage.name) or stage.is_symlink() or not stage.is_dir():
            continue
        if chain.records and stage == stage_of(run.path, chain.records[-1].number):
            record, files = chain.records[-1], merged_files(manifest, chain.records)
            left = _staged(stage)
            wrong = [name for name in left if name not in files or not _same(stage / name, files[name])]
            if wrong:
                raise RunError(say("{path} is not the file that {record} names.", path=stage / wrong[0], record=record.name))
            _put(run, stage, left, [name for name, value in record.files.items() if value is None])
        shutil.rmtree(stage)
