# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM. While the steps are made, the first asks the run to save and stop, and the second acts at once; at other times
there is nothing to save, and the first acts at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM, where it is treated like Ctrl-C: what was begun is taken away, and the user is told."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Inside, SIGTERM raises ``Terminated``; outside of the main thread, where Python allows no handlers, it does what it did before."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


class Interrupts:
    """While it is entered, the first SIGINT or SIGTERM only sets ``requested``; from then on both do what they did before.

    Outside of the main thread, where Python allows no handlers, it does nothing.

    Args:
        heard: called at the first signal, for telling the user.
    """

    def __init__(self, heard: Callable[[], None] = lambda: None) -> None:
        self._heard = heard
        self._before: dict[int, Any] = {}
        self.requested = False

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._first)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    def _first(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()
        self._heard()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            # A handler that no Python code installed is None here and cannot be put back; the default is what it stands for.
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before = {}
