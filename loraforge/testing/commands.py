# SPDX-License-Identifier: Apache-2.0
"""``check_command``: a plugin's command, run as the command line runs it."""

from __future__ import annotations

import inspect
import json
import tempfile
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ..errors import LoraForgeError
from ..plugin_api.hookspecs import hookimpl
from .environment import host_with
from .guards import without_torch

if TYPE_CHECKING:
    import click
    from click.testing import Result

    from ..plugin_api.host import PluginHost


def check_command(
    command: click.Command,
    args: Sequence[object] = (),
    *,
    refused: Iterable[Sequence[object]] = (),
    plugins: Iterable[object] = (),
    text: str | None = None,
    code: int = 0,
) -> str:
    """It says what it is for without importing torch, explains each option, does what ``args`` ask, and explains bad input in a sentence.

    It runs as ``loraforge NAME ARGS`` does, with the plugin host at ``ctx.find_root().obj``. Then each path in ``args`` that is there is
    replaced by one that is not: the command may do without it or refuse it, but not end in a traceback.

    Args:
        args: a call that works, without the command's name.
        refused: calls that must be refused with a LoraForgeError or a click.UsageError.
        plugins: modules that the call needs beside the installed ones.
        text: what is typed while it runs, for commands that ask.
        code: the exit code of the call that works.

    Returns:
        what this call printed on standard output.

    Raises:
        AssertionError: with the promise that is not kept.
    """
    from ..cli.main import cli

    name = str(command.name)
    assert command.name, "a command needs a name"
    assert name not in cli.commands, f"the name '{name}' belongs to LoRAForge itself: the command would be left out"
    host = _host(command, plugins)
    with without_torch("a command's --help"):
        _check_help(host, command, [name])
    result = _invoke(host, [name, *args], text)
    assert _error(result) is None, f"`loraforge {_line(name, args)}` must work; it ends with {_told(result)}"
    assert _exit_code(result) == code, f"`loraforge {_line(name, args)}` must end with exit code {code}, not {_exit_code(result)}"
    if "--json" in args:
        _check_json(result.stdout)
    for wrong in refused:
        _check_refused(host, name, wrong, text, must=True)
    with tempfile.TemporaryDirectory() as place:
        for wrong in _without_paths(args, Path(place)):
            _check_refused(host, name, wrong, text, must=False)
    return result.stdout


def _host(command: click.Command, plugins: Iterable[object]) -> PluginHost:
    """The installed plugins, with the command among theirs."""
    host = host_with(plugins)
    there = host.commands(()).get(str(command.name))
    if there is None:
        host.register(SimpleNamespace(loraforge_commands=hookimpl(lambda: [command], specname="loraforge_commands")), "command-under-test")
    else:
        taken = there is not command and there.callback is not command.callback
        assert not taken, f"another plugin has a command '{command.name}' already: this one would be left out"
    return host


def _check_help(host: PluginHost, command: click.Command, words: list[str]) -> None:
    """``--help`` of a command and of those below it."""
    import click

    line = " ".join(words)
    about = (command.help or "").strip()
    assert about, f"`{line}` needs a sentence of help: the docstring of its function"
    bare = [option.opts[0] for option in command.params if isinstance(option, click.Option) and not (option.help or option.hidden)]
    assert not bare, f"`{line}`: every option needs a sentence of help; {', '.join(bare)} has none"
    result = _invoke(host, [*words, "--help"])
    assert _error(result) is None, f"`loraforge {line} --help` must work; it ends with {_told(result)}"
    first = " ".join(about.split()[:3])
    assert first in " ".join(result.stdout.split()), f"`loraforge {line} --help` must say what the command is for: '{first} ...'"
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        _check_help(host, inner, [*words, name])


def _invoke(host: PluginHost, args: Sequence[object], text: str | None = None) -> Result:
    """One call of the command line in this process."""
    from click.testing import CliRunner

    from ..cli.main import cli

    # Before click 8.2, what is said of errors stood among the output.
    apart: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
    return CliRunner(**apart).invoke(cli, [str(arg) for arg in args], input=text, obj=host, prog_name="loraforge", standalone_mode=False)


def _error(result: Result) -> BaseException | None:
    """What ended a call; sys.exit is an ordinary end."""
    return None if isinstance(result.exception, SystemExit) else result.exception


def _exit_code(result: Result) -> int:
    return result.return_value if isinstance(result.return_value, int) else result.exit_code


def _check_json(printed: str) -> None:
    try:
        json.loads(printed)
    except ValueError:
        raise AssertionError(f"with --json a command must print JSON and nothing else on standard output: {printed[:200]!r}") from None


def _check_refused(host: PluginHost, name: str, args: Sequence[object], text: str | None, must: bool) -> None:
    """A call that is wrong, or may be."""
    import click

    result = _invoke(host, [name, *args], text)
    explained = isinstance(_error(result), LoraForgeError | click.ClickException | click.Abort)
    line = f"`loraforge {_line(name, args)}`"
    assert explained or _error(result) is None, f"{line} must end with a LoraForgeError that says what to do; it ends with {_told(result)}"
    assert explained or not must, f"{line} must be refused with a LoraForgeError or a click.UsageError; it ends as if all were well"
    silent = isinstance(_error(result), LoraForgeError) and not str(_error(result)).strip()
    assert not silent, f"{line} is refused without a word"


def _message(error: Any) -> str:
    return error.format_message() if hasattr(error, "format_message") else str(error) or type(error).__name__


def _told(result: Result) -> str:
    """How a call ended, with the place where a bug is."""
    error = _error(result)
    if error is None or isinstance(error, LoraForgeError) or hasattr(error, "format_message"):
        return f"{type(error).__name__}: {_message(error)}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"a traceback, {type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"


def _line(name: str, args: Sequence[object]) -> str:
    return " ".join([name, *map(str, args)])


def _without_paths(args: Sequence[object], place: Path) -> Iterator[list[object]]:
    """The call, once for each path in it that is there, with one that is not."""
    for position, arg in enumerate(args):
        words = str(arg)
        if len(words) < 1000 and not words.startswith("-") and Path(words).exists():
            yield [*args[:position], place / f"not-there-{position}{Path(words).suffix}", *args[position + 1 :]]
