# SPDX-License-Identifier: Apache-2.0
"""The commands that explain LoRAForge itself: keys, plugins, list, completion. None of them imports torch."""

from __future__ import annotations

import click

from .. import terminal
from ..messages import speaker
from .options import JSON, TASK, emit, host_of

say = speaker(__name__)


def core_commands(ctx: click.Context) -> list[str]:
    """The names of the commands that are not a plugin's."""
    root = ctx.find_root().command
    assert isinstance(root, click.Group)
    return list(root.commands)


@click.command()
@TASK
@click.option("--schema", is_flag=True, help="Print the JSON Schema for editors instead.")
@JSON
@click.pass_context
def keys(ctx: click.Context, task: str, schema: bool, as_json: bool) -> None:
    """Explain every YAML key of a task."""
    import dataclasses

    from ..config import key_docs
    from ..plan import owners_of
    from . import report

    host = host_of(ctx)
    owners = owners_of(host, host.task(task))
    if schema:
        emit(key_docs.schema([owner for _, owner in owners]))
        return
    rows = [row for name, owner in owners for row in key_docs.describe(name, owner)]
    if as_json:
        emit([dataclasses.asdict(row) for row in rows])
    else:
        report.keys(terminal.console(), rows)


@click.command()
@JSON
@click.pass_context
def plugins(ctx: click.Context, as_json: bool) -> None:
    """List the plugins, those that could not be used included."""
    import dataclasses

    from . import report

    host = host_of(ctx)
    host.commands(core_commands(ctx))  # a clash of commands shows only when they are asked for
    rows = host.plugins()
    clashes = host.clashes()
    if as_json:
        emit({"plugins": [dataclasses.asdict(row) for row in rows], "clashes": clashes})
    else:
        report.plugins(terminal.console(), rows, clashes)


@click.command("list")
@JSON
@click.pass_context
def list_components(ctx: click.Context, as_json: bool) -> None:
    """List what the plugins bring: tasks, loaders, templates, model families, exporters, examples."""
    from ..plugin_api.host import KINDS
    from ..starting.examples import about_example
    from . import report

    host = host_of(ctx)
    rows = [
        {"kind": "task", "task": name, "name": name, "help": say(task.help), "plugin": plugin}
        for name, (task, plugin) in host.tasks().items()
    ]
    for name, (task, plugin) in host.tasks().items():
        rows += [
            {"kind": "example", "task": name, "name": part, "help": about_example(config), "plugin": plugin}
            for part, config in task.start.examples().items()
        ]
        for hook, kind in KINDS.items():
            rows += [
                {"kind": kind, "task": name, "name": part, "help": say(component.help), "plugin": plugin}
                for part, (component, plugin) in host.components(hook, name).items()
            ]
    if as_json:
        emit(rows)
    else:
        report.components(terminal.console(), rows, host.broken())


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell: eval "$(loraforge completion bash)"."""
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(ctx.find_root().command, {}, "loraforge", "_LORAFORGE_COMPLETE").source())


COMMANDS = (keys, plugins, list_components, completion)
