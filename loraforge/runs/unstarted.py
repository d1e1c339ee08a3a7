# SPDX-License-Identifier: Apache-2.0
"""A training that ends before its first step: what it wrote into its folder goes again, so that the same command can be given again.

Nothing that was there before is taken away. What happened is kept in a file beside the folder, ``output/run.failed.jsonl``.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from ..errors import RunError
from ..files import LONGEST_LOG, read_file
from .disk import usual_rights
from .folder import FAILED, RUNNING, STOPPED, RunFolder
from .records import FOLDER
from .seal import SEAL

_STARTS = ("samples/step-000000", "samples/base")  # the pictures from before the first step
_WRITTEN = ("findings.csv", "samples/grid.png", *(f"{place}/*" for place in _STARTS), "tensorboard/events.out.tfevents.*")
_LARGEST = 64_000_000  # bytes of a file that is kept in memory, to be put back


def log_beside(folder: Path) -> Path:
    """Where the log of trainings that did not reach their first step is kept."""
    place = folder if folder.name not in ("", "..") else folder.resolve()
    return place.with_name(f"{place.name}.failed.jsonl")


def remember(folder: RunFolder) -> dict[Path, bytes]:
    """The files that a training writes over before its first step, as they are."""
    found: dict[Path, bytes] = {}
    for path in _written(folder):
        with contextlib.suppress(OSError):
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= _LARGEST:
                found[path] = path.read_bytes()
    return found


def never_stepped(folder: RunFolder) -> bool:
    """Whether the run in ``folder`` ended, however it did, before its first step: there is nothing in it that could be continued."""
    try:
        manifest = folder.manifest()
    except RunError:
        return False
    if manifest.get("status") not in (RUNNING, FAILED, STOPPED) or manifest.get("advice"):
        return False
    made = (folder.adapter, folder.exports, folder.path / FOLDER, folder.path / SEAL)
    if any(os.path.lexists(path) for path in made) or any((folder.path / "checkpoints").glob("*")):
        return False
    return not any(entry.get("event") in ("StepFinished", "CheckpointSaved") for _, entry in _entries(folder.log_file))


def vacate(folder: RunFolder, started: float | None = None, before: Mapping[Path, bytes] | None = None) -> Path | None:
    """Takes away what a training wrote that ended before its first step.

    Args:
        started: when it began, in seconds since 1970; by default what its manifest says. What is older is somebody else's.
        before: what ``remember`` found.

    Returns:
        where its log is now; None if it had none.
    """
    since = started if started is not None else _began(folder)
    kept = _move_log(folder, since)
    for path in (folder.manifest_file, folder.config_file, *_written(folder)):
        with contextlib.suppress(OSError):
            if path in (folder.manifest_file, folder.config_file) or path.lstat().st_mtime >= since - 0.01:
                path.unlink()
    for path, data in (before or {}).items():
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    for place in (*(folder.path / start for start in _STARTS), folder.samples, folder.path / "tensorboard", folder.path / "checkpoints"):
        with contextlib.suppress(OSError):  # something is in it
            place.rmdir()
    return kept


def append_log(path: Path, lines: str) -> None:
    """Adds lines to the log beside a folder.

    Raises:
        OSError: if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("ab") as file:
        file.write(lines.encode("utf-8", "surrogatepass"))
    if new:
        usual_rights(path)


def _written(folder: RunFolder) -> list[Path]:
    return [path for pattern in _WRITTEN for path in sorted(folder.path.glob(pattern))]


def _began(folder: RunFolder) -> float:
    """When the run began, by its manifest, in whole seconds; now, if it does not say so: then nothing counts as the run's."""
    try:
        return datetime.strptime(str(folder.manifest().get("started")), "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except (RunError, ValueError, OverflowError):
        return time.time()


def _move_log(folder: RunFolder, since: float) -> Path | None:
    """Moves this training's lines of the log; earlier ones stay where they are."""
    earlier: list[str] = []
    own: list[str] = []
    for line, entry in _entries(folder.log_file):
        told = entry.get("time")
        (earlier if isinstance(told, int | float) and told < since - 0.01 else own).append(line)
    if not own:
        return None
    target = log_beside(folder.path)
    try:
        append_log(target, "".join(f"{line}\n" for line in own))
        if earlier:
            folder.log_file.write_bytes("".join(f"{line}\n" for line in earlier).encode("utf-8", "surrogatepass"))
        else:
            folder.log_file.unlink()
    except OSError:
        return folder.log_file if folder.log_file.exists() else None
    return target


def _entries(log: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """The lines of a log, each with what it says; a torn line says nothing."""
    try:
        text = read_file(log, LONGEST_LOG).decode("utf-8", "surrogatepass")
    except (OSError, UnicodeError, ValueError):
        return
    for line in text.split("\n"):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError:
            found = {}
        yield line, found if isinstance(found, dict) else {}
