"""What the commands share: the plugins of this process run, JSON, and common arguments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from .plugins import PluginHost


def host_of(ctx: click.Context) -> PluginHost:
    """The plugins of this process run."""
    root = ctx.find_root()
    if root.obj is None:
        root.obj = PluginHost(tuple(root.params.get("plugin_files") or ()))
    host = root.obj
    assert isinstance(host, PluginHost)
    return host


def emit(value: Any) -> None:
    """JSON on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def complete_task(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The names of tasks, for the shell."""
    return [name for name in host_of(ctx).tasks() if name.startswith(incomplete)]


JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on standard output.")
TASK = click.argument("task", shell_complete=complete_task)
CONFIG = click.argument("config", type=click.Path(path_type=Path))
SET = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Use this value instead of the config's. May be repeated."
)
RUN = click.argument("run", type=click.Path(path_type=Path))
