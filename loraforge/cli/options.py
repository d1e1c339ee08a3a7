# SPDX-License-Identifier: Apache-2.0
"""What the commands share: the plugins of this process run, JSON, common arguments, and options that plugins declare as keys."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import terminal
from ..errors import ConfigError
from ..messages import speaker
from ..plugin_api.host import PluginHost
from ..terminal import show
from .wording import localised_parameter

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from ..config.schema import Keys

say = speaker(__name__)


def host_of(ctx: click.Context) -> PluginHost:
    """The plugins of this process run."""
    root = ctx.find_root()
    if root.obj is None:
        root.obj = PluginHost(tuple(root.params.get("plugin_files") or ()))
    host = root.obj
    assert isinstance(host, PluginHost)
    return host


def program(ctx: click.Context) -> list[object]:
    """The first words of a line for pasting: a plugin that was given as a file has to be given again."""
    return ["loraforge", *(word for file in ctx.find_root().params.get("plugin_files") or () for word in ("-p", file))]


def emit(value: Any) -> None:
    """JSON on standard output."""
    show(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def complete_task(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The names of tasks, for the shell."""
    return [name for name in host_of(ctx).tasks() if name.startswith(incomplete)]


class FiniteRange(click.FloatRange):
    """A ``click.FloatRange`` without nan and inf, which lie within any bounds for ``<``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(say("{value} is not a finite number.", value=value), param, ctx)
        return number

    def _describe_range(self) -> str:
        """What the help says of the bounds: of none, nothing (click writes ``x<=None``)."""
        return "" if self.min is None and self.max is None else super()._describe_range()


JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on standard output.")
TASK = click.argument("task", shell_complete=complete_task)
CONFIG = click.argument("config", required=False, type=click.Path(path_type=Path))
EXAMPLE = click.option(
    "--example", metavar="NAME", help="In place of CONFIG: write this example into the current folder, and take it: legal, cyberpunk ..."
)
SET = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Use this value instead of the config's. May be repeated."
)
_SOURCE = "loraforge.example"  # in a context: the config of the example that is to be written
RUN = click.argument("run", type=click.Path(path_type=Path))


# --- options that plugins declare ---------------------------------------------------------------------------------------------


class ConfigCommand(click.Command):
    """A command with TASK and CONFIG, which also takes them the other way round, a config that says its task itself, and an example."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        written, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        example, words = written.get("example"), [written.get("task"), written.get("config")]
        if example is not None:
            return self._with_example(ctx, given, str(example), [str(word) for word in words if isinstance(word, str | os.PathLike)])
        rest = super().parse_args(ctx, args)
        if ctx.params.get("config") is None and not ctx.resilient_parsing:
            first = ctx.params.get("task")
            task = task_of(host_of(ctx), Path(str(first)), self.name or "") if first else None
            if task is None:
                missing = next(parameter for parameter in self.get_params(ctx) if parameter.name == "config")
                raise click.MissingParameter(ctx=ctx, param=missing, param_hint=f"'{say('CONFIG')}'")
            ctx.params |= {"task": task, "config": Path(str(first))}
        task, config, known = str(ctx.params["task"]), str(ctx.params["config"]), host_of(ctx).tasks()
        if task not in known and config in known:
            ctx.params |= {"task": config, "config": Path(task)}
        return rest

    def _with_example(self, ctx: click.Context, given: list[str], name: str, words: Sequence[str]) -> list[str]:
        """The example's config in the current folder, where ``invoke`` writes it, as CONFIG."""
        from ..starting.examples import find_example

        host = host_of(ctx)
        configs = [word for word in words if word not in host.tasks()]
        if configs:
            raise click.UsageError(say("{first} and {second} exclude each other.", first="--example", second=configs[0]), ctx)
        task, source = find_example(host, name, next(iter(words), None))
        ctx.meta[_SOURCE] = source
        return super().parse_args(ctx, [task.name, f"{name}.yaml", *(word for word in given if word not in words)])

    def invoke(self, ctx: click.Context) -> Any:
        """Writes the example first, if one was asked for."""
        if _SOURCE in ctx.meta:
            from ..starting.examples import place_example

            for path in place_example(ctx.meta[_SOURCE], ctx.params["example"], Path(), again=True)[1]:
                show(say("Written: {path}", path=path), err=True)
        return super().invoke(ctx)


def task_of(host: PluginHost, config: Path, command: str) -> str | None:
    """The task that a config names in ``task_type``; None for what is no config.

    Raises:
        ConfigError: saying which command to type, if the config does not say it.
    """
    from ..config.yaml_reader import read

    tasks = host.tasks()
    if str(config) in tasks or not (config.suffix.lower() in (".yaml", ".yml") or config.exists()):
        return None
    written = read(config).values.get("task_type")
    found = [name for name, (task, _) in tasks.items() if written is not None and written.value in (name, *task.aliases)]
    if found:
        return found[0]
    lines = [terminal.command("loraforge", command, name, config) for name in tasks]
    raise ConfigError(
        say("{config}: for what task? Type {lines}, or write task_type into it.", config=config, lines=say(" or ").join(lines))
    )


class _WithPluginOptions(click.Command):
    """A command that also takes what plugins declare as keys; such an option is None where it was not given."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        own = super().get_params(ctx)
        taken = {parameter.name for parameter in own}
        found = {name: info for owner in self.owners(host_of(ctx)) for name, info in owner.model_fields.items() if name not in taken}
        return [*own[:-1], *(_option(name, info) for name, info in found.items() if self.shows(info)), own[-1]]

    def owners(self, host: PluginHost) -> Iterable[type[Keys]]:
        """Who declares the keys."""
        raise NotImplementedError

    def shows(self, info: FieldInfo) -> bool:
        """Whether a key is an option."""
        return True


class SamplingCommand(_WithPluginOptions):
    """Takes the ``sampling`` settings of every task."""

    def owners(self, host: PluginHost) -> Iterable[type[Keys]]:
        return [task.sampling.settings for task, _ in host.tasks().values()]


class ExportingCommand(_WithPluginOptions):
    """Takes those keys of exporters that are options."""

    def owners(self, host: PluginHost) -> Iterable[type[Keys]]:
        return [exporter.keys for task in host.tasks() for exporter, _ in host.components("loraforge_exporters", task).values()]

    def shows(self, info: FieldInfo) -> bool:
        return isinstance(info.json_schema_extra, dict) and bool(info.json_schema_extra.get("option"))


class TrainCommand(ConfigCommand, ExportingCommand):
    """``train``: TASK, CONFIG, and the exporters' options."""


def _option(name: str, info: FieldInfo) -> click.Option:
    written = str(info.annotation)
    kind: Any = str
    if "float" in written:
        kind = float
    elif "int" in written:
        kind = int
    default = "" if info.default in (None, "", False) or info.is_required() else "  " + say("[default: {default}]", default=info.default)
    flag = "--" + name.replace("_", "-")
    about = say(info.description or "") + default
    if info.annotation is bool:
        return click.Option([flag, name], is_flag=True, default=None, help=about)
    metavar = "DIR" if "folder" in (info.description or "") else None
    return localised_parameter(say, click.Option([flag, name], type=kind, default=None, help=about, metavar=metavar))


def settings(owner: type[Keys], given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of ``owner`` with the options that were given.

    Raises:
        ConfigError: naming every option that has no place here or a wrong value.
    """
    from pydantic import ValidationError

    from ..config.explanations import broken_rule

    chosen = {name: value for name, value in given.items() if value is not None}
    problems = [say("--{name} means nothing here.", name=name.replace("_", "-")) for name in chosen if name not in owner.model_fields]
    try:
        values = owner(**{name: value for name, value in chosen.items() if name in owner.model_fields}).model_dump()
    except ValidationError as error:
        for detail in error.errors():
            option = "--" + str(detail["loc"][0]).replace("_", "-") if detail["loc"] else ""
            problems.append(f"{option}: {broken_rule(detail)}")
    if problems:
        raise ConfigError(problems)
    return values
