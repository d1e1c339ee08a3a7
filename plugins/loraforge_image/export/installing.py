# SPDX-License-Identifier: Apache-2.0
"""Puts an exported file where a WebUI looks for it; and says before any training what would be in the way."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from loraforge import ExportError, RunConfig, hash_file, speaker, usual_rights

from ..families.infotext import FORBIDDEN, stem_of

say = speaker(__name__)

_SUFFIXES = (".safetensors", ".json", ".png")
_LONGEST = 255  # bytes of a name, on nearly all file systems
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # on Windows


def name_problem(output_name: str | None, output_dir: str) -> str:
    """Why the file could not be called so; empty if it can."""
    if output_name is not None:
        odd = set(output_name) & FORBIDDEN or not output_name.isprintable()
        if not output_name.strip(". ") or odd or output_name.startswith(".") or _DEVICES.fullmatch(output_name.strip()):
            return say(
                "output_name: '{name}' must not be empty, begin with a dot, be a device's name (con, nul) or contain any of {signs}",
                name=output_name,
                signs=': , < > / \\ " | ? *',
            )
    stem = stem_of(output_name or Path(output_dir).name)
    length = len(os.fsencode(f".{stem}.safetensors.12345678"))  # as it is called while it is written
    if length > _LONGEST:
        key = "output_name" if output_name is not None else "output_dir"
        return say("{key}: the file's name would be too long by {n} bytes. Set a shorter output_name.", key=key, n=length - _LONGEST)
    return ""


def place_problem(config: RunConfig, webui: str | None, output_name: str | None, overwrite: bool) -> str:
    """Why nothing could be installed in the WebUI's folder when all is trained; empty if all is well, or nothing is wanted."""
    if not webui:
        return ""
    place = Path(webui).expanduser()
    try:
        folder = lora_folder(place)
        refused = not os.access(folder, os.W_OK | os.X_OK)
    except ExportError as error:
        return str(error)
    except OSError as error:
        return say("webui: {path}: {reason}.", path=place, reason=error)
    if refused:
        return say("webui: {path}: nothing can be written there. Change its rights, or choose another folder.", path=folder)
    stem = stem_of(output_name or Path(config.output_dir).name)
    taken = [folder / f"{stem}{suffix}" for suffix in _SUFFIXES if os.path.lexists(folder / f"{stem}{suffix}")]
    if not taken or overwrite or _installed_before(config, taken[0]):
        return ""
    return say(
        "webui: {path} is there already. --overwrite (overwrite: true) replaces it when all is trained; output_name gives the new file "
        "another name.",
        path=taken[0],
    )


def _installed_before(config: RunConfig, there: Path) -> bool:
    """Whether the file is this very run's, which was interrupted after it had installed it."""
    run = Path(config.output_dir)
    mine = run / "export" / "webui" / there.name
    try:
        return mine.is_file() and there.is_file() and not (run / "manifest.sha256").exists() and hash_file(mine) == hash_file(there)
    except OSError:
        return False


def install(files: Sequence[Path], webui: Path, overwrite: bool) -> Path:
    """Copies the files, whole or not at all.

    Returns:
        The folder that they are in now.

    Raises:
        ExportError: if something else is there, or the folder takes nothing.
    """
    folder = lora_folder(webui)
    taken = [folder / f.name for f in files if _differs(f, folder / f.name)]
    if taken and not overwrite:
        raise ExportError(
            [
                *(say("{path} is there already, and differs.", path=file) for file in taken),
                say("Nothing was installed. --overwrite replaces it; output_name gives the file another name. The export is in {path}.",
                    path=files[0].parent),
            ]
        )  # fmt: skip
    try:
        for file in files:
            _copy(file, folder / file.name)
    except OSError as error:
        raise ExportError(say("cannot write to {path}: {error}.", path=folder, error=error)) from None
    return folder


def lora_folder(place: Path) -> Path:
    """Where a WebUI's LoRA files lie.

    Raises:
        ExportError: if it has no such folder.
    """
    tried = [place / "models" / "Lora", place / "models" / "loras", place / "ComfyUI" / "models" / "loras"]
    if place.is_dir() and place.name.lower() in ("lora", "loras"):
        return place
    found = next((folder for folder in tried if folder.is_dir()), None)
    if found is not None:
        return found
    if not place.exists():
        raise ExportError(say("webui: there is no folder {path}.", path=place))
    if not place.is_dir():
        raise ExportError(say("webui: {path} is a file; the folder of a WebUI is wanted.", path=place))
    raise ExportError(say("webui: {path} has no folder for LoRA files. Looked for: {tried}.", path=place, tried=", ".join(map(str, tried))))


def _differs(mine: Path, there: Path) -> bool:
    """Whether something else stands where a file is to go."""
    return there.exists() and (not there.is_file() or hash_file(there) != hash_file(mine))


def _copy(source: Path, target: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".", delete=False) as aside:
        partial = Path(aside.name)
    try:
        shutil.copyfile(source, partial)
        usual_rights(partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
