# SPDX-License-Identifier: Apache-2.0
"""A process that has imported what commands need, waits for one command, carries it out and ends.

The studio asks such a process whatever takes seconds: the answer is the command's own, ``--json``, in its own words. A file that brings a
reader down brings down this process only, and the page gets its answer without waiting for Python to start.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys


def main() -> None:
    """Reads one line of JSON: ``argv``, ``cwd``, ``env``, and the files ``out`` and ``err``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is meant for the studio, which closes this
    from loraforge.__main__ import main as loraforge

    _prepare(loraforge)
    line = sys.stdin.buffer.readline()
    if not line:
        return
    asked = json.loads(line)
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    for name, number in (("out", 1), ("err", 2)):
        handle = os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(handle, number)
        os.close(handle)
    sys.argv = ["loraforge", *asked["argv"]]
    loraforge()


def _prepare(loraforge: object) -> None:
    """Has the plugins found and what they bring imported, by a command that needs all of it."""
    sys.argv = ["loraforge", "list", "--json"]
    shown, said = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nothing:
        sys.stdout = sys.stderr = nothing
        try:
            with contextlib.suppress(SystemExit):
                loraforge()  # type: ignore[operator]
        finally:
            sys.stdout, sys.stderr = shown, said


if __name__ == "__main__":
    main()
