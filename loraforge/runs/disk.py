# SPDX-License-Identifier: Apache-2.0
"""What the disk refuses, as messages; and what it has really taken."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from ..errors import RunError
from ..messages import speaker

say = speaker(__name__)

_FULL = (errno.ENOSPC, errno.EDQUOT)
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ESTALE)


@contextlib.contextmanager
def writing(place: Path) -> Iterator[None]:
    """Inside, ``place`` is being written. Whatever the disk refuses is an ``OSError`` that names it, not a half-written file beside it.
    (A write that fails names nothing; safetensors and shutil have errors of their own.)"""
    try:
        yield
    except shutil.Error as error:  # of copytree: texts about each file
        said = re.search(r"\[Errno (\d+)\]", str(error))
        if said is None:
            raise
        raise OSError(int(said[1]), os.strerror(int(said[1])), str(place)) from None
    except OSError as error:
        half = isinstance(error.filename, str | bytes) and os.fsdecode(error.filename).startswith(str(place.parent / f".{place.name}."))
        if error.errno is not None and (error.filename is None or half):
            error.filename, error.filename2 = str(place), None
        raise
    except Exception as error:
        said = re.search(r"\(os error (\d+)\)", str(error)) if type(error).__name__ == "SafetensorError" else None
        if said is None:
            raise
        raise OSError(int(said[1]), os.strerror(int(said[1])), str(place)) from None


@contextlib.contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """What the disk refuses inside becomes a message that names the place and the way out.

    Args:
        place: named if the error names none.

    Raises:
        RunError: with that message. An ``OSError`` that has no number is none of the disk's and stays what it is.
    """
    try:
        with writing(place):
            yield
    except OSError as error:
        if error.errno is None:
            raise
        raise RunError(_explain(error, place)) from None


def _explain(error: OSError, place: Path) -> str:
    path = error.filename if error.filename is not None else place
    if error.errno in _FULL:
        return say("{path}: the disk is full. Make room and try again (train: with --resume).", path=path)
    if error.errno in _GONE:
        return say("{path}: it has vanished, or something else stands there. Look there and try again (train: with --resume).", path=path)
    return say("{path}: {reason}. Mend that, or choose another place, and try again (train: with --resume).", path=path, reason=error)


def usual_rights(path: Path) -> None:
    """What temporary files and folders keep to their owner gets the rights that this process gives to new ones (the umask)."""
    mask = os.umask(0o077)
    os.umask(mask)
    os.chmod(path, (0o777 if path.is_dir() else 0o666) & ~mask)


def fsync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk: a power cut may otherwise leave what was renamed empty."""
    if os.name == "nt":
        return  # nothing that is open for reading can be flushed there
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot for folders
            raise
    finally:
        os.close(handle)
