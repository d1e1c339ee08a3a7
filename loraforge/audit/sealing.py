"""The seal of a finished run: what is under it, how it is set, and how a later command takes up what it wrote.

manifest.sha256    the seal: SHA-256 of manifest.json; whoever keeps it elsewhere can prove the manifest
 `- manifest.json    names and hashes
     |- every file of the run's folder that a reader relies on
     |- every data row, the base's files, the template
     `- the code, the versions, the runs before it
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..messages import speaker
from ..provenance import hash_file
from ..rundir import RunDir, write_text

say = speaker(__name__)

SEAL = "manifest.sha256"
# answers/ grows whenever somebody asks the run; tensorboard/ repeats log.jsonl for a viewer that writes there too; reproduced/ is a run of
# its own, with its own seal. samples/ and log.jsonl are under the seal: they are evidence, and nothing writes there after the run.
_LEFT_OUT = re.compile(r"^(manifest\.json|manifest\.sha256|answers|tensorboard|reproduced(-\d+)?|\..*)$")
# What file managers leave behind.
_LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")


def seal(run: RunDir, manifest: dict[str, Any]) -> str:
    """Adds ``files`` to the manifest, writes it and seals it.

    To be called when nothing of the run is written any more: after ``RunFinished`` was told, which completes the log and the loss curve.

    Returns:
        the seal: SHA-256 (hex) of manifest.json.
    """
    manifest["files"] = _hashes(run)
    return _write(run, manifest)


def amend(run: RunDir, names: Sequence[str], **changes: Any) -> str | None:
    """Takes up what a later command wrote into a sealed run, and seals it anew.

    Other files keep the hashes that they had, so nothing else that was altered is covered up.

    Args:
        names: files or folders of the run, relative: ``eval.json``, ``export/gguf``.
        changes: entries of the manifest.

    Returns:
        the new seal, or the old one if nothing has changed; None for a run that was never sealed.

    Raises:
        RunError: if the manifest is not the one that was sealed.
    """
    manifest, digest = read_manifest(run)
    files = manifest.get("files")
    if not isinstance(files, dict) or not (run.path / SEAL).is_file():
        if changes:
            run.write_manifest({**manifest, **changes})
        return None
    if kept_seal(run) != digest:
        raise RunError(
            say("{path} is not the file that was sealed; it was left as it is. `loraforge verify` says more.", path=run.manifest_file)
        )
    kept = {name: value for name, value in files.items() if not _among(name, names)}
    after = {**manifest, **changes, "files": dict(sorted({**kept, **_hashes(run, names)}.items()))}
    return digest if json.loads(json.dumps(after, default=str)) == manifest else _write(run, after)


def require_sound(run: RunDir, names: Sequence[str]) -> None:
    """For commands that make something new of a part of a run: what was altered must not come under a fresh seal.

    Args:
        names: files or folders of the run, relative. A run that was never sealed is let through.

    Raises:
        RunError: if the manifest, or one of those files, is not what was sealed.
    """
    manifest, digest = read_manifest(run)
    files = manifest.get("files")
    if not isinstance(files, dict) or not (run.path / SEAL).is_file():
        return
    sealed = {name: value for name, value in files.items() if _among(name, names)}
    found = _hashes(run, names)
    wrong = sorted(name for name in {*sealed, *found} if sealed.get(name) != found.get(name))
    if kept_seal(run) != digest:
        wrong.insert(0, run.manifest_file.name)
    if wrong:
        raise RunError(
            say(
                "{run}: altered since it was sealed: {files}. Nothing was done. `loraforge verify {run}` says more.",
                run=run.path,
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


def kept_seal(run: RunDir) -> str:
    """What ``manifest.sha256`` says; empty if it says nothing."""
    file = run.path / SEAL
    try:
        words = file.read_text(encoding="utf-8").split() if file.is_file() and not file.is_symlink() else []
    except (OSError, ValueError):
        return ""
    return words[0].lower() if words else ""


def read_manifest(run: RunDir) -> tuple[dict[str, Any], str]:
    """The manifest and the SHA-256 (hex) of its bytes.

    Raises:
        RunError: if there is none that can be read.
    """
    if run.manifest_file.is_symlink():
        raise RunError(say("{path} is a link to another file; it was not read.", path=run.manifest_file))
    try:
        return run.manifest(), hash_file(run.manifest_file)
    except RecursionError:
        raise RunError(say("{path} cannot be read: {error}.", path=run.manifest_file, error=say("nested too deeply"))) from None


def _hashes(run: RunDir, names: Sequence[str] | None = None) -> dict[str, str]:
    """The hashes of the files under the seal, or of those among ``names``."""
    return {
        name: hash_file(path)
        for name, path in sealed_files(run.path)
        if (names is None or _among(name, names)) and path.is_file() and not path.is_symlink()
    }


def _among(name: str, names: Sequence[str]) -> bool:
    """Whether a file is one of ``names`` or lies in one of them."""
    return any(name == other or name.startswith(f"{other}/") for other in names)


def _write(run: RunDir, manifest: Mapping[str, Any]) -> str:
    (run.path / SEAL).unlink(missing_ok=True)  # a crash in between must not leave the seal of another manifest
    run.write_manifest(manifest)
    digest = hash_file(run.manifest_file)
    write_text(run.path / SEAL, f"{digest}  {run.manifest_file.name}\n")  # `sha256sum -c` reads it
    return digest
