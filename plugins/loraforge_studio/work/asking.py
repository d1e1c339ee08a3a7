# SPDX-License-Identifier: Apache-2.0
"""Commands that take seconds: carried out by a warm process, one at a time for each that is asked, and waited for."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraforge import speaker, why

from ..problems import Refused
from .processes import end
from .warm import HEARD

say = speaker(__name__)

QUIET = {
    "COLUMNS": "10000", "NO_COLOR": "1", "TERM": "dumb", "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1",
    "PYTHONSAFEPATH": "1",
}  # fmt: skip
"""What commands are told of their surroundings: nobody looks, so no line is broken and nothing is coloured; and no file that lies in the
folder, ``yaml.py`` say, is taken for a part of Python."""
_MOST = 4  # commands at a time: each may load a model


@dataclass(frozen=True)
class Said:
    """What a command said.

    Attributes:
        code: its exit code: 0 done, 2 somebody's input, 1 anything else; below 0 the signal that ended it.
        value: the JSON on standard output, None if there is none.
        lines: standard error, line by line.
        command: as it would be typed.
    """

    code: int
    value: Any
    lines: Sequence[str]
    command: str

    @property
    def problems(self) -> list[str]:
        """Why it was not done."""
        told = self.value.get("error") if isinstance(self.value, dict) else None
        if isinstance(told, list) and told:
            return [str(line) for line in told]
        if self.code < 0:
            return [say("the command was ended from outside (signal {number}).", number=-self.code), *self.lines[-3:]]
        return [line for line in self.lines if line.strip()][-20:] or [say("the command failed and did not say why.")]

    def done(self) -> Any:
        """The value.

        Raises:
            Refused: with the command's own sentences, if it failed.
        """
        if self.code != 0:
            raise Refused(422, self.problems, self.command)
        return self.value


class Asking:
    """Asks, and keeps one process warm for the next question."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turn = threading.BoundedSemaphore(_MOST)
        self._spare: subprocess.Popen[bytes] | None = None
        self._of: dict[object, subprocess.Popen[bytes]] = {}  # who answers a question
        self._newest: dict[str, object] = {}
        self._closed = False

    def warm(self) -> None:
        """Starts the process that the next question will find, if there is none."""
        with self._lock:
            if self._spare is None and not self._closed:
                with contextlib.suppress(OSError):  # whoever asks hears of it
                    self._spare = _start()

    def ask(self, words: Sequence[object], folder: Path, shown: str, language: str, seconds: float = 600, newest: str = "") -> Said:
        """Carries a command out.

        Args:
            words: it, without ``loraforge``.
            folder: where it is carried out.
            seconds: after so many it is ended.
            newest: of the questions with this name only the newest matters: one that is under way, or waits, is ended.

        Raises:
            Refused: if no process can be started, the folder is gone, or it takes longer.
        """
        if not folder.is_dir():
            raise Refused(404, say("{path} is not there any more.", path=folder), shown)
        asked = json.dumps({
            "argv": [os.fspath(word) if isinstance(word, Path) else str(word) for word in words],
            "cwd": str(folder), "env": {**QUIET, "LORAFORGE_LANG": language},
        }).encode()  # fmt: skip
        mine = object()
        if newest:
            with self._lock:
                before, self._newest[newest] = self._newest.get(newest), mine
                overtaken = self._of.get(before)
            if overtaken is not None:
                _kill(overtaken)
        with self._turn:
            for attempt in (1, 2):
                if newest and self._newest[newest] is not mine:
                    break
                process = self._taken(shown, mine)
                try:
                    _tell(process, asked)
                    threading.Thread(target=self.warm, daemon=True).start()
                    out, err = process.communicate(timeout=seconds)
                except subprocess.TimeoutExpired:
                    raise Refused(504, say("the command took longer than {n:.0f} seconds and was ended.", n=seconds), shown) from None
                finally:
                    _end(process)
                    with self._lock:
                        self._of.pop(mine, None)
                if not out.startswith(HEARD) and attempt == 1:  # the one that waited has died; a new one has no such excuse
                    continue
                return Said(process.returncode, _json(out.removeprefix(HEARD)), err.decode("utf-8", "replace").splitlines(), shown)
        return Said(-signal.SIGTERM, None, [], shown)

    def _taken(self, shown: str, question: object) -> subprocess.Popen[bytes]:
        with self._lock:
            process, self._spare = self._spare, None
            try:
                if process is None or process.poll() is not None:
                    process = _start()
            except OSError as error:
                raise Refused(507, say("no process can be started: {error}.", error=why(error)), shown) from None
            self._of[question] = process
            return process

    def close(self) -> None:
        """Ends the process that waits, and no other: questions get their answers."""
        with self._lock:
            self._closed = True
            spare, self._spare = self._spare, None
        if spare is not None:
            _end(spare)

    def end(self) -> None:
        """Ends all; for a studio that ends."""
        self.close()
        with self._lock:
            busy = list(self._of.values())
        for process in busy:
            _kill(process)


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.warm"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **QUIET}, start_new_session=True,
    )  # fmt: skip


def _tell(process: subprocess.Popen[bytes], asked: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):  # it has died: there will be no answer
        process.stdin.write(asked + b"\n")
        process.stdin.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and what it has started, and closes what leads to it. One that has ended is left alone."""
    if process.poll() is None:
        _kill(process)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.close()
    process.wait()


def _kill(process: subprocess.Popen[bytes]) -> None:
    end(process.pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL, group=True)


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
