# SPDX-License-Identifier: Apache-2.0
"""Who writes into a run's folder: a lease that lies in it, so that every process that sees the folder sees the lease.

On one machine the operating system's lock on the file decides; it ends with the process, however that ends. Other machines may share
the folder over a network, where locks reach only sometimes: there the lease counts as long as its holder shows that it lives, by the
file's time.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..messages import speaker

say = speaker(__name__)

NAME = ".lease"
BEAT, STALE = 15.0, 180.0  # seconds between signs of life, and after which a holder on another machine counts as gone
_AGREED = 0.5  # seconds
_LOCKED = 1 << 30  # the byte that is locked on Windows, where a locked one cannot be read

_held: dict[str, Lease] = {}


class Busy(Exception):
    """Somebody holds the lease; ``args[0]`` is what it says."""


class Lease:
    """The lease on one folder, held by this process until ``release``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: list[Path] = []
        self._handle = -1
        self._over = threading.Event()
        self._take()
        threading.Thread(target=self._live, name="lease", daemon=True).start()

    @property
    def _file(self) -> Path:
        return self.folder / NAME

    def _take(self) -> None:
        self._made = _make(self.folder)
        try:
            self._handle = _acquired(self._file)
        except BaseException:
            self._unmake()
            raise

    def _live(self) -> None:
        while not self._over.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self._handle if os.utime in os.supports_fd else self._file)

    def _give(self) -> None:
        handle, self._handle = self._handle, -1
        with contextlib.suppress(OSError):
            if os.name != "nt" and _same(handle, self._file):
                self._file.unlink()  # while it is locked: nobody can have taken it up
        with contextlib.suppress(OSError):
            os.close(handle)
        if os.name == "nt":
            with contextlib.suppress(OSError):
                self._file.unlink()

    def _unmake(self) -> None:
        for place in reversed(self._made):
            with contextlib.suppress(OSError):  # something is in it now
                place.rmdir()
        self._made = []

    def release(self) -> None:
        """Gives the lease back; a folder that was made for it, and is empty, goes."""
        self._over.set()
        self._give()
        self._unmake()

    def step_out(self) -> None:
        """Before the folder is renamed, or another one takes its place: the lease does not travel. ``step_in`` follows."""
        self._give()
        with contextlib.suppress(OSError):
            self.folder.rmdir()  # an empty one would stand in the way

    def step_in(self) -> None:
        """Takes the lease on what the folder is now; somebody else may have been quicker.

        Raises:
            Busy: then.
        """
        self._take()


def held(folder: Path) -> Lease | None:
    """The lease that this process holds on ``folder``."""
    return _held.get(os.path.abspath(folder))


def in_use(folder: Path) -> bool:
    """Whether somebody writes into ``folder`` now; asked without writing there. Of a process that was killed the file stays, unlocked."""
    if held(folder) is not None:
        return True
    try:
        handle = os.open(folder / NAME, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        return not isinstance(error, FileNotFoundError)
    try:
        fresh = time.time() - os.fstat(handle).st_mtime < STALE
        locked, machine = _lock(handle), _read(handle).get("machine", _machine())
        return locked is False or (fresh and (locked is None or machine != _machine()))
    finally:
        os.close(handle)  # and with it the lock, if it was got


@contextlib.contextmanager
def moving(folder: Path) -> Iterator[None]:
    """Inside, ``folder`` is renamed or replaced; the lease that this process has on it stays with the name."""
    lease = held(folder)
    if lease is not None:
        lease.step_out()
    try:
        yield
    finally:
        if lease is not None:
            with _told(folder):
                lease.step_in()


@contextlib.contextmanager
def leased(folder: Path) -> Iterator[None]:
    """Nobody else writes into ``folder`` meanwhile.

    Raises:
        RunError: if somebody does already; it says who, and since when.
    """
    try:
        with _told(folder):
            lease = Lease(folder)
    except OSError:  # nothing can be written there, which is told where it is written
        yield
        return
    key = os.path.abspath(folder)
    _held[key] = lease
    try:
        yield
    finally:
        del _held[key]
        lease.release()


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except Busy as busy:
        raise RunError(_who(folder, busy.args[0])) from None


def _who(folder: Path, found: Mapping[str, Any]) -> str:
    text = say("{path}: another run is writing there now. Wait for it, or choose another output_dir.", path=folder)
    if "pid" not in found:
        return text
    text += " " + say("It is process {pid} on {host}, since {since}.", pid=found["pid"], host=found.get("host"), since=found.get("since"))
    if "age" in found:
        text += " " + say(
            "That is another machine, whose last sign of life came {age} s ago; after {stale} s without one its place may be taken.",
            age=round(found["age"]),
            stale=round(STALE),
        )
    return text


# --- the file -------------------------------------------------------------------------------------------------------------------


def _make(folder: Path) -> list[Path]:
    """Makes a folder; those that were not there before, the outermost first."""
    missing = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _acquired(file: Path) -> int:
    """The open lease file, locked where that is possible, with this process in it.

    Raises:
        Busy: with what the holder has written.
        OSError: if it cannot be written.
    """
    while True:
        handle, refused = _opened(file)
        try:
            locked = _lock(handle)
            found = _read(handle)
            if locked is False:
                raise Busy(found)
            if not _same(handle, file):  # given back and removed since it was opened
                os.close(handle)
                continue
            foreign = found.get("machine") != _machine()
            if found and (foreign or locked is None):
                age = _age(handle, file.parent)
                if age < STALE:
                    raise Busy({**found, "age": age} if foreign else found)
            if refused is not None:
                raise refused
            mine = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S%z"), "machine": _machine()}
            os.ftruncate(handle, 0)
            os.lseek(handle, 0, os.SEEK_SET)
            os.write(handle, json.dumps(mine).encode())
            if locked is None:  # two may have come at once
                time.sleep(_AGREED)
                if _read(handle) != mine:
                    raise Busy(_read(handle))
            return handle
        except BaseException as error:
            with contextlib.suppress(OSError):
                if not isinstance(error, Busy) and refused is None:
                    file.unlink()  # half a lease is none
            with contextlib.suppress(OSError):
                os.close(handle)
            raise


def _opened(file: Path) -> tuple[int, OSError | None]:
    """The open lease file; of another user's, which can be read only, why it cannot be written."""
    how = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        return os.open(file, os.O_RDWR | os.O_CREAT | how, 0o666), None
    except PermissionError as error:
        return os.open(file, os.O_RDONLY | how), error


def _lock(handle: int) -> bool | None:
    """Whether the lock was got; None where the drive has none."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(handle, _LOCKED, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _read(handle: int) -> dict[str, Any]:
    """What the holder wrote; empty if nobody has yet."""
    os.lseek(handle, 0, os.SEEK_SET)
    try:
        found = json.loads(os.read(handle, 4096))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _same(handle: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(file))
    except OSError:
        return False


def _age(handle: int, folder: Path) -> float:
    """Seconds since the holder's last sign of life, by the clock of the drive: two machines' clocks differ."""
    try:
        with tempfile.NamedTemporaryFile(prefix=NAME, dir=folder) as now:
            return max(0.0, os.fstat(now.fileno()).st_mtime - os.fstat(handle).st_mtime)
    except OSError:
        return max(0.0, time.time() - os.fstat(handle).st_mtime)


def _machine() -> str:
    """What no other running system has: locks of processes on one of them reach each other."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return platform.node()
