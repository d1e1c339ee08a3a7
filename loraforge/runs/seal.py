"""The seal of a finished run: what is under it, how it is set, and how a later command takes up what it wrote.

manifest.sha256    the seal: SHA-256 of manifest.json; whoever keeps it elsewhere can prove the manifest
 `- manifest.json    names and hashes
     |- every file of the run's folder that a reader relies on
     |- every data row, the base's files, the template
     `- the code, the versions, the runs before it
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..messages import speaker
from ..terminal import quoted
from .folder import RunFolder, manifest_text, write_text
from .provenance import hash_file

say = speaker(__name__)

SEAL = "manifest.sha256"
# answers/ grows whenever somebody asks the run; tensorboard/ repeats log.jsonl for a viewer that writes there too; reproduced/ is a run of
# its own, with its own seal. samples/ and log.jsonl are under the seal: they are evidence, and nothing writes there after the run.
_LEFT_OUT = re.compile(r"^(manifest\.json|manifest\.sha256|answers|tensorboard|reproduced(-\d+)?|\..*)$")
# What file managers leave behind.
_LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")


def seal_run(run: RunFolder, manifest: dict[str, Any]) -> str:
    """Adds ``files`` to the manifest, writes it and seals it.

    To be called when nothing of the run is written any more: after ``RunFinished`` was told, which completes the log and the loss curve.

    Returns:
        the seal: SHA-256 (hex) of manifest.json.
    """
    manifest["files"] = _hashes(run)
    for path in (run.config_file, run.adapter):  # the walk passes over what vanishes
        path.stat()
    return _write(run, manifest)


def reseal(run: RunFolder, names: Sequence[str], **changes: Any) -> str | None:
    """Takes up what a later command wrote into a sealed run, and seals it anew.

    Other files keep the hashes that they had, so nothing else that was altered is covered up.

    Args:
        names: files or folders of the run, relative: ``eval.json``, ``export/gguf``.
        changes: entries of the manifest.

    Returns:
        the new seal, or the old one if nothing has changed; None for a run that was never sealed.

    Raises:
        RunError: if the manifest is not the one that was sealed; or if its seal is gone and a file is not as the manifest names it.
    """
    manifest, digest = read_manifest(run)
    files, sealed = manifest.get("files"), os.path.lexists(run.path / SEAL)
    if "files" not in manifest and not sealed:
        if changes:
            run.write_manifest({**manifest, **changes})
        return None
    if not isinstance(files, dict) or (sealed and kept_seal(run) != digest):
        raise RunError(
            say("{path} is not the file that was sealed; it was left as it is. `loraforge verify` says more.", path=run.manifest_file)
        )
    kept = {name: value for name, value in files.items() if not _among(name, names)}
    if not sealed:
        _require_all(run, kept)
    after = {**manifest, **changes, "files": dict(sorted({**kept, **_hashes(run, names)}.items()))}
    return digest if sealed and json.loads(json.dumps(after, default=str)) == manifest else _write(run, after)


def _require_all(run: RunFolder, files: Mapping[str, Any]) -> None:
    """For a run whose sealing was interrupted, or whose seal was deleted: it is sealed again only as it was.

    Raises:
        RunError: if one of the files is not as the manifest names it.
    """
    found = _hashes(run)
    wrong = sorted(name for name, value in files.items() if found.get(name) != value)
    if wrong:
        raise RunError(
            say(
                "{run} has no seal ({seal}), and cannot be sealed again, because these files are not what its manifest names: {files}.",
                run=run.path,
                seal=SEAL,
                files=", ".join(wrong),
            )
        )


def require_sound(run: RunFolder, names: Sequence[str]) -> None:
    """For commands that make something new of a part of a run: what was altered must not come under a fresh seal.

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
        found += [here / name for name in [*names, *links] if name not in _LITTER and not (depth == 0 and _LEFT_OUT.match(name))]
    yield from sorted((path.relative_to(root).as_posix(), path) for path in found)


def kept_seal(run: RunFolder) -> str:
    """What ``manifest.sha256`` says; empty if it says nothing. If it was left with two seals (see ``_write``), the one that fits."""
    file = run.path / SEAL
    try:
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() and not file.is_symlink() else []
        seals = [line.split()[0].lower() for line in lines[:2] if line.split()]
        now = hash_file(run.manifest_file) if len(seals) > 1 else ""
        return now if now in seals else next(iter(seals), "")
    except (OSError, ValueError):
        return ""


def read_manifest(run: RunFolder) -> tuple[dict[str, Any], str]:
    """The manifest and the SHA-256 (hex) of its bytes.

    Raises:
        RunError: if there is none that can be read.
    """
    if run.manifest_file.is_symlink():
        raise RunError(say("{path} is a link to another file; it was not read.", path=run.manifest_file))
    return run.manifest(), hash_file(run.manifest_file)


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


def _write(run: RunFolder, manifest: Mapping[str, Any]) -> str:
    """Manifest and seal, so that a crash at any moment leaves a manifest with its seal; at the first sealing, one that ``reseal`` seals."""
    text = manifest_text(manifest)
    digest = hashlib.sha256(text.encode()).hexdigest()
    line = f"{digest}  {run.manifest_file.name}\n"  # `sha256sum -c` reads it
    before = kept_seal(run)
    if before and before == hash_file(run.manifest_file):
        # Two files cannot be replaced at once: meanwhile both seals hold.
        write_text(run.path / SEAL, f"{line}{before}  {run.manifest_file.name}\n")
    write_text(run.manifest_file, text)
    write_text(run.path / SEAL, line)
    return digest
