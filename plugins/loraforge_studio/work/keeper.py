# SPDX-License-Identifier: Apache-2.0
"""Stands by one long command: starts it, waits, and writes down how it ended. It needs the studio for nothing, so the command goes on when
the studio ends, and a studio that comes back reads here what became of it. Imports nothing of LoRAForge: it costs a few megabytes.

    python -I keeper.py FOLDER

``FOLDER/job.json`` says what is to be done; ``out.txt`` and ``err.txt`` get what it prints, ``process.json`` who does it, ``ended.json``
how that went.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time

_ROOM = 4096  # bytes that are set aside for the last word, for a disk that the command fills


def main(folder: str) -> None:
    """Carries out ``folder/job.json``."""
    for name in ("SIGINT", "SIGHUP", "SIGTERM"):  # of a terminal that is closed, or a session
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    os.chdir(folder)  # who stands in a folder stays in it when it gets another name
    identity = runpy.run_path(os.path.join(os.path.dirname(os.path.abspath(__file__)), "processes.py"))["identity"]
    with open("job.json", encoding="utf-8") as file:
        job = json.load(file)
    with contextlib.suppress(OSError), open("ended.json.new", "w", encoding="utf-8") as file:
        file.write(" " * _ROOM)
    code, reason = 1, ""
    try:
        with open("out.txt", "ab") as out, open("err.txt", "ab") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "loraforge", *job["argv"]],
                cwd=job["cwd"], env={**os.environ, **job["env"]}, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                start_new_session=True, preexec_fn=_listening if os.name != "nt" else None,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0) | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # of Windows
            )  # fmt: skip
        me = os.getpid()
        _write("process.json", {
            "pid": process.pid, "identity": identity(process.pid), "keeper": me, "keeper_identity": identity(me), "started": time.time(),
        })  # fmt: skip
        code = process.wait()
    except (OSError, ValueError) as error:
        reason = str(error)
    _write("ended.json", {"code": code, "reason": reason, "ended": time.time()})


def _listening() -> None:
    """What is ignored here would be ignored there too, and a training is stopped by SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _write(name: str, value: object) -> None:
    """Writes aside, into the room that was set aside, and renames. A disk that is full for hours must not make a job look as if it had no
    end; a folder that was thrown away needs no word."""
    text = json.dumps(value)
    for attempt in range(2000):
        try:
            with open(f"{name}.new", "r+" if os.path.exists(f"{name}.new") else "w", encoding="utf-8") as file:
                file.write(text.ljust(_ROOM))
            os.replace(f"{name}.new", name)
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(min(30, 0.2 * (attempt + 1)))


if __name__ == "__main__":
    main(sys.argv[1])
