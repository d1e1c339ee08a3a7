# SPDX-License-Identifier: Apache-2.0
"""Commands that take minutes or hours: each in a process of its own that needs neither the page nor the studio (``keeper``)."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraforge import printable, speaker, why

from ..problems import Refused
from . import keeper as keeping
from .asking import QUIET
from .folders import Folders, Work, locked, replace_text
from .processes import alive, end, identity

say = speaker(__name__)

_GRACE = 20.0  # seconds after which a command that nobody is known to work for has been given up
_TAIL = 200  # lines of what a job prints that are shown
_KILLED = (-9, 137)  # by the system
_APART = getattr(subprocess, "CREATE_NO_WINDOW", 0) | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # of Windows' consoles


@dataclass(frozen=True)
class Job:
    """One command that was given.

    Attributes:
        kind: what it is for: train, sample, export ...
        about: what the page wants to know again, such as the run.
    """

    work: Work
    id: str
    kind: str
    argv: Sequence[str]
    started: float
    about: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Where it keeps what it prints."""
        return self.work.hidden / "jobs" / self.id

    @property
    def state(self) -> str:
        """``running``, ``done``, ``stopped`` (by somebody), ``failed``, or ``gone``: its end was seen by nobody, as after a power cut."""
        if self._ended is None and self._alive:
            return "running"
        ended = self._ended  # it may have come just now
        if ended is None:  # its keeper was ended too, and what the command printed last says how it went
            told = self.result
            return "gone" if not isinstance(told, dict) else "failed" if "error" in told else "done"
        if ended.get("code") == 0:
            return "done"
        ours = self.code not in _KILLED or (self.folder / "stop-now").exists()
        return "stopped" if self.stopping and ours else "failed"

    @property
    def _alive(self) -> bool:
        told = _object(self.folder / "process.json")
        if told is None:
            told = _object(self.folder / "keeper.json")
        if told is None:
            return abs(time.time() - self.started) < _GRACE
        ours = (("pid", "identity"), ("keeper", "keeper_identity"))  # a keeper that was killed leaves a command that goes on
        return any(alive(told.get(pid), told.get(known)) for pid, known in ours)

    @property
    def stopping(self) -> bool:
        """Whether somebody has asked it to end."""
        return (self.folder / "stop").exists()

    @property
    def _ended(self) -> dict[str, Any] | None:
        return _object(self.folder / "ended.json")

    @property
    def code(self) -> int | None:
        """Its exit code, below 0 the signal that ended it; None while there is none."""
        code = (self._ended or {}).get("code")
        return code if isinstance(code, int) else None

    @property
    def result(self) -> Any:
        """The JSON that it printed, None if there is none (yet)."""
        return _json(self.folder / "out.txt")

    def lines(self, tail: int = _TAIL) -> list[str]:
        """The last lines of what it said beside its result."""
        return _last_lines(self.folder / "err.txt", tail)

    def problems(self) -> list[str]:
        """Why it was not done, in its own words."""
        told = self.result.get("error") if isinstance(self.result, dict) else None
        if isinstance(told, list) and told:
            return [str(line) for line in told]
        if self.code in _KILLED:
            return [say("the system ended the command; that happens where memory runs out."), *self.lines(3)]
        reason = (self._ended or {}).get("reason")
        if reason:
            return [say("the command cannot be carried out: {reason}.", reason=printable(str(reason)))]
        return self.lines(12) or [say("the command ended and did not say why.")]

    def as_json(self) -> dict[str, Any]:
        """For the page."""
        state = self.state
        ended = self._ended or {}
        shown: dict[str, Any] = {
            "id": self.id, "work": self.work.name, "kind": self.kind, "state": state, "code": self.code, "started": self.started,
            "ended": ended.get("ended"), "about": dict(self.about), "command": self._shown,
            "stopping": state == "running" and self.stopping,
        }  # fmt: skip
        if state in ("failed", "stopped", "gone"):
            shown["problems"] = self.problems() if state == "failed" else []
        if state == "done":
            shown["result"] = self.result
        return shown

    @property
    def _shown(self) -> str:
        return self.work.shown([word for word in self.argv if word != "--json"])

    def stop(self, *, now: bool = False) -> None:
        """Asks it to save what it has and end, as Ctrl-C does; asked twice it does so once.

        Args:
            now: end it without waiting for that; asked for a second time, whatever it does.
        """
        told = _object(self.folder / "process.json")
        if told is None or not alive(told.get("pid"), told.get("identity")):
            return
        asked, pressed = self.folder / "stop", self.folder / "stop-now"
        number = signal.SIGTERM
        if not now:
            if asked.exists():
                return
            number = signal.SIGTERM if os.name == "nt" else signal.SIGINT
        elif pressed.exists() and os.name != "nt":
            number = signal.SIGKILL
        with contextlib.suppress(OSError):  # a disk that is full must not keep it from ending
            asked.touch()
            if now:
                pressed.touch()
        end(int(told["pid"]), number, group=now)


class Jobs:
    """Starts jobs, and finds those again that were started before."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._keepers: list[subprocess.Popen[bytes]] = []

    def start(self, work: Work, kind: str, words: Sequence[object], language: str, about: Mapping[str, Any] | None = None) -> Job:
        """Starts a command in the work's folder, and notes it in ``commands.sh``.

        Raises:
            Refused: if the same kind runs in this work, or the disk takes nothing.
        """
        argv = [os.fspath(word) if isinstance(word, Path) else str(word) for word in words]
        with locked(work.hidden / "jobs.lock"):  # between two studios as well
            busy = next((job for job in self.of(work) if job.kind == kind and job.state == "running"), None)
            if busy is not None:
                raise Refused(409, say("this runs already: {command}. Wait for it, or stop it.", command=busy._shown))
            job = Job(work, _new_id(), kind, argv, time.time(), dict(about or {}))
            kept = {"id": job.id, "kind": kind, "argv": argv, "cwd": str(work.folder), "started": job.started, "about": job.about,
                    "env": {**QUIET, "LORAFORGE_LANG": language}}  # fmt: skip
            replace_text(job.folder / "job.json", json.dumps(kept, ensure_ascii=True, indent=1, default=str))
            work.note([word for word in argv if word != "--json"])
            try:
                keeper = subprocess.Popen(
                    [sys.executable, "-I", str(keeping.__file__), str(job.folder)],
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
                    creationflags=_APART,
                )  # fmt: skip
            except OSError as error:
                raise Refused(507, say("no process can be started: {error}.", error=why(error))) from None
            with contextlib.suppress(Refused):
                told = {"keeper": keeper.pid, "keeper_identity": identity(keeper.pid)}
                replace_text(job.folder / "keeper.json", json.dumps(told))
            self._keepers = [one for one in self._keepers if one.poll() is None] + [keeper]  # poll also buries those that ended
            return job

    def of(self, work: Work) -> list[Job]:
        """Those of a work, the newest first."""
        try:
            found = sorted((place.name for place in (work.hidden / "jobs").iterdir() if place.is_dir()), reverse=True)
        except OSError:
            return []
        return [job for job in (self._read(work, name) for name in found) if job is not None]

    def all(self) -> Iterator[Job]:
        """Those of all works."""
        for work in self._folders.works():
            yield from self.of(work)

    def find(self, work: Work, id_: str) -> Job:
        """
        Raises:
            Refused: if there is none.
        """
        job = next((job for job in self.of(work) if job.id == id_), None)
        if job is None:
            raise Refused(404, say("there is no job '{id}' in {work}.", id=printable(id_), work=work.name))
        return job

    def _read(self, work: Work, id_: str) -> Job | None:
        for keeper in list(self._keepers):
            keeper.poll()
        told = _object(work.hidden / "jobs" / id_ / "job.json") or {}
        try:
            return Job(work, id_, str(told["kind"]), list(told["argv"]), float(told["started"]), dict(told["about"]))
        except (KeyError, TypeError, ValueError):
            return None


def _new_id() -> str:
    """Of two jobs the newer one's comes later."""
    now = time.time()
    return f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}-{int(now % 1 * 1000):03d}{secrets.token_hex(2)}"


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _object(file: Path) -> dict[str, Any] | None:
    value = _json(file)
    return value if isinstance(value, dict) else None


def _last_lines(file: Path, count: int) -> list[str]:
    """The last lines of a file, whatever its size."""
    try:
        with file.open("rb") as data:
            end = data.seek(0, os.SEEK_END)
            data.seek(max(0, end - 400 * count))
            lines = data.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [printable(line) for line in lines[-count:] if line.strip()]
