"""What is printed is harmless: to the terminal that shows it, to the shell into which it is pasted, to the spreadsheet that opens it."""

from __future__ import annotations

import functools
import itertools
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from .errors import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

UNSEEN = (
    r"\s\0-\x1f\x7f-\xa0\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000"
    r"\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U00013430-\U00013455\U000e0000-\U000e0fff"
)
"""For the inside of a regular expression's ``[...]``: what a reader does not see, and a spreadsheet may pass over. White space, control
characters, and what Unicode calls ignorable by default or leaves blank."""
# PowerShell takes each of them for the end of a text in single quotes.
_QUOTES = re.compile("['\u2018\u2019\u201a\u201b]")
# What cmd obeys even between single quotes, and what the two generations of PowerShell hand on differently.
_CMD = str.maketrans({sign: chr(ord(sign) + 0xFEE0) for sign in '"&|<>^%'})


def show(text: object = "", *, err: bool = False) -> None:
    """Prints text of any origin as a line of standard output or standard error."""
    click.echo(printable(str(text)), err=err)


@functools.cache
def _shown_console() -> type[Console]:
    """A console that shows the text of whatever it is given; only its own colours and cursor movements are obeyed."""
    from rich.console import Console

    class ShownConsole(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=printable(segment.text))

    return ShownConsole


def console(*, stderr: bool = False, **settings: Any) -> Console:
    """Standard output (or error), without guesses about what to highlight and without hard line breaks in pipes."""
    out = _shown_console()(stderr=stderr, highlight=False, soft_wrap=True, **settings)
    if not out.is_terminal:
        out.width = 200  # rich would squeeze tables into 80 columns
    return out


def first_few(names: Sequence[str], most: int = 5, between: str = ", ") -> str:
    """The first of several names in one text; dots say that there are more."""
    return between.join(names[:most]) + (" ..." if len(names) > most else "")


def quoted(word: object, windows: bool | None = None) -> str:
    """A word of a command line that is printed for pasting, such that the shell hands on this word and obeys nothing in it.

    For a POSIX shell; control characters, which no terminal takes from the clipboard, are made by ``printf`` there. On Windows for
    PowerShell, the shell that its terminal opens: in single quotes it obeys nothing. cmd.exe knows no single quotes, and nothing can be
    quoted for both.

    Args:
        word: a path never becomes an option: ``./-x``.
        windows: for PowerShell; by default on Windows.
    """
    text = str(word)
    if isinstance(word, os.PathLike) and text.startswith("-"):
        text = f"./{text}"
    if os.name == "nt" if windows is None else windows:
        return text if re.fullmatch(r"[\w./\\:=+-]+", text) else "'" + _QUOTES.sub(lambda quote: quote[0] * 2, text) + "'"
    # $(...) loses line ends at its own end: they take the next sign in with them, and at the end of all they stay as they are.
    parts = re.findall(r"\n+\Z|[\n\t]+[^\n\t]|\t+|[^\n\t]", text)
    made = ""
    for untypable, group in itertools.groupby(parts, key=_untypable):
        said = "".join(group)
        made += f"\"$(printf '{_octal(said)}')\"" if untypable else shlex.quote(said)
    return made or "''"


def _untypable(part: str) -> bool:
    return printable(part) != part or (part[0] in "\n\t" and part.strip("\n") != "")


def _octal(text: str) -> str:
    halves = re.split("([\udc80-\udcff]+)", text)  # bytes of a name that is no UTF-8
    data = b"".join(half.encode("utf-8", "surrogateescape" if i % 2 else "surrogatepass") for i, half in enumerate(halves))
    return "".join(f"\\{byte:03o}" for byte in data)


def command(*words: object, windows: bool | None = None) -> str:
    """A command line for pasting, see ``quoted``."""
    return " ".join(quoted(word, windows) for word in words)


def pasted_question(text: str, windows: bool | None = None) -> list[str]:
    """The last words of a command that asks a question of the data: on one line, and no option. On Windows the signs that cmd.exe would
    obey are written in their wide form, for whoever pastes the line there."""
    line = " ".join(text.split())
    if os.name == "nt" if windows is None else windows:
        line = line.translate(_CMD)
    return ["--", line] if line.startswith("-") else [line]
