# SPDX-License-Identifier: Apache-2.0
"""The examples that plugins bring: a config with its data, written to where somebody works."""

from __future__ import annotations

import difflib
import filecmp
import os
import re
from pathlib import Path
from typing import Any

from ..config.yaml_reader import read
from ..errors import ConfigError
from ..messages import language, speaker
from ..plugin_api.host import PluginHost
from ..plugin_api.task import Task
from ..terminal import command
from .writing import new_copy, new_file, require_room, taken

say = speaker(__name__)


def all_examples(host: PluginHost) -> dict[str, dict[str, Path]]:
    """The configs of examples by task and name."""
    return {name: dict(task.start.examples()) for name, (task, _) in host.tasks().items()}


def about_example(config: Path) -> str:
    """What an example is, as the comment says with which its config begins: of a Chinese one with an English one behind it, be that behind
    a slash or on the next line, the one in the language of the program."""
    try:
        lines = config.read_text(encoding="utf-8").splitlines()[:2]
    except (OSError, UnicodeDecodeError):
        return ""
    said = [line.lstrip("# ") for line in lines if line.startswith("#")]
    if not said:
        return ""
    parts = re.split(r"(?<=[。.])\s*/ ", said[0], maxsplit=1)
    parts = parts if len(parts) > 1 or not said[0].endswith("。") else said
    return parts[0 if language() == "zh" else -1].strip()


def find_example(host: PluginHost, name: str, task: str | None) -> tuple[Task[Any], Path]:
    """The task and the config of an example.

    Args:
        task: that of the command line, where it says one.

    Raises:
        ConfigError: if there is none of that name, with those that there are.
    """
    there = all_examples(host)
    owners = [owner for owner, named in there.items() if name in named and task in (None, owner)]
    if len(owners) == 1:
        return host.task(owners[0]), there[owners[0]][name]
    if len(owners) > 1:
        raise ConfigError(say("several tasks have an example '{name}': {tasks}. Name the task too.", name=name, tasks=", ".join(owners)))
    elsewhere = [owner for owner, named in there.items() if name in named]
    if elsewhere:
        raise ConfigError(say("'{name}' is an example of {other}, not of {task}.", name=name, other=elsewhere[0], task=task))
    known = [one for owner, named in there.items() for one in named if task in (None, owner)]
    close = difflib.get_close_matches(name, known, n=1)
    hint = say(" Did you mean '{word}'?", word=close[0]) if close else ""
    listed = ", ".join(known) or say("none")
    raise ConfigError(say("there is no example '{name}'.{hint} There are: {names}.", name=name, hint=hint, names=listed))


def place_example(source: Path, name: str, folder: Path, *, again: bool = False) -> tuple[Path, list[Path]]:
    """Writes an example into a folder.

    Args:
        again: take what is there already, if it is this very example.

    Returns:
        The config, and what was written: the config, and the folder of its data.

    Raises:
        ConfigError: if something else is there, or nothing can be written.
    """
    require_room(folder)
    config = folder / f"{name}.yaml"
    data = _data_of(source)
    copies = {folder / data.relative_to(source.parent): data} if data is not None else {}
    same = [target for target, original in {config: source, **copies}.items() if os.path.lexists(target) and _same(original, target)]
    for target in (config, *copies):
        if not os.path.lexists(target) or (target in same and (again or target != config)):
            continue
        if target == config and again:
            raise ConfigError(
                say(
                    "{path} is there already and is no longer the example as it came. To use it: {command}. For the example as it came, go "
                    "to another folder.",
                    path=config,
                    command=command("loraforge", "train", config),
                )
            )
        raise taken(target)
    written = []
    for target, original in copies.items():
        if target not in same:
            new_copy(original, target)
            written.append(target)
    if config not in same:
        new_file(config, source.read_text(encoding="utf-8"))
        written.insert(0, config)
    return config, written


def _data_of(source: Path) -> Path | None:
    """The folder with the data of an example; None for one that is for somebody's own data."""
    named = read(source).values.get("train_data_dir")
    folder = source.parent / str(named.value) if named is not None else None
    return folder if folder is not None and folder.is_dir() else None


def _same(original: Path, target: Path) -> bool:
    """Whether two files, or the files of two folders, are equal; what else lies in the target's folder does not count."""
    if original.is_file():
        return target.is_file() and _text(original) == _text(target)
    files = [path.relative_to(original) for path in original.rglob("*") if path.is_file()]
    return target.is_dir() and all(
        (target / file).is_file() and filecmp.cmp(original / file, target / file, shallow=False) for file in files
    )


def _text(path: Path) -> bytes:
    return path.read_bytes().replace(b"\r\n", b"\n")
