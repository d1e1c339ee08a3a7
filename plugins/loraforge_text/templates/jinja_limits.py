"""Bounds for chat templates: a template comes with a base, from a stranger, and is a program that can loop for ever or fill the memory."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import threading
from collections.abc import Iterator

SECONDS = 5  # for one conversation, which takes milliseconds
LONGEST = 10_000_000  # characters of one conversation


class TooLong(BaseException):
    """What runs inside of ``limited`` took too long. Not an Exception, so that nothing inside takes it for its own."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises TooLong inside of the block if it takes longer, on every system and in every thread. One call into C is not interrupted."""
    thread, lock, over = threading.get_ident(), threading.Lock(), False

    def end() -> None:
        with lock:
            if not over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(TooLong))

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            over = True
        timer.cancel()


@functools.cache
def refuse_powers(template: str) -> None:
    """A power of powers (``10**10**10``) is computed by one call that nothing interrupts, when the template is compiled.

    Raises:
        ValueError: if there is a power in it.
    """
    import jinja2

    tokens = [(kind, text) for _, kind, text in jinja2.Environment().lex(template) if kind != "whitespace"]
    for before, (kind, text) in itertools.pairwise(tokens):
        if (kind, text) == ("operator", "**") and before[1] not in ("(", ","):  # f(**names) is none
            raise ValueError("it computes a power (**)")
