"""What ``sample`` and ``eval`` print while a model answers, and the answers of ``sample``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from ..messages import speaker

say = speaker(__name__)


def answers(out: Console, question: str, given: Mapping[str, str]) -> None:
    """One question with its answers."""
    out.print(f"[bold]{escape(question)}[/bold]")
    for name, answer in given.items():
        mark = f"  [{ended_by_repeating()}]" if getattr(answer, "repeats", False) else ""
        out.print(Text.assemble((f"  {name}: ", "dim" if name == "base" else "green"), answer, (mark, "yellow")))
    out.print()


def ended_by_repeating() -> str:
    """What is said behind an answer that was ended because it only repeated itself."""
    return say("ended here: it only repeats itself")


@contextlib.contextmanager
def ticker(out: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with the time left, for work that is no training."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn(say("left")))
    with Progress(*columns, TimeRemainingColumn(), console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
