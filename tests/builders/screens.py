# SPDX-License-Identifier: Apache-2.0
"""What a person sees: the command line in a terminal of its own, and what comes through a pipe."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyte
from rich.cells import cell_len

from builders import ROOT

# Several commands in one process: to start one takes longer than most of them.
_RUN = """
import json, sys
from loraforge.cli.main import main
for words in json.loads(sys.argv[1]):
    print("$", *words[:1], flush=True)
    try:
        main(words)
    except SystemExit as end:
        print("exit", end.code or 0, flush=True)
"""
_MARKS = ("CI", "COLUMNS", "FORCE_COLOR", "LANGUAGE", "LC_ALL", "LINES", "NO_COLOR", "PYTEST_XDIST_WORKER")


@dataclass(frozen=True)
class Seen:
    """What came of some commands.

    Attributes:
        raw: all of it, with what moves the cursor and colours.
        screen: what stood on the screen and above it in the end; what did not fit a line goes on in the next.
        frames: the line with the cursor, each time something came.
    """

    raw: str
    screen: tuple[str, ...]
    frames: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """The lines as they were printed, without colours; a bar that was drawn anew is left out."""
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw)
        return [line.rpartition("\r")[2].rstrip() for line in plain.replace("\r\n", "\n").split("\n")]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def after(self, start: str) -> list[str]:
        """What stands on the screen from the line on that begins so."""
        first = next(i for i, line in enumerate(self.screen) if line.startswith(start))
        return list(self.screen[first:])


def _environment(language: str, given: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _MARKS}
    ours = {"LORAFORGE_LANG": language, "TERM": "xterm-256color", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'plugins'}"}
    return {**kept, **ours, **given}


def in_terminal(commands: Sequence[Sequence[object]], cwd: Path, columns: int = 80, language: str = "en", **environment: str) -> Seen:
    """The commands, one after the other, in a terminal of 24 lines."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    line = [sys.executable, "-c", _RUN, json.dumps([[str(word) for word in words] for words in commands])]
    screen = pyte.Screen(columns, 3000)
    stream = pyte.ByteStream(screen)
    raw, frames, end = b"", [], time.monotonic() + 300
    with subprocess.Popen(line, stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, env=_environment(language, environment)) as process:
        os.close(theirs)
        while time.monotonic() < end:
            if not select.select([ours], [], [], 0.5)[0]:
                continue
            try:
                data = os.read(ours, 1 << 16)
            except OSError:  # Linux says so that nobody holds the other end
                break
            if not data:
                break
            raw += data
            stream.feed(data)
            row = screen.buffer[screen.cursor.y]
            frames.append("".join(row[column].data for column in range(columns)).rstrip())
        else:
            process.kill()
    os.close(ours)
    return Seen(raw.decode(), tuple(line.rstrip() for line in screen.display[: screen.cursor.y + 1]), tuple(frames))


def in_pipe(commands: Sequence[Sequence[object]], cwd: Path, language: str = "en", **environment: str) -> Seen:
    """The same where nobody looks."""
    line = [sys.executable, "-c", _RUN, json.dumps([[str(word) for word in words] for words in commands])]
    kind = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
    done = subprocess.run(line, cwd=cwd, env=_environment(language, environment), check=False, timeout=300, **kind)
    return Seen(done.stdout.decode(), tuple(done.stdout.decode().splitlines()), ())


def ill_fitting(lines: Sequence[str], columns: int) -> list[str]:
    """Lines that are too long although they could be broken, and lines that begin with what must not."""
    from loraforge.wrapping import lines as broken

    wide = [line for line in lines if cell_len(line) > columns and len(broken(line, columns)) > 1 and not _pasted(line)]
    return wide + [line for line in lines if re.match(r"\s*[。，、；：？！）》」』”]", line)]


def _pasted(line: str) -> bool:
    return re.match(r"  (?:loraforge|vllm|tensorboard|cp|\$)\b| {4}loraforge|\$ ", line) is not None


def whole(piped: str) -> set[str]:
    """What must not be broken anywhere: words, paths, keys and command lines of other than Chinese letters."""
    return set(re.findall(r"[!-~]{5,}", piped))
