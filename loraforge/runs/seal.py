# SPDX-License-Identifier: Apache-2.0
"""The seal of a finished run: what is under it, and how it is set. Later commands add records, see ``records`` and ``amending``.

manifest.sha256    the seal: SHA-256 of manifest.json; whoever keeps it elsewhere can prove the manifest
 `- manifest.json    names and hashes; never written again
     |- every file of the run's folder that a reader relies on
     |- every data row, the base's files, the template
     `- the code, the versions, the runs before it
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..files import read_file, read_text
from ..messages import speaker
from ..terminal import quoted
from .folder import MANIFEST_LIMIT, RunFolder, manifest_text, write_text
from .provenance import hash_file
from .records import FOLDER
from .signing import SUFFIX, Signer

say = speaker(__name__)

SEAL = "manifest.sha256"
SIGNATURE = f"manifest.json{SUFFIX}"
# answers/ grows whenever somebody asks the run; tensorboard/ repeats log.jsonl for a viewer that writes there too; reproduced/ is a run of
# its own, with its own seal. samples/ and log.jsonl are under the seal: they are evidence, and nothing writes there after the run.
_LEFT_OUT = re.compile(rf"^(manifest\.json|manifest\.json\.minisig|manifest\.sha256|{FOLDER}|answers|tensorboard|reproduced(-\d+)?|\..*)$")
# What file managers leave behind.
LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")


def seal_run(run: RunFolder, manifest: dict[str, Any], signer: Signer | None = None) -> str:
    """Adds ``files`` to the manifest, writes it for the last time, and seals it.

    To be called when nothing of the run is written any more: after ``RunFinished`` was told, which completes the log and the loss curve.

    Args:
        signer: signs the manifest; None leaves it unsigned.

    Returns:
        the seal: SHA-256 (hex) of manifest.json.
    """
    manifest["files"] = _hashes(run)
    for path in (run.config_file, run.adapter):  # the walk passes over what vanishes
        path.stat()
    return _write(run, manifest_text(manifest), signer)


def complete_seal(run: RunFolder, signer: Signer | None = None) -> str:
    """Sets the seal of a run whose sealing was interrupted, or whose seal was deleted, if it is as its manifest and records name it.

    Returns:
        the seal.

    Raises:
        RunError: if one of the files is not as they name it.
    """
    manifest, digest = read_manifest(run)
    found = _hashes(run)
    wrong = sorted(name for name, value in manifest["files"].items() if found.get(name) != value)
    if wrong:
        raise RunError(
            say(
                "{run} has no seal ({seal}), and cannot be sealed again, because these files are not what its manifest names: {files}.",
                run=run.path,
                seal=SEAL,
                files=", ".join(wrong),
            )
        )
    if signer and not os.path.lexists(run.path / SIGNATURE):
        write_text(run.path / SIGNATURE, signer.sign(read_file(run.manifest_file, MANIFEST_LIMIT), run.manifest_file.name))
    write_text(run.path / SEAL, _line(run, digest))
    return digest


def require_sound(run: RunFolder, names: Sequence[str]) -> None:
    """For commands that make something new of a part of a run: what was altered must not come into a record.

    Args:
        names: files or folders of the run, relative. A run that was never sealed is let through.

    Raises:
        RunError: if the manifest, or one of those files, is not what was sealed.
    """
    manifest, digest = read_manifest(run)
    files = manifest.get("files")
    if not isinstance(files, dict):
        return
    sealed = {name: value for name, value in files.items() if _among(name, names)}
    found = _hashes(run, names)
    wrong = sorted(name for name in {*sealed, *found} if sealed.get(name) != found.get(name))
    if os.path.lexists(run.path / SEAL) and kept_seal(run) != digest:
        wrong.insert(0, run.manifest_file.name)
    if wrong:
        raise RunError(
            say(
                "{run}: altered since it was sealed: {files}. Nothing was done. `loraforge verify {word}` says more.",
                run=run.path,
                word=quoted(run.path),
                files=", ".join(wrong),
            )
        )


def sealed_files(root: Path) -> Iterator[tuple[str, Path]]:
    """(relative name, path) of everything that belongs under the seal, sorted. Links are named, and not followed."""
    found = []
    for folder, inner, names in os.walk(root):
        here = Path(folder)
        depth = len(here.relative_to(root).parts)
        links = [name for name in inner if (here / name).is_symlink()]
        # Half-written files and folders stand, hidden, beside what they become.
        hidden = depth == 1 and here.name in ("checkpoints", "export")
        inner[:] = [name for name in inner if not (_LEFT_OUT.match(name) if depth == 0 else hidden and name.startswith("."))]
        found += [here / name for name in [*names, *links] if name not in LITTER and not (depth == 0 and _LEFT_OUT.match(name))]
    yield from sorted((path.relative_to(root).as_posix(), path) for path in found)


def kept_seal(run: RunFolder) -> str:
    """What ``manifest.sha256`` says; empty if it says nothing. An earlier LoRAForge may have left two seals: the one that fits."""
    file = run.path / SEAL
    try:
        lines = read_text(file, 1 << 16).splitlines() if file.is_file() and not file.is_symlink() else []
        seals = [line.split()[0].lower() for line in lines[:2] if line.split()]
        now = hash_file(run.manifest_file) if len(seals) > 1 else ""
        return now if now in seals else next(iter(seals), "")
    except (OSError, ValueError):
        return ""


def read_manifest(run: RunFolder, *, sealed: bool = False) -> tuple[dict[str, Any], str]:
    """The manifest and the SHA-256 (hex) of its file, the run's seal.

    Args:
        sealed: without what later commands recorded.

    Raises:
        RunError: if there is none that can be read, or a record is none of this run's.
    """
    if run.manifest_file.is_symlink():
        raise RunError(say("{path} is a link to another file; it was not read.", path=run.manifest_file))
    manifest, digest = run.sealed_manifest()
    return (manifest if sealed else run.manifest()), digest


def _hashes(run: RunFolder, names: Sequence[str] | None = None) -> dict[str, str]:
    """The hashes of the files under the seal, or of those among ``names``."""
    return {
        name: hash_file(path)
        for name, path in sealed_files(run.path)
        if (names is None or _among(name, names)) and path.is_file() and not path.is_symlink()
    }


def _among(name: str, names: Sequence[str]) -> bool:
    """Whether a file is one of ``names`` or lies in one of them."""
    return any(name == other or name.startswith(f"{other}/") for other in names)


def _write(run: RunFolder, text: str, signer: Signer | None) -> str:
    """Manifest, signature and seal, in this order: a crash at any moment leaves a run that ``complete_seal`` seals."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    for old in (SEAL, SIGNATURE):
        (run.path / old).unlink(missing_ok=True)
    write_text(run.manifest_file, text)
    if signer:
        write_text(run.path / SIGNATURE, signer.sign(text.encode(), run.manifest_file.name))
    write_text(run.path / SEAL, _line(run, digest))
    return digest


def _line(run: RunFolder, digest: str) -> str:
    return f"{digest}  {run.manifest_file.name}\n"  # `sha256sum -c` reads it
