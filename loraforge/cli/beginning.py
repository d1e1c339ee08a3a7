# SPDX-License-Identifier: Apache-2.0
"""``loraforge init``: a first config, an example, or another program's config as ours. torch is not imported."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import terminal
from ..errors import ConfigError
from ..messages import speaker
from ..terminal import command, show
from .options import JSON, complete_task, emit, host_of, program

if TYPE_CHECKING:
    from ..plugin_api.host import PluginHost
    from ..plugin_api.start import ConfigLine
    from ..plugin_api.task import Task

say = speaker(__name__)

NAME = "my.yaml"
DATA = "data"


@dataclass(frozen=True)
class Begun:
    """What ``init`` did.

    Attributes:
        chosen: the lines that say something about the data, or about the other program's config.
        said: sentences that are printed below, a heading before each list.
    """

    task: str
    config: Path
    written: Sequence[Path]
    chosen: Sequence[ConfigLine] = ()
    said: Sequence[tuple[str, Sequence[str]]] = ()


@click.command()
@click.argument("task", required=False, shell_complete=complete_task)
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--example", metavar="NAME", help="Write this example, config and data, instead: legal, cyberpunk ...")
@click.option("--data", type=click.Path(path_type=Path), metavar="TABLE_OR_FOLDER", help="Look at these data, and fill in what they say.")
@click.option("--base", metavar="MODEL", help="The base model; by default the small one that comes with LoRAForge.")
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Translate a config of lora-scripts, sd-scripts (TOML) or LLaMA-Factory (YAML).",
)
@JSON
@click.pass_context
def init(
    ctx: click.Context,
    task: str | None,
    folder: Path | None,
    example: str | None,
    data: Path | None,
    base: str | None,
    source: Path | None,
    as_json: bool,
) -> None:
    """Write a first config into FOLDER (by default this one): commented, and filled in from your data where you name them.

    \b
      loraforge init text --data table.xlsx
      loraforge init image --data pictures
      loraforge init --example legal
      loraforge init --from config.toml

    Nothing is ever overwritten. `loraforge keys TASK` explains all other keys.
    """
    host = host_of(ctx)
    task, folder = _places(host, task, folder)
    _require_one(example=example, data=data, source=source, base=base)
    if example is not None:
        begun = _example(host, example, task, folder or Path())
    elif source is not None:
        begun = _translated(host, source, task, folder or Path())
    else:
        begun = _first(ctx, task, folder, data, base or "")
    if as_json:
        emit({
            "task": begun.task,
            "config": begun.config,
            "written": list(begun.written),
            "chosen": {line.key: {"value": line.value, "why": line.why} for line in begun.chosen},
            "said": [line for _, lines in begun.said for line in lines],
        })  # fmt: skip
    else:
        _report(begun, program(ctx))


def _places(host: PluginHost, task: str | None, folder: Path | None) -> tuple[str | None, Path | None]:
    """Which of the two words is the task: either may be left out, and they may change places."""
    tasks = host.tasks()
    if task is None or task in tasks:
        return task, folder
    if folder is None:
        if difflib.get_close_matches(task, list(tasks), n=1) and not Path(task).exists():
            host.task(task)  # says which word may have been meant
        return None, Path(task)
    if str(folder) in tasks:
        return str(folder), Path(task)
    host.task(task)  # says that there is none, and which there are
    return None, None


def _require_one(*, base: str | None, **given: object) -> None:
    """Raises: click.UsageError: if options exclude each other."""
    names = [f"--{'from' if name == 'source' else name}" for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise click.UsageError(say("{first} and {second} exclude each other.", first=names[0], second=names[1]))
    if base is not None and names and names != ["--data"]:
        raise click.UsageError(say("{first} and {second} exclude each other.", first="--base", second=names[0]))


def _example(host: PluginHost, name: str, task: str | None, folder: Path) -> Begun:
    from ..starting.examples import find_example, place_example

    found, source = find_example(host, name, task)
    config, written = place_example(source, name, folder)
    return Begun(found.name, config, written)


def _translated(host: PluginHost, source: Path, task: str | None, folder: Path) -> Begun:
    from ..starting.config_text import config_file
    from ..starting.translating import translate
    from ..starting.writing import new_file, require_room, taken

    config = folder / NAME
    require_room(folder)
    if config.exists():
        raise taken(config)
    found = translate(host, source, task, config)
    lost = [f"{key}: {why}" for key, why in found.lost.items()]
    heading = [say("Made of {file}, a config of {trainer}. `loraforge keys {task}` explains every key.",
                   file=source.name, trainer=found.trainer, task=found.task.name)]  # fmt: skip
    ending = [say("Of that config this has no counterpart here:"), *lost] if lost else []
    new_file(config, config_file(heading, found.lines, ["", *ending] if ending else []))
    said = [
        (say("Taken from {trainer}: {n} keys; behind each line stands what it was called.", trainer=found.trainer, n=len(found.taken)), ()),
        (say("Not needed here:"), found.unneeded),
        (say("Without a counterpart (the list is at the end of the config too):"), lost),
        ("", [say("note: {text}", text=note) for note in found.notes]),
    ]
    return Begun(found.task.name, config, [config], (), said)


def _first(ctx: click.Context, name: str | None, folder: Path | None, data: Path | None, base: str) -> Begun:
    """A config for data that somebody names, or for a folder that is still empty."""
    from ..starting.filling import require_data
    from ..starting.writing import require_room, taken

    host = host_of(ctx)
    if data is None and folder is not None and _holds_something(folder):
        data, folder = folder, folder if folder.is_dir() else None
    if data is not None:
        require_data(data)
    place = folder or Path()
    if name is None:
        raise ConfigError(_which_task(ctx, place, data))
    config = place / NAME
    require_room(place)
    if config.exists():
        raise taken(config)
    task = host.task(name)
    return _of_data(host, task, config, data, base) if data is not None else _empty(host, task, config, base)


def _holds_something(place: Path) -> bool:
    """Whether somebody's data may be there: a file, or a folder that is not empty."""
    if not place.is_dir():
        return place.exists()
    return any(not entry.name.startswith(".") and entry.suffix not in (".yaml", ".yml") for entry in place.iterdir())


def _which_task(ctx: click.Context, place: Path, data: Path | None) -> str:
    words = [*(["--data", data] if data is not None else [place] if place != Path() else [])]
    lines = [command(*program(ctx), "init", name, *words) for name in host_of(ctx).tasks()]
    return say("for what task? Type {lines}.", lines=say(" or ").join(lines))


def _of_data(host: PluginHost, task: Task[Any], config: Path, data: Path, base: str) -> Begun:
    from ..plugin_api.start import ConfigLine
    from ..starting.config_text import config_file
    from ..starting.filling import fill_in, first_config, written_path
    from ..starting.writing import new_file

    folder = data if data.is_dir() else data.parent
    lines = first_config(task, written_path(folder, config), base, f"./output/{data.absolute().stem}")
    if data.is_file():
        lines.insert(1, ConfigLine("metadata_path", written_path(data, config), say("the file with the examples")))
    filled = fill_in(host, task, lines, config, lambda text: show(text, err=True))
    new_file(config, config_file(_heading(task), filled.lines))
    said = [
        ("", [say("note: {text}", text=note) for note in filled.notes]),
        (say("The data cannot be trained on yet; `check` says the same until this is mended:"), filled.problems),
        (say("To look at:"), filled.remarks),
    ]
    return Begun(task.name, config, [config], filled.chosen, said)


def _empty(host: PluginHost, task: Task[Any], config: Path, base: str) -> Begun:
    from ..starting.config_text import config_file
    from ..starting.filling import first_config, planned, written_path
    from ..starting.writing import for_people, new_file

    data = config.parent / DATA
    if data.is_dir() and _holds_something(data):
        return _of_data(host, task, config, data, base)
    with for_people(config.parent):
        data.mkdir(parents=True, exist_ok=True)
    name = config.absolute().parent.name if config.parent != Path() else "mine"
    lines = first_config(task, written_path(data, config), base, f"./output/{name}")
    if base or task.start.base:
        planned(host, task, lines, config)
    new_file(config, config_file(_heading(task), lines))
    return Begun(task.name, config, [config, data], (), [(say("Put your examples into {folder}.", folder=data), ())])


def _heading(task: Task[Any]) -> list[str]:
    return [say(task.help), say("`loraforge keys {task}` explains every key that there is.", task=task.name)]


def _report(begun: Begun, loraforge: Sequence[object]) -> None:
    """What was written, what was chosen and why, and what comes next."""
    from rich.markup import escape
    from rich.text import Text

    from ..starting.config_text import yaml_text

    out = terminal.console()
    for path in begun.written:
        out.print(say("Written: {path}", path=escape(str(path))))
    if not begun.written:
        out.print(say("It is all there already: {path}", path=escape(str(begun.config))))
    for line in begun.chosen:
        out.print(f"  {escape(line.key)}: {escape(yaml_text(line.value))}" + (f"  ({escape(line.why)})" if line.why else ""))
    for heading, lines in begun.said:
        if heading and (lines or not heading.endswith((":", "："))):
            out.print(escape(heading))
        for text in lines:
            out.print(f"  {escape(text)}")
    out.print()
    out.print(say("Next:"))
    for word in ("check", "train"):
        out.print(Text(f"  {command(*loraforge, word, begun.task, begun.config)}", style="cyan"))


COMMANDS = (init,)
