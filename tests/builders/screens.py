"""What a person sees: the command line in a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass

import pyte

from builders import ROOT


@dataclass(frozen=True)
class Seen:
    """What came through a terminal.

    Attributes:
        raw: the bytes, with all that moves the cursor.
        lines: what stood on the screen and above it when it was over, without white space at the ends.
        frames: the lowest line of the screen each time something came.
    """

    raw: bytes
    lines: list[str]
    frames: list[str]
    code: int

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def seen(*arguments: object, columns: int = 80, language: str = "en", cwd: object = None, limit: float = 240, **environment: str) -> Seen:
    """Runs ``loraforge`` in a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR", "CI", "FORCE_COLOR", "LANGUAGE")}
    variables |= {"LORAFORGE_LANG": language, "TERM": "xterm-256color", "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}", **environment}
    command = [sys.executable, "-m", "loraforge", *map(str, arguments)]
    screen = pyte.Screen(columns, 400)
    stream = pyte.ByteStream(screen)
    raw, frames, end = b"", [], time.monotonic() + limit
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=str(cwd or ROOT), env=variables, close_fds=True) as process:
        os.close(theirs)
        while time.monotonic() < end:
            if not select.select([ours], [], [], 0.2)[0]:
                continue
            try:
                data = os.read(ours, 1 << 16)
            except OSError:  # Linux says so that nobody holds the other end
                data = b""
            if not data:
                break
            raw += data
            stream.feed(data)
            frames.append(screen.display[screen.cursor.y].rstrip())
        else:
            process.kill()
        code = process.wait()
    os.close(ours)
    # pyte leaves the second cell of a wide sign empty.
    lines = [line.rstrip() for line in screen.display]
    while lines and not lines[-1]:
        lines.pop()
    return Seen(raw, lines, frames, code)
