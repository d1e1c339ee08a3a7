# SPDX-License-Identifier: Apache-2.0
"""Every command of the command line, those of the plugins included."""

from __future__ import annotations

from collections.abc import Iterator

import click


def every_command() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """The words behind ``loraforge`` that call it, and the command as its author wrote it; the root has none."""
    from loraforge.cli.main import cli
    from loraforge.plugin_api.host import PluginHost

    host = PluginHost(blocked=("echo",))
    yield (), cli
    waiting = [((name,), command) for name, command in {**cli.commands, **host.commands(cli.commands)}.items()]
    while waiting:
        path, command = waiting.pop(0)
        yield path, command
        if isinstance(command, click.Group):
            waiting += [((*path, name), inner) for name, inner in command.commands.items()]


def own_words(command: click.Command) -> list[str]:
    """The texts of a command that are translated, as its author wrote them."""
    from loraforge.cli.wording import paragraphs, words_of

    found = [part for part in [*paragraphs(command.help), *paragraphs(command.epilog)] if not part.startswith("\b")]
    found += [command.options_metavar] if command.options_metavar else []
    found += [command.subcommand_metavar] if isinstance(command, click.Group) else []
    return [*found, *(word for parameter in command.params for word in words_of(parameter))]
