# SPDX-License-Identifier: Apache-2.0
"""Chat templates of strangers, rendered in a process that may end: a template is a program, and can loop for ever or fill the memory.

One call into C (``'a' * 6000000000``) cannot be interrupted from within, and no list of forbidden calls is complete. So the process that
renders is another one; it is watched while it works, and ended if it takes too long or too much. Nothing else stops it on every system.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loraforge import DataError, ModelError, out_of_something, refuse_machines_fault, speaker, why

from ..base_files import EMBEDDED
from . import render_child
from .formats import FORMATS

say = speaker(__name__)

SECONDS = 5.0  # for one conversation, which takes milliseconds
MEGABYTES = 500  # for one conversation, above what the process needs when it begins
LONGEST = 10_000_000  # characters of one conversation
_LOOK = 0.02  # seconds between two looks at the memory
_START = 300.0  # seconds for libraries from a slow disk


@functools.cache
def _ours() -> frozenset[str]:
    """The templates that come with the package, which need no watching and therefore no process."""
    files = (folder / "chat_template.jinja" for folder in EMBEDDED.values())
    return frozenset([*(one.jinja for one in FORMATS.values()), *(f.read_text(encoding="utf-8") for f in files if f.is_file())])


class _Child:
    """The process that renders. It ends when this one does, whose end closes what it reads from."""

    def __init__(self) -> None:
        import psutil

        self._process = subprocess.Popen(
            [sys.executable, str(Path(render_child.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="ascii",
            bufsize=1,
        )
        self._watched = psutil.Process(self._process.pid)
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._template = ""
        threading.Thread(target=self._read, daemon=True).start()
        self._wait(_START, float("inf"))
        self._start = self._watched.memory_info().rss

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError, OSError):
            for line in self._process.stdout:
                self._lines.put(line)
        self._lines.put("")

    def _wait(self, seconds: float, most: float) -> str:
        """The next line.

        Raises:
            TimeoutError, MemoryError: if there is none in time, or the process has more than ``most`` bytes.
            EOFError: if the process has ended.
        """
        import psutil

        end = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=_LOOK)
            except queue.Empty:
                with contextlib.suppress(psutil.Error):
                    if self._watched.memory_info().rss > most:
                        raise MemoryError from None
                if time.monotonic() > end:
                    raise TimeoutError from None
                continue
            if not line:
                raise EOFError
            return line

    def ask(self, template: str, requests: Sequence[Mapping[str, Any]], seconds: float) -> list[dict[str, Any]]:
        """The answers to some requests, ``seconds`` for each; see ``_wait`` for what it raises."""
        assert self._process.stdin is not None
        order = {"longest": LONGEST, "requests": requests, **({"template": template} if template != self._template else {})}
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
        except OSError:
            raise EOFError from None
        self._template = template
        return [json.loads(self._wait(seconds, self._start + MEGABYTES * 10**6)) for _ in requests]

    def end(self) -> None:
        self._process.kill()
        with contextlib.suppress(OSError):
            self._process.communicate(timeout=10)


_child: _Child | None = None
_owner = 0
_lock = threading.Lock()
_ahead: dict[tuple[str, str], Mapping[str, Any]] = {}


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None,
    ask: bool,
    values: Mapping[str, Any],
    day: str,
    seconds: float = SECONDS,
) -> str:
    """The chat template's text of messages; see ``render_child.write``.

    Raises:
        DataError: with what the template itself complains about.
        ModelError: if the template comes to no end, takes more memory than any conversation needs, or draws by lot.
    """
    request = {"messages": messages, "tools": tools, "ask": ask, "values": values, "day": day}
    if template in _ours():
        answer: Mapping[str, Any] = render_child.answer(template, LONGEST, request)
    else:
        known = _ahead.pop((template, json.dumps(request)), None) if _ahead else None
        answer = known or _answers(template, [request], seconds)[0]
    if "machine" in answer or "memory" in answer:
        raise out_of_something(str(answer.get("machine") or "MemoryError"))
    if "error" in answer:
        raise DataError(say("the chat template refuses this conversation: {error}", error=answer["error"]))
    if "changing" in answer:
        raise ModelError(changing("random, lipsum"))
    if "long" in answer:
        raise ModelError(say("the chat template makes {n} characters of one conversation.", n=answer["long"]))
    return str(answer["text"])


def changing(how: str) -> str:
    """The sentence about a template that writes the same conversation otherwise each time; ``how``: by what that shows."""
    return say(
        "the chat template writes the same conversation otherwise each time ({how}), so what was trained could not be asked again. Take "
        "that out of the base's chat_template.jinja, or set prompt_template to a well-known format.",
        how=how,
    )


def render_ahead(template: str, requests: Sequence[Mapping[str, Any]], seconds: float = SECONDS) -> None:
    """Renders what will be asked for, many at a time: the way to the other process and back takes longer than most conversations.

    Args:
        requests: the arguments of ``render``: messages, tools, ask, values, day. Each answer is kept until it is asked for, or others are
            rendered ahead.
    """
    _ahead.clear()
    if template in _ours() or not requests:
        return
    with contextlib.suppress(ModelError):  # which one it is, is found when it is asked for
        answers = _answers(template, requests, seconds)
        _ahead.update({(template, json.dumps(one)): answer for one, answer in zip(requests, answers, strict=True)})


def _answers(template: str, requests: Sequence[Mapping[str, Any]], seconds: float) -> list[dict[str, Any]]:
    """The answers of the process.

    Raises:
        ModelError: if it had to be ended.
    """
    global _child, _owner
    with _lock:
        if _child is None or _owner != os.getpid():
            _child, _owner = _started(), os.getpid()
        try:
            answers = _child.ask(template, requests, seconds)
            if any("memory" in answer for answer in answers):
                raise MemoryError
            return answers
        except (TimeoutError, MemoryError, EOFError) as error:
            _end()
            if isinstance(error, TimeoutError):
                text = say("the chat template is not done with one conversation after {n} seconds.", n=f"{seconds:g}")
            elif isinstance(error, MemoryError):
                text = say("the chat template takes more than {n} MB of memory for one conversation.", n=MEGABYTES)
            else:
                text = say("the chat template ended the process that rendered it.")
            raise ModelError(text) from None
        except BaseException:
            _end()  # an answer that nobody waited for would be taken for the next one
            raise


def _started() -> _Child:
    try:
        return _Child()
    except (OSError, EOFError, TimeoutError, RuntimeError, MemoryError) as error:
        refuse_machines_fault(error)
        reason = why(error)
        raise ModelError(say("the process that renders chat templates cannot be started: {error}", error=reason)) from None


@atexit.register
def _end() -> None:
    global _child
    if _child is not None and _owner == os.getpid():
        _child.end()
    _child = None
