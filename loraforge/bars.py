# SPDX-License-Identifier: Apache-2.0
"""The progress bar of everything that takes its time."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .messages import speaker
from .terminal import live
from .wrapping import cells

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

say = speaker(__name__)


class Bar:
    """How much of the work is done, since when, and how long it will go on: at any width. What else is known stands beside it as far as
    there is room. Nothing is drawn where nobody looks (a pipe, a file, a build's log)."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._drawn: Any = None
        self._task: Any = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None) -> None:
        self.stop()

    @property
    def shown(self) -> bool:
        """Whether there is a bar to be seen."""
        return self._drawn is not None

    def start(self, total: int | None, done: int = 0, *parts: str) -> None:
        """Draws it, anew if it was there. ``total`` is None while nobody knows it."""
        self.stop()
        if not live(self._out):
            return
        from rich.progress import Progress, ProgressColumn, Task

        width = self._out.width

        class Line(ProgressColumn):
            def render(self, task: Task) -> RenderableType:
                return line(task, width)

        self._drawn = Progress(Line(), console=self._out, transient=True)
        self._drawn.start()
        self._task = self._drawn.add_task("", total=total, completed=done, parts=parts)

    def update(self, done: int, total: int, *parts: str) -> None:
        """So much is done; ``parts``: what stands beside it, the most important first."""
        if self._drawn is not None:
            self._drawn.update(self._task, completed=done, total=total, parts=parts)

    def stop(self) -> None:
        """Takes it off the screen; safe to call twice."""
        if self._drawn is not None:
            self._drawn.stop()
            self._drawn = None


def line(task: Any, width: int) -> RenderableType:
    """The line of a task of rich's in at most ``width`` columns: numbers and times first, then what stands beside them, then the bar."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    texts = [_clock(task.elapsed)]
    if task.total is not None:
        texts = [f"{task.completed:.0f}/{task.total:.0f}", *texts, say("{time} left", time=_clock(task.time_remaining))]
    texts = _with_room(texts, task.fields["parts"], width - (12 if width >= 60 else 0))
    room = min(width - cells("  ".join(texts)) - 3, 40)
    drawn = Table.grid(padding=(0, 1))
    text = Text("  ".join(texts), no_wrap=True)
    if room < 6 or task.total is None:
        drawn.add_row(text)
    else:
        drawn.add_row(ProgressBar(total=task.total, completed=task.completed, width=room), text)
    return drawn


def _with_room(texts: list[str], parts: Sequence[str], width: int) -> list[str]:
    for part in parts:
        if cells("  ".join([*texts, part])) >= width:
            break
        texts = [*texts, part]
    return texts


def _clock(seconds: float | None) -> str:
    """``0:03:20``; dashes while nobody knows."""
    if seconds is None:
        return "-:--:--"
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
