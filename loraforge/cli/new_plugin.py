# SPDX-License-Identifier: Apache-2.0
"""``loraforge new-plugin``: a package to begin a plugin with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ..errors import PluginError
from ..messages import speaker
from ..scaffold.names import HOOKS, Names, taken_names, with_needed, wrong_name
from ..terminal import command, show
from .listings import core_commands
from .options import JSON, emit, host_of

say = speaker(__name__)


@click.command("new-plugin")
@click.argument("name")
@click.option(
    "--kind", "kinds", multiple=True, type=click.Choice(list(HOOKS)), default=("loader",), show_default=True, metavar="KIND",
    help="What the plugin is to bring: loader, template, check, exporter, family, task, command or observer. May be repeated.",
)  # fmt: skip
@JSON
@click.pass_context
def new_plugin(ctx: click.Context, name: str, kinds: Sequence[str], as_json: bool) -> None:
    """Begin a plugin: a package with code, types and tests that pass, in ./NAME."""
    from ..scaffold.writing import about, files_of, use, write_package

    if wrong := wrong_name(name):
        raise PluginError(wrong)
    names, wanted = Names(name), with_needed(kinds)
    if problems := taken_names(names, wanted, host_of(ctx), core_commands(ctx)):
        raise PluginError(problems)
    folder = write_package(names, wanted, Path())
    then = [
        command("pip", "install", "-e", f"./{folder}[dev]"),
        command("pytest", folder),
        command("loraforge", "plugins"),
        *dict.fromkeys(use(names, kind, wanted) for kind in wanted),
    ]
    if as_json:
        emit({"path": folder, "plugin": names.plugin, "kinds": wanted, "files": sorted(files_of(names, wanted)), "then": then})
        return
    show(say("{path}: the package {name}, with its tests:", path=folder, name=names.distribution))
    for kind in wanted:
        show(f"  {folder}/src/{names.package}/{kind}.py  {about(kind)}")
    show(say("\nNext:"))
    for line in then:
        show(f"  {line}")
    show(say("\nIts licence is yours to choose; {path} says how.", path=folder / "README.md"))


COMMANDS = (new_plugin,)
