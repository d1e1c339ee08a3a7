# SPDX-License-Identifier: Apache-2.0
"""Starts a training process anew with settings of glibc's allocator that keep its memory together.

A step makes and frees hundreds of tensors of a few megabytes between thousands of small objects. glibc keeps the small ones in caches, from
where they take the ends of freed tensors, so that the next tensor of the same size no longer fits in its place: such holes were an eighth
of the peak where it was measured (docs/benchmarks.md). Without these caches they close again. glibc reads the settings when a process
begins and at no other time; hence the new start, which takes some hundredths of a second.

Only the standard library is used here: nothing else may be imported before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

_VARIABLE = "GLIBC_TUNABLES"
_SETTINGS = (
    "glibc.malloc.tcache_count=0",  # no cache of small objects by thread
    "glibc.malloc.mxfast=0",  # nor by size
    "glibc.malloc.mmap_threshold=33554432",  # the highest there is: what is smaller comes out of memory that stays
    "glibc.malloc.trim_threshold=1073741824",  # and is not given back to the system after a step, to be fetched and cleared anew
)


def tuned(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, str] | None:
    """The environment to start anew with; None if the process should go on as it is.

    Args:
        arguments: of the command, without its name.
    """
    given = environment.get(_VARIABLE, "")
    if "train" not in arguments or "glibc.malloc." in given or sys.platform != "linux":
        return None
    try:
        if not (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
            return None
    except (ValueError, OSError):  # another C library
        return None
    return {**environment, _VARIABLE: ":".join(filter(None, [given, *_SETTINGS]))}


def start_anew() -> None:
    """Replaces this process (same number, same command) where that helps; otherwise returns."""
    environment = tuned(sys.argv[1:], os.environ)
    if environment is None or not sys.executable or not sys.orig_argv:
        return
    try:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
    except OSError:
        return
