# SPDX-License-Identifier: Apache-2.0
"""Reading files that somebody brought: none of them waits for ever, and none of them is endless.

A path may name a pipe, a device, a socket or a file that the system makes up; to read one hangs or fills the memory. Whatever is read goes
through here, or is looked at here before a library reads it. What cannot be read is an ``OSError`` whose ``strerror`` is a sentence.
"""

from __future__ import annotations

import errno
import functools
import io
import os
import stat
import zipfile
from pathlib import Path

from .messages import speaker

say = speaker(__name__)

LARGEST = 200_000_000
"""Bytes of a text or a table that is read into memory, packed or not: more than anybody writes, and less than fills a machine."""
LONGEST_LOG = 2_000_000_000  # bytes of a run's own log
_NONBLOCK = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class NoFileError(OSError):
    """Something that is not read, for people."""

    def __str__(self) -> str:
        return str(self.strerror)


def cache_folder() -> Path:
    """Where this user's computer keeps what can be made again: encoded pictures, bases that were made of GGUF files. It need not exist."""
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home()))) / "loraforge" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loraforge"


def require_file(path: str | os.PathLike[str], limit: int | None = None) -> os.stat_result:
    """Looks at a file without opening it.

    Args:
        limit: the most bytes that it may have.

    Raises:
        OSError: if it is not there, is no ordinary file, or is larger.
    """
    return _checked(os.stat(path), path, limit)


def open_file(path: str | os.PathLike[str], limit: int | None = None) -> io.BufferedReader:
    """An ordinary file, opened for reading; otherwise as ``require_file``."""
    require_file(path, limit)  # before it is opened: opening a device may already do something
    handle = os.open(path, os.O_RDONLY | _NONBLOCK)
    try:
        _checked(os.fstat(handle), path, limit)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_file(path: str | os.PathLike[str], limit: int = LARGEST) -> bytes:
    """All bytes of an ordinary file; otherwise as ``require_file``."""
    with open_file(path, limit) as file:
        data = file.read(os.fstat(file.fileno()).st_size)
        while more := file.read(1 << 20):  # it has grown meanwhile, or some systems tell no size
            data += more
            if len(data) > limit:
                raise _too_large(path, len(data), limit)
    return data


def read_text(path: str | os.PathLike[str], limit: int = LARGEST, encoding: str = "utf-8", errors: str = "strict") -> str:
    """The text of an ordinary file, with line ends as ``\\n``; otherwise as ``require_file``."""
    return read_file(path, limit).decode(encoding, errors).replace("\r\n", "\n").replace("\r", "\n")


def require_files(folder: str | os.PathLike[str]) -> None:
    """Looks at the files of a folder, and of the folders in it, before a library is given it.

    Raises:
        OSError: naming the first that is no ordinary file.
    """
    left = [os.fspath(folder)]
    for place in left:
        try:
            names = sorted(os.listdir(place))
        except PermissionError:  # what cannot be read by us is read by no library
            continue
        for path in (os.path.join(place, name) for name in names):
            if not os.path.isdir(path):
                if os.path.exists(path):
                    require_file(path)
            elif place == left[0]:
                left.append(path)


def unpacked_size(data: bytes) -> int:
    """How many bytes come out of a zip archive, such as a workbook, counting only what is packed tightly: texts, not pictures. zipfile
    reads no more of a member than the directory promises.

    Raises:
        zipfile.BadZipFile: if it is none.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return sum(info.file_size for info in archive.infolist() if info.file_size > 2 * info.compress_size)


def _checked(told: os.stat_result, path: str | os.PathLike[str], limit: int | None) -> os.stat_result:
    if not stat.S_ISREG(told.st_mode):
        number = errno.EISDIR if stat.S_ISDIR(told.st_mode) else errno.EINVAL
        raise NoFileError(number, say("it is no file but {kind}", kind=_kind(told.st_mode)), os.fspath(path))
    if told.st_dev in _made_up():
        raise NoFileError(errno.EINVAL, say("it is no file but something that the system makes up"), os.fspath(path))
    if limit is not None and told.st_size > limit:
        raise _too_large(path, told.st_size, limit)
    return told


def _too_large(path: str | os.PathLike[str], size: int, limit: int) -> NoFileError:
    text = say("it has {n} MB; at most {most} MB are read of such a file", n=max(1, size // 1_000_000), most=max(1, limit // 1_000_000))
    return NoFileError(errno.EFBIG, text, os.fspath(path))


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISDIR, say("a folder")),
        (stat.S_ISFIFO, say("a pipe")),
        (stat.S_ISSOCK, say("a socket")),
        (stat.S_ISCHR, say("a device")),
        (stat.S_ISBLK, say("a device")),
    )
    return next((name for is_one, name in kinds if is_one(mode)), say("something else"))


@functools.cache
def _made_up() -> frozenset[int]:
    """The file systems whose files are not stored but made up when they are read: some of them never end, or wait."""
    found = set()
    for place in ("/proc", "/sys"):
        if os.path.ismount(place):
            found.add(os.stat(place).st_dev)
    return frozenset(found)
