# SPDX-License-Identifier: Apache-2.0
"""Help pages and click's own sentences in the user's language, in lines that fit the terminal.

click asks gettext for every word of its own; ``loraforge/locale`` has them. The texts of the commands are LoRAForge's and its plugins', and
are translated like all others: ``localised`` makes a copy of a command with them.
"""

from __future__ import annotations

import contextlib
import copy
import gettext
import inspect
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import click

from ..messages import language, speaker
from ..wrapping import cells, wrap

say = speaker(__name__)

_DOMAIN = "click"
_C = TypeVar("_C", bound=click.Command)
_P = TypeVar("_P", bound=click.Parameter)


@contextlib.contextmanager
def clicks_words() -> Iterator[None]:
    """Inside, click speaks ``language()``. gettext finds that in the environment and nowhere else."""
    before, wished = gettext.textdomain(), os.environ.get("LANGUAGE")
    gettext.bindtextdomain(_DOMAIN, str(Path(__file__).parent.parent / "locale"))
    gettext.textdomain(_DOMAIN)
    os.environ["LANGUAGE"] = language()
    try:
        yield
    finally:
        gettext.textdomain(before)
        os.environ.pop("LANGUAGE")
        if wished is not None:
            os.environ["LANGUAGE"] = wished


class Pages(click.HelpFormatter):
    """A help page with Chinese lines as wide as they are shown, and no word, path or key broken."""

    def __init__(self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None) -> None:
        if width is None:
            width = max(min(shutil.get_terminal_size().columns, max_width or 80), 20)
        super().__init__(indent_increment, width, max_width)

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """The usage line; what does not fit hangs under the program's first argument."""
        front = say("Usage: ") if prefix is None else prefix
        # The name of the command is one with the words before it; its arguments are not.
        under = " " * min(cells(f"{front}{prog} "), self.width // 3)
        self.write(wrap(args, self.width, f"{front}{prog} ", under).rstrip() + "\n")

    def write_heading(self, heading: str) -> None:
        """The name of a section, with the colon of its language."""
        self.write(" " * self.current_indent + say("{heading}:", heading=heading) + "\n")

    def write_text(self, text: str) -> None:
        """Paragraphs; those behind a ``\\b`` keep their lines."""
        indent = " " * self.current_indent
        done = []
        for paragraph in text.split("\n\n"):
            if paragraph.lstrip().startswith("\b"):
                done.append("\n".join(indent + line for line in paragraph.splitlines()[1:]))
            else:
                done.append(wrap(" ".join(paragraph.split()), self.width, indent, indent))
        self.write("\n\n".join(done) + "\n")

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Terms and what they mean, beside each other; on a narrow terminal below each other."""
        rows = list(rows)
        narrow = self.width < 60
        column = 6 if narrow else min(max((cells(term) for term, _ in rows), default=0), col_max) + col_spacing
        indent, under = " " * self.current_indent, " " * (self.current_indent + column)
        for term, meaning in rows:
            beside = not narrow and cells(term) <= column - col_spacing
            front = f"{indent}{term}{' ' * (column - cells(term))}" if beside else under
            if not beside:
                self.write(f"{indent}{term}\n")
            if meaning:
                self.write(wrap(meaning.replace("\n", " "), self.width, front, under) + "\n")
            elif beside:
                self.write(f"{indent}{term}\n")


class PagesContext(click.Context):
    """Its help is written by ``Pages``."""

    formatter_class = Pages


def localised(command: _C) -> _C:
    """A copy of a command, and of those in it, in the user's language; whose module brings the translations is seen from its callback."""
    made = copy.copy(command)
    made.context_class = PagesContext
    tell = speaker(getattr(command.callback, "__module__", None) or __name__)
    made.help = "\n\n".join(_paragraph(tell, part) for part in paragraphs(command.help))
    made.short_help = tell(command.short_help) if command.short_help else _first_sentence(made.help)
    made.epilog = "\n\n".join(_paragraph(tell, part) for part in paragraphs(command.epilog)) or None
    made.options_metavar = command.options_metavar and tell(command.options_metavar)
    made.params = [localised_parameter(tell, one) for one in command.params]
    if isinstance(made, click.Group):
        made.subcommand_metavar = tell(made.subcommand_metavar)
        made.commands = {name: localised(one) for name, one in made.commands.items()}
    return made


def paragraphs(text: str | None) -> list[str]:
    """The paragraphs of a help text, each on one line as far as it may be wrapped; such is the key of its translation."""
    parts = inspect.cleandoc(text or "").partition("\f")[0].split("\n\n")
    return [part if part.startswith("\b") else " ".join(part.split()) for part in parts if part.strip()]


def words_of(parameter: click.Parameter) -> list[str]:
    """What of a parameter's own is translated: its help, and what stands for its value."""
    found = [parameter.help] if isinstance(parameter, click.Option) and parameter.help else []
    return [*found, *([word] if (word := _value_word(parameter)) else [])]


def _value_word(parameter: click.Parameter) -> str:
    """What stands for the value: ``FILE``; nothing for flags and for lists of choices, which are what is typed."""
    if parameter.metavar is not None:
        return parameter.metavar
    if isinstance(parameter.type, click.Choice) or (isinstance(parameter, click.Option) and (parameter.is_flag or parameter.count)):
        return ""
    return parameter.name.upper() if isinstance(parameter, click.Argument) and parameter.name else parameter.type.name.upper()


def localised_parameter(tell: Callable[..., str], parameter: _P) -> _P:
    """A copy of a parameter in the user's language."""
    made = copy.copy(parameter)
    if isinstance(made, click.Option) and made.help:
        made.help = "\n\n".join(_paragraph(tell, part) for part in paragraphs(made.help))
    word = _value_word(parameter)
    said = tell(word) if word else ""
    if said != word:
        if parameter.metavar is None:
            said = said if parameter.required or isinstance(parameter, click.Option) else f"[{said}]"
            said += "..." if parameter.nargs != 1 else ""
        made.metavar = said
    return made


def _paragraph(tell: Callable[..., str], part: str) -> str:
    return part if part.startswith("\b") else tell(part)


def _first_sentence(text: str) -> str:
    """What the list of commands says of one: whole sentences, and no dots for the rest."""
    return re.split(r"(?<=[。])|(?<=\.)\s", text.partition("\n\n")[0])[0]
