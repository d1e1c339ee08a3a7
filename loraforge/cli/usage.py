"""What click says of a mistyped command line, in the user's language. The help texts themselves stay as click has them."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import click

from .. import terminal
from ..messages import language, speaker

say = speaker(__name__)

# click's sentences (8.1 to 8.5) with what varies in them.
_SAID: tuple[tuple[str, Callable[..., str]], ...] = (
    (r"No such command '(.+?)'\.(.*)", lambda name, hint: say("there is no command '{name}'.{hint}", name=name, hint=hint)),
    (r"Missing argument '(.+?)'\..*", lambda name: say("{name} is missing.", name=name)),
    (r"Missing option '(.+?)'\..*", lambda name: say("{name} is missing.", name=name)),
    (r"No such option:? '?(-[^\s'.]+)'?\.?(.*)",
     lambda name, more: say("there is no option {name}.{hint}", name=name, hint=_options(more))),
    (r"Option '(.+?)' requires an argument\.", lambda name: say("{name} needs a value after it.", name=name)),
    (r"Option '(.+?)' does not take a value\.", lambda name: say("{name} takes no value.", name=name)),
    (r"Got unexpected extra arguments? \((.+)\)", lambda what: say("'{what}' is too much.", what=what)),
    (r"Invalid value for '(.+?)': (.+) is not in the range (.+)\.",
     lambda name, got, bounds: say("{name}: {got} is not in the range {bounds}.", name=name, got=got, bounds=bounds)),
    (r"Invalid value for '(.+?)': (.+) is not a valid (?:integer|float).*\.",
     lambda name, got: say("{name}: {got} is no number.", name=name, got=got)),
    (r"Invalid value for '(.+?)': (.+) is not one of (.+)\.",
     lambda name, got, choices: say("{name}: {got} is none of {choices}.", name=name, got=got, choices=choices)),
)  # fmt: skip


def _options(rest: str) -> str:
    names = re.findall(r"--[\w-]+", rest)
    return say(" Did you mean '{word}'?", word="', '".join(names)) if names else ""


def show(error: click.ClickException) -> None:
    """Prints it to standard error: how the command is called, and what is wrong."""
    if language() == "en":
        said = io.StringIO()
        error.show(said)
        terminal.show(said.getvalue().rstrip("\n"), err=True)
        return
    ctx = getattr(error, "ctx", None)
    if ctx is not None:
        usage = " ".join(ctx.get_usage().removeprefix("Usage:").split())
        terminal.show(say("Usage: {usage}\nMore: {command} --help\n", usage=usage, command=ctx.command_path), err=True)
    terminal.show(say("Error: {message}", message=in_words(error.format_message())), err=True)


def in_words(message: str) -> str:
    """One of click's sentences in the user's language; as it is if it is none that is known."""
    for pattern, said in _SAID:
        if found := re.fullmatch(pattern, message, re.DOTALL):
            return said(*found.groups())
    return message
