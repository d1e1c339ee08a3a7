# SPDX-License-Identifier: Apache-2.0
"""New files in somebody's folder: whole or not at all, and never in the place of another."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import ConfigError
from ..messages import speaker
from ..runs.disk import usual_rights
from ..runs.folder import settle

say = speaker(__name__)


@contextlib.contextmanager
def for_people(place: Path) -> Iterator[None]:
    """What the disk refuses inside, said about ``place``.

    Raises:
        ConfigError: in place of an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        named = error.filename if isinstance(error.filename, str) and os.path.isdir(error.filename) else place
        raise ConfigError(
            say("nothing can be written in {path}: {reason}. Choose another folder.", path=named, reason=error.strerror or error)
        ) from None


def require_room(folder: Path) -> None:
    """Raises:
    ConfigError: if ``folder`` cannot be a folder, or nothing can be written in it.
    """
    there = next((place for place in (folder, *folder.absolute().parents) if os.path.lexists(place)), folder)
    if not there.is_dir():
        raise ConfigError(say("{path} is a file, and a folder is needed there. Choose another name.", path=there))
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(say("nothing can be written in {path}. Change its rights, or choose another folder.", path=there))


def new_file(path: Path, text: str) -> None:
    """Writes a file that is not there yet, in a folder that is made where there is none.

    Raises:
        ConfigError: if there is one, or it cannot be written.
    """
    with for_people(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(prefix=f".{path.name[:60]}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            usual_rights(Path(aside))
            _take_place(Path(aside), path)
        finally:
            Path(aside).unlink(missing_ok=True)


def new_copy(source: Path, target: Path) -> None:
    """Copies a folder to a place where there is none.

    Raises:
        ConfigError: if there is something, or it cannot be written.
    """
    with for_people(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name[:60]}.", dir=target.parent))
        try:
            for file in sorted(source.rglob("*")):
                place = aside / file.relative_to(source)
                if file.is_dir():
                    place.mkdir()
                else:
                    shutil.copyfile(file, place)
            settle(aside)
            if os.path.lexists(target):
                raise taken(target)
            os.replace(aside, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def taken(path: Path) -> ConfigError:
    """That there is something already, and nothing was written."""
    return ConfigError(say("{path} exists already; nothing was written. Choose another folder, or rename it.", path=path))


def _take_place(aside: Path, path: Path) -> None:
    """Gives ``aside`` its name if that is free; where the file system knows links, whatever another process does at that moment."""
    try:
        os.link(aside, path)
    except FileExistsError:
        raise taken(path) from None
    except OSError:
        if os.path.lexists(path):
            raise taken(path) from None
        os.replace(aside, path)
