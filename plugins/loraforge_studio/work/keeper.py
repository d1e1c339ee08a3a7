# SPDX-License-Identifier: Apache-2.0
"""Stands by one long command: starts it, waits, and writes down how it ended. It needs the studio for nothing, so the command goes on when
the studio ends, and a studio that comes back reads here what became of it. Imports nothing of LoRAForge: it costs a few megabytes.

    python -m loraforge_studio.work.keeper FOLDER

``FOLDER/job.json`` says what is to be done; ``out.txt`` and ``err.txt`` get what it prints, ``process.json`` who does it, ``ended.json`` how
that went.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time


def main(folder: str) -> None:
    """Carries out ``folder/job.json``."""
    for name in ("SIGINT", "SIGHUP"):  # of a terminal that is closed
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    with open(os.path.join(folder, "job.json"), encoding="utf-8") as file:
        job = json.load(file)
    code, reason = 1, ""
    with open(os.path.join(folder, "out.txt"), "ab") as out, open(os.path.join(folder, "err.txt"), "ab") as err:
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "loraforge", *job["argv"]],
                cwd=job["cwd"], env={**os.environ, **job["env"]}, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                start_new_session=True, preexec_fn=_listening if os.name != "nt" else None,
            )  # fmt: skip
            _write(folder, "process.json", {"pid": process.pid, "keeper": os.getpid(), "started": time.time()})
            code = process.wait()
        except OSError as error:
            reason = str(error)
    _write(folder, "ended.json", {"code": code, "reason": reason, "ended": time.time()})


def _listening() -> None:
    """What is ignored here would be ignored there too, and a training is stopped by SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _write(folder: str, name: str, value: object) -> None:
    """Writes aside and renames. A disk that is full for an hour must not make a job look as if it had no end."""
    place = os.path.join(folder, name)
    for attempt in range(2000):
        try:
            with open(f"{place}.new", "w", encoding="utf-8") as file:
                json.dump(value, file)
            os.replace(f"{place}.new", place)
            return
        except OSError:
            if not os.path.isdir(folder):
                return
            time.sleep(min(30, 0.2 * (attempt + 1)))


if __name__ == "__main__":
    main(sys.argv[1])
