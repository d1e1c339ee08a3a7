# SPDX-License-Identifier: Apache-2.0
"""The layout of a run's folder, and the only code that writes into it.

    output_dir/
      config.yaml        every effective value
      manifest.json      hashes of data rows, base files and template; versions; seeds; metrics; manifest.sha256 is its seal
      records/           what later commands added, see ``records``
      log.jsonl          one event a line; loss.png; tensorboard/
      checkpoints/step-000050/     adapter/ in PEFT's layout; state.json and state.safetensors to resume from
      samples/           what the model made at each save, if it makes pictures
      adapter/           the trained adapter, in PEFT's layout
      export/            what the exporters wrote

Every file and folder is written aside and renamed: it is whole or it is absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import RunError
from ..files import open_file, read_file, read_text, require_file
from ..messages import speaker
from ..terminal import quoted
from .disk import disk_errors, fsync, usual_rights, writing
from .lease import leased, moving
from .records import FOLDER as RECORDS
from .records import merged, read_chain, read_json

say = speaker(__name__)

MANIFEST_LIMIT = 2_000_000_000  # bytes: it lists every row
FORMAT = 2  # of the manifest; 1 had no sides by question and no seal
RUNNING, FINISHED, FAILED, STOPPED = "running", "finished", "failed", "stopped"
INTERRUPTED = "interrupted"  # no manifest says so: it says "running", and nobody runs


# What a killed process leaves beside the file or folder that it was writing: ``.adapter.x1b2c3d4``.
_OURS = r"config\.yaml|manifest\.json(?:\.minisig)?|manifest\.sha256|findings\.csv|eval\.json|review-keys\.json|model-card\.md|adapter"
_HALF = r"\.(?:%s)(?P<old>\.old)?\.[a-z0-9_]{8}|\.[\w-]+\.partial\.png"


def write_text(path: Path, text: str) -> None:
    """Writes a whole UTF-8 file, or leaves what was there. Makes no folder: one that has vanished must not come back unnoticed."""
    with writing(path):
        handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            usual_rights(Path(aside))
            os.replace(aside, path)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
        fsync(path.parent)


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """What ``manifest.json`` holds."""
    return json.dumps(manifest, indent=1, ensure_ascii=False, default=str) + "\n"


@contextlib.contextmanager
def atomic_dir(folder: Path) -> Iterator[Path]:
    """A new empty folder that takes the place of ``folder`` when the block ends well, and vanishes otherwise."""
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            yield partial
            settle(partial)
            if os.path.lexists(folder):
                old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
                try:
                    os.replace(folder, old / folder.name)
                    os.replace(partial, folder)
                finally:
                    _put_back(old)
            else:
                os.replace(partial, folder)
            fsync(folder.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _put_back(old: Path) -> None:
    """What was moved away goes back to its place if nothing new has taken it; otherwise it goes for good."""
    for inner in old.iterdir():
        if not os.path.lexists(old.parent / inner.name):
            os.replace(inner, old.parent / inner.name)
    shutil.rmtree(old, ignore_errors=True)


def settle(folder: Path) -> None:
    """All of it onto the disk, with the usual permissions: temporary folders, and files that safetensors writes, are private otherwise."""
    for path in [*folder.rglob("*"), folder]:
        if path.is_symlink():
            continue
        usual_rights(path)
        fsync(path)


def atomic_write(folder: Path, name: str, data: bytes) -> Path:
    """Writes a file under a name that is free in ``folder``: ``name.png``, ``name-2.png`` ...; nothing is overwritten.

    Raises:
        RunError: if the disk refuses.
    """
    with disk_errors(folder / name):
        folder.mkdir(parents=True, exist_ok=True)
        return _kept(folder, name, data)


def _kept(folder: Path, name: str, data: bytes) -> Path:
    wanted = Path(name)
    number = 1
    while True:
        path = folder / (name if number == 1 else f"{wanted.stem}-{number}{wanted.suffix}")
        handle, partial = tempfile.mkstemp(prefix=f".{wanted.stem}.", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            usual_rights(Path(partial))
            os.link(partial, path)  # fails where the name is taken, even by another process
            return path
        except FileExistsError:
            number += 1
        finally:
            Path(partial).unlink(missing_ok=True)


# --- nested states without pickle ---------------------------------------------------------------------------------------------


def _flatten(value: Any, tensors: dict[str, Any], path: str) -> Any:
    """``value`` as JSON, with its tensors moved to ``tensors``. Dictionaries become pairs, because JSON has no integer keys."""
    if hasattr(value, "detach"):
        tensors[path] = value.detach().cpu().contiguous().clone()
        return {"tensor": path}
    if isinstance(value, Mapping):
        return {"pairs": [[key, _flatten(item, tensors, f"{path}/{key}")] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"items": [_flatten(item, tensors, f"{path}/{i}") for i, item in enumerate(value)]}
    return value


def _unflatten(value: Any, tensors: Mapping[str, Any]) -> Any:
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "pairs" in value:
        return {key: _unflatten(item, tensors) for key, item in value["pairs"]}
    return [_unflatten(item, tensors) for item in value["items"]]


def save_state(folder: Path, state: Mapping[str, Any], position: Mapping[str, Any]) -> None:
    """``state.safetensors`` and ``state.json``: the nested state of a loop, and where it stood."""
    import safetensors.torch

    tensors: dict[str, Any] = {}
    shape = _flatten(state, tensors, "")
    file = folder / "state.safetensors"
    safetensors.torch.save_file(tensors, file)
    write_text(folder / "state.json", json.dumps({"position": dict(position), "state": shape, "sha256": _sha256(file)}) + "\n")


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with open_file(file) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def load_state(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(state, position), as ``save_state`` was given them.

    Raises:
        ValueError: if the tensors are not those that were written; other errors if the files are torn in other ways.
    """
    import safetensors.torch

    written = json.loads(read_text(folder / "state.json"))
    if written.get("sha256") not in (None, _sha256(folder / "state.safetensors")):
        raise ValueError(say("{file} is not what was written", file="state.safetensors"))
    require_file(folder / "state.safetensors")
    tensors = safetensors.torch.load_file(folder / "state.safetensors")
    return _unflatten(written["state"], tensors), written["position"]


# --- the folder --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunFolder:
    """A run's folder."""

    path: Path

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def manifest_file(self) -> Path:
        return self.path / "manifest.json"

    @property
    def log_file(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def exports(self) -> Path:
        return self.path / "export"

    @property
    def saves(self) -> Path:
        return self.path / "saves"

    def occupied(self) -> bool:
        """Whether a run was begun here."""
        return self.manifest_file.exists() or self.config_file.exists()

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Nobody else writes into this folder meanwhile, see ``lease``. The claim ends with the process, however that ends.

        Raises:
            RunError: if somebody does already; it says who.
        """
        with leased(self.path):
            yield

    def set_aside(self) -> Path:
        """Renames the folder so that a new run can take its place; nothing is lost."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        kept = self.path.with_name(f"{self.path.name}.{stamp}")
        number = 1
        while kept.exists():
            number += 1
            kept = self.path.with_name(f"{self.path.name}.{stamp}-{number}")
        with moving(self.path):
            os.replace(self.path, kept)
        return kept

    def put_back(self, kept: Path) -> None:
        """Undoes ``set_aside``, where nothing has taken the folder's place."""
        with moving(self.path):
            os.replace(kept, self.path)

    def start(self, config: Mapping[str, Any]) -> None:
        """Makes the folder, with the effective config in it.

        Raises:
            RunError: if it cannot be written to.
        """
        with disk_errors(self.path.absolute()):
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(self.config_file, yaml.safe_dump(dict(config), allow_unicode=True, sort_keys=False))

    def tidy(self) -> None:
        """Takes away what a killed process left half-written, and puts back what it was about to replace. Only for whoever has claimed
        the folder: another process may be writing the same things."""
        saves = self.saves.glob("*")
        for place in (self.path, self.path / "checkpoints", self.samples, self.exports, self.path / RECORDS, *saves):
            for left in sorted(place.glob(".*")):
                found = re.fullmatch(_HALF % (_OURS if place == self.path else ".+?"), left.name)
                if found and found["old"] and left.is_dir():
                    _put_back(left)
                elif found and left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                elif found:
                    left.unlink(missing_ok=True)

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Replaces ``manifest.json``."""
        write_text(self.manifest_file, manifest_text(manifest))

    def sealed_manifest(self) -> tuple[dict[str, Any], str]:
        """What ``manifest.json`` says, without what later commands recorded; and the SHA-256 (hex) of its bytes, the run's seal.

        Raises:
            RunError: if this is no run's folder, or the file is damaged.
        """
        try:
            data = read_file(self.manifest_file, MANIFEST_LIMIT)
            found = read_json(data)
        except (FileNotFoundError, NotADirectoryError):
            if not self.path.exists():
                raise RunError(say("{path}: there is no such folder. `loraforge runs` lists runs.", path=self.path.absolute())) from None
            raise RunError(say("{path} is no run: it has no manifest.json. `loraforge runs` lists runs.", path=self.path)) from None
        except (OSError, ValueError) as error:
            raise RunError(say("{path} cannot be read: {error}.", path=self.manifest_file, error=error)) from None
        if not isinstance(found, dict):
            raise RunError(say("{path} cannot be read: {error}.", path=self.manifest_file, error="not a JSON object"))
        return found, hashlib.sha256(data).hexdigest()

    def manifest(self) -> dict[str, Any]:
        """What is known of the run: ``manifest.json``, and what later commands recorded. Whoever reads a run reads it here.

        Raises:
            RunError: if this is no run's folder, or the file is damaged, or a record is none of this run's.
        """
        found, seal = self.sealed_manifest()
        chain = read_chain(self.path, found, seal)
        if chain.problems:
            lines = [f"{self.path / name}: {sentence}" for name, sentence in chain.problems]
            raise RunError([*lines, say("`loraforge verify {run}` says more.", run=quoted(self.path))])
        return merged(found, chain.records)

    def begun(self) -> bool:
        """Whether all is there that makes it a run. A folder that vanishes may take only a part along, or come back empty."""
        return self.config_file.exists() and self.manifest_file.exists()

    @contextlib.contextmanager
    def unless_vanished(self) -> Iterator[None]:
        """What fails inside because the folder has vanished is passed over."""
        try:
            yield
        except (OSError, RunError):
            if self.begun():
                raise

    # --- checkpoints -------------------------------------------------------------------------------------------------------

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint of ``step`` lies."""
        return self.path / "checkpoints" / f"step-{step:06d}"

    def checkpoints(self, whole: bool = True) -> list[Path]:
        """The whole checkpoints, oldest first, or all folders that are named so: a torn one is none."""
        found = [p for p in (self.path / "checkpoints").glob("step-*") if (p / "state.json").is_file() or not whole]
        steps = sorted(int(p.name.removeprefix("step-")) for p in found if re.fullmatch("step-[0-9]{6,18}", p.name))
        return [path for step in dict.fromkeys(steps) if (path := self.checkpoint(step)) in found]

    def prune(self, keep: int, best: int | None = None) -> None:
        """Deletes all but the newest ``keep`` checkpoints and the one of step ``best``, and what an interrupted run left half-written."""
        for old in self.checkpoints()[:-keep]:
            if best is None or old != self.checkpoint(best):
                with contextlib.suppress(OSError):  # renamed first: half a checkpoint must not look like a whole one
                    gone = Path(tempfile.mkdtemp(prefix=f".{old.name}.", dir=old.parent))
                    os.replace(old, gone / old.name)
                shutil.rmtree(old, ignore_errors=True)
        for partial in (self.path / "checkpoints").glob(".step-*"):
            shutil.rmtree(partial, ignore_errors=True)


def find_runs(folder: Path, depth: int = 3) -> list[RunFolder]:
    """The runs in ``folder`` and below, newest first. What vanishes meanwhile is passed over: a run may be training there."""
    found: list[tuple[float, Path]] = []
    places = [folder]
    for _ in range(depth + 1):
        inner: list[Path] = []
        for place in places:
            with contextlib.suppress(OSError):
                found.append(((place / "manifest.json").stat().st_mtime, place))
            with contextlib.suppress(OSError):
                inner += [place / name for name in sorted(os.listdir(place)) if os.path.isdir(place / name)]
        places = inner
    return [RunFolder(path) for _, path in sorted(found, reverse=True)]
