# SPDX-License-Identifier: Apache-2.0
"""What this computer has: free memory and disk, and how fast it multiplies. Torch is not imported."""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..messages import speaker

say = speaker(__name__)

GB = 2**30


def gpu_bytes(text: str) -> int:
    """Bytes of a GPU's memory as people write it: 24GB, 24G, 24, 8192MB.

    Raises:
        ConfigError: if it is no such size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([gm]?)(?:i?b)?\s*", text, re.IGNORECASE)
    value = round(float(found[1]) * (2**20 if found[2].lower() == "m" else GB)) if found else 0
    if not 2**28 <= value <= 2**44:
        raise ConfigError(say("--gpu: write the GPU's memory like 24GB or 8192MB; got '{value}'.", value=text))
    return value


def available_memory() -> int | None:
    """Bytes of memory that are free for a new program on this computer, or in this container."""
    if sys.platform == "win32":
        return _windows_memory()
    try:
        known = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = next(int(line.split()[1]) * 1024 for line in known if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        try:
            found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (ValueError, OSError, AttributeError):
            return None
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii").strip()
        return found if limit == "max" else min(found, max(0, int(limit) - int(used)))
    except (OSError, ValueError):
        return found


def _windows_memory() -> int | None:
    import ctypes

    status = (ctypes.c_ulonglong * 8)(64)  # MEMORYSTATUSEX: its own size and the load in the first eight bytes, then total and free memory
    library: Any = getattr(ctypes, "windll", None)
    return int(status[2]) if library is not None and library.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)) else None


def free_disk(folder: Path) -> int | None:
    """Bytes free where ``folder`` is or will be."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None


def cpu_rate() -> float:
    """Floating-point operations a second of this computer, from a few small multiplications of numpy: a tenth of a second."""
    import numpy as np

    side = 384
    matrix = np.ones((side, side), dtype=np.float32)
    matrix @ matrix  # the first one starts the threads
    best, end = math.inf, time.perf_counter() + 0.08
    while time.perf_counter() < end:
        started = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best
