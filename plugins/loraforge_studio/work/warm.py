# SPDX-License-Identifier: Apache-2.0
"""A process that has imported what commands need, waits for one command, carries it out and ends.

The studio asks such a process whatever takes seconds: the answer is the command's own, ``--json``, in its own words. A file that brings a
reader down brings down this process only, and the page gets its answer without waiting for Python to start.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import sys
import threading
import time

HEARD = b"\x06"
"""What it writes first: that the question did not come too late."""


def main() -> None:
    """Reads one line of JSON: ``argv``, ``cwd`` and ``env``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is meant for the studio, which closes this
    parent = os.getppid()
    _prepare()
    line = sys.stdin.buffer.readline()
    if not line:
        return
    os.write(1, HEARD)
    asked = json.loads(line)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.argv = ["loraforge", *asked["argv"]]
    sys.orig_argv.clear()  # so that `train` does not start anew what this process was started as
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _loraforge()


def _loraforge() -> None:
    """What ``python -m loraforge`` does, in a process that has done it before."""
    runpy.run_module("loraforge", run_name="__main__")


def _watch(parent: int) -> None:
    """Nobody waits for the answer once the studio has been killed, and a command may never end by itself."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def _prepare() -> None:
    """Has the plugins found and what they bring imported, by a command that needs all of it."""
    sys.argv = ["loraforge", "list", "--json"]
    shown, said = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nothing:
        sys.stdout = sys.stderr = nothing
        try:
            with contextlib.suppress(SystemExit, Exception):  # what is wrong, the command itself will say
                _loraforge()
        finally:
            sys.stdout, sys.stderr = shown, said


if __name__ == "__main__":
    main()
