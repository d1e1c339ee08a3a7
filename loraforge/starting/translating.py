# SPDX-License-Identifier: Apache-2.0
"""A config of another program as one of ours: what is taken, what is not needed here, and what has no counterpart.

Names and values are those of ``config.other_trainers``, which hold for our own configs too; what a program's config says in a way of its
own (lists of arguments, lists of data sets, what it takes where nothing is given) its ``OtherTrainer`` puts into such names first.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..config.keys import Keys, fields, validate
from ..config.other_trainers.aliases import all_aliases, dismiss, rename
from ..config.other_trainers.elsewhere import elsewhere
from ..config.other_trainers.refused import instead
from ..config.other_trainers.toml_reader import read_toml
from ..config.paths import path_role
from ..config.schema import RunConfig
from ..config.yaml_reader import Source, Value
from ..config.yaml_reader import read as read_yaml
from ..errors import ConfigError, LoraForgeError
from ..messages import speaker
from ..plugin_api.host import PluginHost
from ..plugin_api.start import ConfigLine, Given, OtherTrainer, Translation
from ..plugin_api.task import Task

say = speaker(__name__)

_UP = 2  # folders around a config in which its relative paths are looked for: programs are started from their own


@dataclass(frozen=True)
class Translated:
    """A config that was one of another program.

    Attributes:
        taken: the keys of the other config that say something here.
        unneeded: sentences on those that change nothing here.
        lost: sentences on those without a counterpart, each with its key.
        notes: what else somebody should read.
    """

    task: Task[Any]
    trainer: str
    lines: Sequence[ConfigLine]
    taken: Sequence[str]
    unneeded: Sequence[str]
    lost: Mapping[str, str]
    notes: Sequence[str]


def translate(host: PluginHost, path: Path, task_name: str | None, config: Path) -> Translated:
    """Reads a config of another program.

    Args:
        task_name: for which task; None: the one whose programs have such keys.
        config: where ours will be, for paths.

    Raises:
        ConfigError: if it cannot be read, or is none of a program that a task knows.
    """
    source = _read(path)
    task, trainer = _trainer(host, path, source, task_name)
    places = _Places(path)
    told = trainer.translate(Given({key: value.value for key, value in source.values.items()}, places.read, places.find))
    owners = _owners(host, task)
    given = _with_defaults(_source(source, told), told.defaults, owners)
    renamed = rename(replace(given, notes=()), owners)
    notes_on_names = set(renamed.notes)
    kept = dismiss(renamed, fields(owners))
    unneeded = [note for note in kept.notes if note not in notes_on_names]
    lost = dict(told.lost)
    values = _sound(kept, owners, lost, told.origins)
    theirs = {key: _theirs(key, value, told.origins) for key, value in values.items()}
    lines = _lines(values, theirs, told, owners, config, places, trainer.name)
    for key, placeholder in (("train_data_dir", "./data"), ("base_model", task.start.base)):
        if key not in values:
            lines = [ConfigLine(key, placeholder, say("that config names none")), *lines]
            lost.setdefault(key, say("that config names none: write it into ours."))
    ours = [key for key in source.values if key in {*theirs.values(), *told.used}]
    explained = {key.partition(" (")[0] for key in lost}
    merged = _merged(given, renamed, told.origins)
    unneeded += [say("{where}: {key}: adds nothing to the other lines.", where=source.values[key].where, key=key)
                 for key in source.values if key in merged - {*ours, *explained}]  # fmt: skip
    unneeded += _rest(source, {*ours, *explained, *_noted(renamed, kept), *merged}, lost)
    return Translated(
        task,
        trainer.name,
        [*_ordered(lines, owners, task)],
        ours,
        unneeded,
        lost,
        [*source.notes, *told.notes],
    )


def _noted(before: Source, after: Source) -> set[str]:
    """The keys whose lines change nothing here, which is said already."""
    return {key for key in before.values if key not in after.values}


def _merged(before: Source, after: Source, origins: Mapping[str, str]) -> set[str]:
    """The other program's keys that give a key of ours what it has already, or leave it as it is."""
    kept = {value.written or key for key, value in after.values.items()}
    return {origins.get(key, key) for key, value in before.values.items() if key not in kept and value.value not in (None, "", [], False)}


def _rest(source: Source, told: Collection[str], lost: dict[str, str]) -> list[str]:
    """What nobody has said anything of: sentences on what asks for nothing; the others go to ``lost``."""
    left = {key: value for key, value in source.values.items() if key not in told}
    lost |= {key: say("what it says is not understood here.") for key, value in left.items() if value.value}
    return [say("{where}: {key}: asks for nothing.", where=value.where, key=key) for key, value in left.items() if not value.value]


class _Places:
    """Finds and reads what another program's config names, whose relative paths begin where that program was started."""

    def __init__(self, path: Path) -> None:
        around = path.absolute().parent
        self._roots = [Path.cwd(), around, *list(around.parents)[:_UP]]

    def find(self, written: str) -> Path | None:
        """Where a file or folder is."""
        text = os.path.expanduser(written.replace("\\", "/") if os.name != "nt" else written)
        return next((root / text for root in self._roots if text.strip() and os.path.exists(root / text)), None)

    def read(self, written: str) -> Mapping[str, Any] | None:
        """What a file says, by key."""
        file = self.find(written)
        try:
            return None if file is None else {key: value.value for key, value in _read(file).values.items()}
        except LoraForgeError:
            return None


def _read(path: Path) -> Source:
    """TOML by its name; everything else as YAML, of which JSON is a part.

    Raises:
        ConfigError: if it cannot be read.
    """
    return read_toml(path) if path.suffix.lower() == ".toml" else read_yaml(path)


def _trainer(host: PluginHost, path: Path, source: Source, task_name: str | None) -> tuple[Task[Any], OtherTrainer]:
    """Whose config it is: the program of which it has the most marks.

    Raises:
        ConfigError: if it has none.
    """
    tasks = [host.task(task_name)] if task_name else [task for task, _ in host.tasks().values()]
    known = [(task, trainer) for task in tasks for trainer in task.start.trainers]
    scores = [len(trainer.marks & source.values.keys()) for _, trainer in known]
    if not any(scores):
        names = ", ".join(trainer.name for _, trainer in known) or say("none")
        if {"train_data_dir", "base_model"} <= source.values.keys():
            raise ConfigError(say("{path}: is a config of LoRAForge already: check and train take it as it is.", path=path))
        raise ConfigError(say("{path}: is no config of a program that is known here ({names}).", path=path, names=names))
    return known[scores.index(max(scores))]


def _owners(host: PluginHost, task: Task[Any]) -> list[type[Keys]]:
    """Who may own keys of such a run: all that it uses where nothing else is said."""
    parts = [
        host.component("loraforge_data_loaders", task.name, task.loader),
        host.component("loraforge_templates", task.name, task.template),
        *(host.component("loraforge_exporters", task.name, name) for name in task.exporters),
        *(check for check, _ in host.components("loraforge_checks", task.name).values()),
    ]
    return list(dict.fromkeys([RunConfig, task.keys, *(part.keys for part in parts)]))


def _source(source: Source, told: Translation) -> Source:
    """The values with the places of the keys that they come from."""

    def where(key: str) -> str:
        origin = told.origins.get(key, key)
        return source.values[origin].where if origin in source.values else str(source.path)

    return Source(source.path, {key: Value(value, where(key)) for key, value in told.values.items()})


def _with_defaults(source: Source, defaults: Mapping[str, Any], owners: Sequence[type[Keys]]) -> Source:
    """Also what that program takes where nothing is given, unless it is given under any name."""
    names = all_aliases(owners)
    given = {names.get(key, key) for key, value in source.values.items() if value.value not in (None, "", [])}
    more = {key: Value(value, str(source.path)) for key, value in defaults.items() if key not in given}
    return replace(source, values={**source.values, **more})


def _sound(source: Source, owners: Sequence[type[Keys]], lost: dict[str, str], origins: Mapping[str, str]) -> dict[str, Value]:
    """The values that our keys take; the others go to ``lost``."""
    known = fields(owners)
    values: dict[str, Value] = {}
    for key, value in source.values.items():
        row = None if key in known else elsewhere(key)
        if row is not None:
            problem = say(row.description)
        elif key in source.problems:
            problem = source.problems[key]
        elif key not in known:
            problem = say("nothing is known of it here.")
        else:
            problem = _refused(source, key, value, owners)
        nearest = _nearest(key, value, owners) if problem else None
        if problem:
            lost.setdefault(_called(value.written or key, origins), problem.removeprefix(f"{value.where}: "))
        if nearest is not None and (nearest[0] == key or nearest[0] not in source.values):
            ours, written = nearest
            values[ours] = written
            lost[_called(value.written or key, origins)] += " " + say("Written: {line}", line=f"{ours}: {written.value}")
        if not problem:
            values[key] = value
    return values


def _nearest(key: str, value: Value, owners: Sequence[type[Keys]]) -> tuple[str, Value] | None:
    """Our key, and its value that comes nearest to one that it does not take."""
    ours = all_aliases(owners).get(key, key)
    row = fields(owners).get(ours)
    found = instead(row[1], str(value.value)) if row is not None else ""
    return (ours, Value(found, value.where, value.written or (key if key != ours else ""))) if found else None


def _called(key: str, origins: Mapping[str, str]) -> str:
    """A key as the other config has it, and where it stands in the value of another one, within that: ``network_args (conv_alpha)``."""
    origin = origins.get(key, key)
    return origin if origin == key else f"{origin} ({key})"


def _refused(source: Source, key: str, value: Value, owners: Sequence[type[Keys]]) -> str:
    """What our key says against a value; nothing if it takes it."""
    owner = next(owner for owner in owners if key in owner.model_fields)
    needed = {name: Value("x", "") for name, info in owner.model_fields.items() if info.is_required()}
    try:
        validate(Source(source.path, {**needed, key: value}), [owner], paths=False)
    except ConfigError as error:
        return error.problems[0]
    return ""


def _theirs(key: str, value: Value, origins: Mapping[str, str]) -> str:
    """The key of the other config that a value comes from."""
    return origins.get(value.written or key, value.written or key)


def _lines(
    values: Mapping[str, Value],
    theirs: Mapping[str, str],
    told: Translation,
    owners: Sequence[type[Keys]],
    config: Path,
    places: _Places,
    trainer: str,
) -> list[ConfigLine]:
    """Our config, each line with what it was called; a value that is our default as well is left out where it was not given."""
    from .filling import written_path

    known = fields(owners)
    made = []
    for key, value in values.items():
        given = value.where != "" and (theirs[key] in told.values or theirs[key] != key or key in told.values)
        info = known[key][1]
        if not given and key in told.defaults and value.value == info.default:
            continue
        text = value.value
        if path_role(info) in ("input", "base") and isinstance(text, str) and (there := places.find(text)) is not None:
            text = written_path(there, config)
        why = say("what {trainer} takes where nothing is said", trainer=trainer) if not given else theirs[key] if theirs[key] != key else ""
        made.append(ConfigLine(key, text, why))
    return made


def _ordered(lines: Sequence[ConfigLine], owners: Sequence[type[Keys]], task: Task[Any]) -> list[ConfigLine]:
    order = list(fields(owners))
    named = [*lines, ConfigLine("task_type", task.name)] if all(line.key != "task_type" for line in lines) else list(lines)
    return sorted(named, key=lambda line: order.index(line.key))
