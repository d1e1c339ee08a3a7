# SPDX-License-Identifier: Apache-2.0
"""Which process is meant. A number alone does not say: systems give it to another one later. Imports nothing of LoRAForge, so that
``keeper`` stays small."""

from __future__ import annotations

import os
import sys


def identity(pid: int) -> str | None:
    """What no other process ever has, also after the computer was started again and its clock was set; None if none runs by this number."""
    if pid <= 0:
        return None
    if sys.platform == "linux":
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()  # before it stands a name, with anything in it
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                boot = file.read().strip()
        except OSError:
            return None
        return None if fields[0] in (b"Z", b"X") else f"{boot}/{fields[19].decode()}"  # dead, and only its parent has not heard of it yet
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return None


def alive(pid: object, known: object) -> bool:
    """Whether the process ``pid`` still runs that had the identity ``known``."""
    return isinstance(pid, int) and known is not None and identity(pid) == known


def end(pid: int, number: int, *, group: bool = False) -> None:
    """Sends a signal, also to all that the process has started if it leads a group. One that has ended hears nothing."""
    try:
        if group and os.name != "nt":
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except OSError:
        pass
