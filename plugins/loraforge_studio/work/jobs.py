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
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraforge import printable, speaker

from ..problems import Refused
from .asking import QUIET, _json
from .folders import Folders, Work, replace_text

say = speaker(__name__)

_GRACE = 20.0  # seconds in which a keeper has to write down who works for it
_TAIL = 200  # lines of what a job prints that are shown


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
        ended = _json(self.folder / "ended.json")
        if isinstance(ended, dict):
            if ended.get("code") == 0:
                return "done"
            return "stopped" if (self.folder / "stop").exists() else "failed"
        process = _json(self.folder / "process.json")
        if not isinstance(process, dict):
            return "running" if time.time() - self.started < _GRACE else "gone"
        started = process.get("started")
        if _alive(process.get("keeper"), started) or _alive(process.get("pid"), started):
            return "running"
        told = self.result  # the keeper is gone as well, and what the command printed last says how it went
        return "gone" if not isinstance(told, dict) else "failed" if "error" in told else "done"

    @property
    def code(self) -> int | None:
        """Its exit code, below 0 the signal that ended it; None while there is none."""
        ended = _json(self.folder / "ended.json")
        return int(ended["code"]) if isinstance(ended, dict) else None

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
        code = self.code
        if code in (-9, 137):
            return [say("the system ended the command; that happens where memory runs out."), *self.lines(3)]
        return self.lines(12) or [say("the command ended and did not say why.")]

    def as_json(self) -> dict[str, Any]:
        """For the page."""
        state = self.state
        ended = _json(self.folder / "ended.json") or {}
        shown: dict[str, Any] = {
            "id": self.id, "work": self.work.name, "kind": self.kind, "state": state, "code": self.code, "started": self.started,
            "ended": ended.get("ended"), "about": dict(self.about), "command": self.work.shown([word for word in self.argv if word != "--json"]),
        }  # fmt: skip
        if state in ("failed", "stopped", "gone"):
            shown["problems"] = self.problems() if state == "failed" else []
        if state == "done":
            shown["result"] = self.result
        return shown

    def stop(self) -> None:
        """Asks it to save and end, as Ctrl-C does; a second time within a minute: to end at once."""
        process = _json(self.folder / "process.json")
        if self.state != "running" or not isinstance(process, dict):
            return
        mark = self.folder / "stop"
        again = mark.exists() and time.time() - mark.stat().st_mtime < 60 and self.kind != "train"
        with contextlib.suppress(OSError):
            mark.touch()
        with contextlib.suppress(OSError):
            os.kill(int(process["pid"]), signal.SIGTERM if again or os.name == "nt" else signal.SIGINT)


class Jobs:
    """Starts jobs, and finds those again that were started before."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._keepers: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()

    def start(self, work: Work, kind: str, words: Sequence[object], language: str, about: Mapping[str, Any] | None = None) -> Job:
        """Starts a command in the work's folder, and notes it in ``commands.sh``.

        Raises:
            Refused: if the same kind runs in this work, or the disk takes nothing.
        """
        with self._lock:
            busy = next((job for job in self.of(work) if job.kind == kind and job.state == "running"), None)
            if busy is not None:
                raise Refused(409, say("this runs already: {command}. Wait for it, or stop it.", command=busy.work.shown(busy.argv)))
            argv = [os.fspath(word) if isinstance(word, Path) else str(word) for word in words]
            id_ = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
            job = Job(work, id_, kind, argv, time.time(), dict(about or {}))
            kept = {"id": id_, "kind": kind, "argv": argv, "cwd": str(work.folder), "started": job.started, "about": job.about,
                    "env": {**QUIET, "LORAFORGE_LANG": language}}  # fmt: skip
            replace_text(job.folder / "job.json", json.dumps(kept, ensure_ascii=False, indent=1, default=str))
            work.note([word for word in argv if word != "--json"])
            try:
                keeper = subprocess.Popen(
                    [sys.executable, "-m", f"{__package__}.keeper", str(job.folder)],
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise Refused(507, say("no process can be started: {error}.", error=error)) from None
            self._keepers = [one for one in self._keepers if one.poll() is None] + [keeper]  # poll also buries those that ended
            return job

    def of(self, work: Work) -> list[Job]:
        """Those of a work, the newest first."""
        folder = work.hidden / "jobs"
        found = sorted((place.name for place in folder.iterdir() if place.is_dir()), reverse=True) if folder.is_dir() else []
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
        for keeper in self._keepers:
            keeper.poll()
        told = _json(work.hidden / "jobs" / id_ / "job.json")
        try:
            return Job(work, id_, str(told["kind"]), list(told["argv"]), float(told["started"]), dict(told["about"]))
        except (KeyError, TypeError, ValueError):
            return None


def _alive(pid: Any, started: Any) -> bool:
    """Whether a process runs, and is not another one that got its number since."""
    import psutil

    try:
        process = psutil.Process(int(pid))
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= float(started) + 5)
    except (psutil.Error, TypeError, ValueError):
        return False


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
