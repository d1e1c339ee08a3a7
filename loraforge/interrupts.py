"""Ctrl-C and SIGTERM during training: the first asks the run to save and stop, the second acts at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


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
