# SPDX-License-Identifier: Apache-2.0
"""Commands that take seconds: carried out by a warm process, one at a time for each that is asked, and waited for."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraforge import speaker

from ..problems import Refused

say = speaker(__name__)

QUIET = {"COLUMNS": "10000", "NO_COLOR": "1", "TERM": "dumb", "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1"}
"""What commands are told of their surroundings: nobody looks, so no line is broken and nothing is coloured."""


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
        self._spare: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._newest: dict[str, subprocess.Popen[bytes]] = {}

    def warm(self) -> None:
        """Starts the process that the next question will find, if there is none."""
        with self._lock:
            if self._spare is None and not self._closed:
                self._spare = _start()

    def ask(self, words: Sequence[object], folder: Path, shown: str, language: str, seconds: float = 600, newest: str = "") -> Said:
        """Carries a command out.

        Args:
            words: it, without ``loraforge``.
            folder: where it is carried out.
            seconds: after so many it is ended.
            newest: of the questions with this name only the newest matters: one that is still under way is ended.
        """
        with self._lock:
            process, self._spare = self._spare, None
        if process is None or process.poll() is not None:
            process = _start()
        if newest:
            with self._lock:
                earlier, self._newest[newest] = self._newest.get(newest), process
            if earlier is not None and earlier.poll() is None:
                earlier.kill()
        threading.Thread(target=self.warm, daemon=True).start()
        with tempfile.TemporaryDirectory(prefix="loraforge-studio-") as place:
            out, err = Path(place) / "out", Path(place) / "err"
            asked = {
                "argv": [os.fspath(word) if isinstance(word, Path) else str(word) for word in words],
                "cwd": str(folder), "env": {**QUIET, "LORAFORGE_LANG": language}, "out": str(out), "err": str(err),
            }  # fmt: skip
            try:
                assert process.stdin is not None
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(json.dumps(asked).encode() + b"\n")
                    process.stdin.close()
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise Refused(504, say("the command took longer than {n:.0f} seconds and was ended.", n=seconds), shown) from None
            finally:
                with self._lock:
                    if newest and self._newest.get(newest) is process:
                        del self._newest[newest]
            return Said(code, _json(out), _lines(err), shown)

    def close(self) -> None:
        """Ends the process that waits."""
        with self._lock:
            self._closed = True
            spare, self._spare = self._spare, None
        if spare is not None:
            with contextlib.suppress(OSError):
                if spare.stdin is not None:
                    spare.stdin.close()
            spare.kill()
            spare.wait()


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.warm"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, **QUIET}, start_new_session=True,
    )  # fmt: skip


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
