# SPDX-License-Identifier: Apache-2.0
"""What ``sample`` and ``eval`` print while a model answers, and the answers of ``sample``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from ..bars import Bar
from ..messages import speaker

say = speaker(__name__)


class Ticker(Protocol):
    """Shows that ``done`` of ``total`` are there, of another kind if ``of`` says so."""

    def __call__(self, done: int, total: int, of: str = ...) -> None: ...


def answers(out: Console, question: str, given: Mapping[str, str]) -> None:
    """One question with its answers."""
    out.print(f"[bold]{escape(question)}[/bold]")
    for name, answer in given.items():
        mark = f"  [{ended_by_repeating()}]" if getattr(answer, "repeats", False) else ""
        label = say("base") if name == "base" else name
        out.print(Text.assemble((say("  {name}: ", name=label), "dim" if name == "base" else "green"), answer, (mark, "yellow")))
    out.print()


def ended_by_repeating() -> str:
    """What is said behind an answer that was ended because it only repeated itself."""
    return say("ended here: it only repeats itself")


@contextlib.contextmanager
def ticker(out: Console, what: str) -> Iterator[Ticker]:
    """A progress bar with the time left, for work that is no training; it begins anew with each other ``what``."""
    with Bar(out) as bar:
        bar.start(None, 0, what)
        shown = what

        def tick(done: int, total: int, of: str = what) -> None:
            nonlocal shown
            if shown != of:
                shown = of
                bar.start(total, 0, of)
            bar.update(done, total, of)

        yield tick
