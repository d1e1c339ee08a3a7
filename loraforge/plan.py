# SPDX-License-Identifier: Apache-2.0
"""A config and the components that it names: ``make_plan()``. Nothing is loaded and torch is not imported."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .config.advice import advice
from .config.contradictions import contradictions
from .config.explanations import did_you_mean
from .config.optimizers.rules import refusals
from .config.other_trainers.aliases import all_aliases, dismiss, rename
from .config.paths import no_folder
from .config.schema import Keys, KeySet, RunConfig, fields, resolve_base, validate
from .config.yaml_reader import Source, read
from .errors import ConfigError, LoraForgeError, PluginError
from .hub import explain_base
from .messages import speaker
from .plugin_api.components import Check, Exporter, Loader, ModelFamily, Template
from .plugin_api.task import Task

if TYPE_CHECKING:
    from .plugin_api.host import PluginHost

say = speaker(__name__)


@dataclass(frozen=True)
class Plan:
    """A validated config with the components that it names.

    Attributes:
        advice: remarks on values that seldom work.
        notes: what was understood otherwise than it was written.
        places: where the keys that were given are written: ``configs/legal.yaml:4``.
        names: what another program calls them, where they were written so.
    """

    task: Task[Any]
    loader: Loader[Any]
    template: Template[Any]
    family: ModelFamily
    exporters: tuple[Exporter, ...]
    config: RunConfig
    keys: KeySet
    advice: tuple[str, ...]
    checks: tuple[Check[Any], ...] = ()
    notes: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)


def make_plan(
    host: PluginHost, task_name: str, path: Path, overrides: Sequence[str] = (), *, paths: bool = True, exporting: bool = True
) -> Plan:
    """Reads and validates a config for ``loraforge train TASK``.

    Args:
        paths: look paths up.
        exporting: whether the exporters are needed; otherwise one whose plugin is gone is not missed.

    Raises:
        ConfigError, PluginError: with everything that is wrong.
    """
    task = host.task(task_name)
    # The core's keys decide who the other owners are.
    later = {key for _, owner in owners_of(host, task) for key in owner.model_fields}
    source = rename(read(path, overrides), [RunConfig, task.keys], later)
    problems = _task_problems(task, source)

    def pick(choose: Callable[[], Any], key: str = "") -> Any:
        try:
            return choose()
        except PluginError as error:
            first, *others = error.problems
            where = f"{source.values[key].where}: {key}: " if key in source.values else ""
            problems.extend([first if where and first.startswith(source.values[key].where) else where + first, *others])
            return None

    loader = pick(lambda: host.component("loraforge_data_loaders", task.name, _raw(source, "data_loader") or task.loader), "data_loader")
    template = pick(lambda: _template(host, task, _raw(source, "prompt_template")), "prompt_template")
    family = pick(lambda: _family(host, task, source), "model_family")
    names = _exporters(host, task, family, source, missed=exporting)
    exporters = [pick(lambda n=name: _exporter(host, task, source, n)) for name in names]  # type: ignore[misc]
    checks = cast("dict[str, Check[Any]]", {name: check for name, (check, _) in host.components("loraforge_checks", task.name).items()})
    problems += host.unusable()
    components = [c for c in (loader, template, family, *exporters, *checks.values()) if c is not None]
    owners = _owners(task, components)
    source = dismiss(rename(source, owners), fields(owners))
    try:
        # Without a family the base is not where it was, and that is to be said.
        keys = validate(source, owners, paths=paths or family is None, others=_keys_of_others(host, task, source))
    except ConfigError as error:
        raise ConfigError([*error.problems, *problems]) from None
    keys, settled = family.settle(keys) if family is not None else (keys, ())
    problems += no_folder(source, Path(keys[RunConfig].output_dir), rights=paths and exporting)
    problems += _unknown_checks(source, keys[RunConfig], checks, host)
    places = {key: value.where for key, value in source.values.items()}
    refused = [*refusals(keys[RunConfig], keys, training=paths), *contradictions(keys[RunConfig])]
    for exporter in filter(None, exporters) if exporting else ():
        refused += _refused(host, task, exporter, family, keys)
    problems += [_placed(reason, places, keys) or f"{source.path}: {reason}" for reason in refused]
    if problems:
        raise ConfigError(problems)
    return Plan(
        task,
        loader,
        template,
        family,
        tuple(exporters),
        keys[RunConfig],
        keys,
        tuple(advice(keys, source, family.typical_ranges(keys[RunConfig].base_model), task.usual)),
        tuple(checks.values()),
        (*source.notes, *settled),
        places,
        {key: value.written for key, value in source.values.items() if value.written},
    )


def _other_kind(host: PluginHost, task: Task[Any], exporter: Exporter, config: RunConfig) -> str:
    """Why an exporter would get an adapter of a kind that it does not write; otherwise nothing."""
    if config.adapter_kind in exporter.kinds:
        return ""
    there = host.components("loraforge_exporters", task.name)
    others = [name for name, (one, _) in there.items() if config.adapter_kind in cast(Exporter, one).kinds]
    return say(
        "export: {exporter} writes no {variant}. Use export: [{names}], or lora_variant: lora.",
        exporter=exporter.name,
        variant=config.lora_variant,
        names=", ".join(sorted(others, key="merged".__ne__)),
    )


@contextlib.contextmanager
def located(plan: Plan) -> Iterator[None]:
    """Puts the place of a key in the config before the messages that begin with the key: of what shows only when data and base are read."""
    try:
        yield
    except LoraForgeError as error:
        error.problems = tuple(_placed(problem, plan.places, plan.keys) or problem for problem in error.problems)
        raise


def _placed(problem: str, places: Mapping[str, str], keys: KeySet) -> str:
    """A message that begins with a key, with its place in the config; empty if it begins with none.

    Where the key is not written, its default does not go with another one: the place is that of the first written key that is named.
    """
    begins = re.match(r"(\w+)([:： ])", problem)
    if begins is None or (begins[1] not in places and (begins[2] == " " or begins[1] not in keys.flat())):
        return ""
    named = (match[0] for match in re.finditer(r"\w+(?=[:：])|\w+_\w+", problem))
    key = next((key for key in (begins[1], *named) if key in places), None)
    return f"{places[key]}: {problem}" if key else ""


def _refused(host: PluginHost, task: Task[Any], exporter: Exporter, family: ModelFamily | None, keys: KeySet) -> list[str]:
    """Why an adapter could not be exported or delivered when all is trained."""
    config = keys[RunConfig]
    if other := _other_kind(host, task, exporter, config):
        return [other]
    reasons = [exporter.refuses(config, keys), exporter.refuses_family(family, config, keys) if family is not None else ""]
    return [line for reason in reasons for line in reason.split("\n") if line]


def _unknown_checks(source: Source, config: RunConfig, checks: Mapping[str, Any], host: PluginHost) -> list[str]:
    """Names under ``checks`` that no plugin brings: a misspelt one would turn nothing off."""
    unknown = [name for name in config.checks if name not in checks]
    lines = [
        say(
            "{where}: checks: there is no check '{name}'.{hint} There are: {names}.",
            where=source.values["checks"].where,
            name=name,
            hint=did_you_mean(name, checks),
            names=", ".join(checks) or say("none"),
        )
        for name in unknown
    ]
    return [*lines, *(host.broken() if unknown else ())]


def owners_of(host: PluginHost, task: Task[Any]) -> list[tuple[str, type[Keys]]]:
    """Every owner of keys that a run of ``task`` may have, named for people: for ``loraforge keys``."""
    found: list[tuple[str, type[Keys]]] = [("core", RunConfig), (f"task {task.name}", task.keys)]
    for hook, kind in (
        ("loraforge_data_loaders", "loader"),
        ("loraforge_templates", "template"),
        ("loraforge_checks", "check"),
        ("loraforge_model_families", "family"),
        ("loraforge_exporters", "exporter"),
    ):
        for name, (component, _) in sorted(host.components(hook, task.name).items()):
            if component.keys.model_fields and component.keys not in [keys for _, keys in found]:
                found.append((f"{kind} {name}", component.keys))
    return found


def _owners(task: Task[Any], components: Sequence[Any]) -> list[type[Keys]]:
    """The owners of keys of one run, each once.

    Raises:
        PluginError: if one key has two owners.
    """
    owners: list[type[Keys]] = []
    claimed: dict[str, type[Keys]] = {}
    problems = []
    for owner in [RunConfig, task.keys, *(component.keys for component in components)]:
        if owner in owners:
            continue
        owners.append(owner)
        for key in owner.model_fields:
            if key in claimed:
                problems.append(
                    say(
                        "the key '{key}' is declared by {first} and by {second}.", key=key, first=_label(claimed[key]), second=_label(owner)
                    )
                )
            claimed.setdefault(key, owner)
    if problems:
        raise PluginError(problems)
    return owners


def _label(owner: type[Keys]) -> str:
    return f"{owner.__module__}.{owner.__qualname__}"


def _raw(source: Source, key: str) -> str:
    value = source.values[key].value if key in source.values else None
    return "" if value is None else str(value)


def _task_problems(task: Task[Any], source: Source) -> list[str]:
    """A ``task_type`` that contradicts the command line."""
    written = source.values.get("task_type")
    if written is None or written.value is None or _plain_word(written.value) in map(_plain_word, (task.name, *task.aliases)):
        return []
    return [
        say(
            "{where}: task_type is '{value}', but the command says '{task}'. Change one of them.",
            where=written.where,
            value=written.value,
            task=task.name,
        )
    ]


def _plain_word(name: object) -> str:
    return str(name).replace("_", "-").casefold()


def _keys_of_others(host: PluginHost, task: Task[Any], source: Source) -> dict[str, str]:
    """The keys of the other tasks and their other names, each with its task; looked up only where something is left over."""
    mine = [owner for _, owner in owners_of(host, task)]
    known = {**fields(mine), **all_aliases(mine)}
    if all(key in known for key in source.values):
        return {}
    found: dict[str, str] = {}
    for name, (other, _) in host.tasks().items():
        owners = [owner for _, owner in owners_of(host, other)]
        for key in (*fields(owners), *all_aliases(owners)):
            if key not in known:
                found.setdefault(key, name)
    return found


def _exporters(host: PluginHost, task: Task[Any], family: ModelFamily | None, source: Source, *, missed: bool) -> list[str]:
    """The names of the exporters that are wanted: the config's, or the family's, or the task's.

    Args:
        missed: with those that no plugin brings.
    """
    wanted = source.values["export"].value if "export" in source.values else None
    usual = (family.exporters if family is not None else ()) or task.exporters
    names = [str(name) for name in (wanted if isinstance(wanted, list) else usual)]
    return names if missed else [name for name in names if name in host.components("loraforge_exporters", task.name)]


def _exporter(host: PluginHost, task: Task[Any], source: Source, name: str) -> Any:
    """By name, or an error at the key's line.

    Raises:
        PluginError: if there is none.
    """
    try:
        return host.component("loraforge_exporters", task.name, name)
    except PluginError as error:
        written = source.values.get("export")
        if written is None:
            raise
        more = ""
        if name.casefold() in ("llama.cpp", "llamacpp", "llama-cpp", "lmstudio") and "gguf" in host.components(
            "loraforge_exporters", task.name
        ):
            more = say(" For llama.cpp and LM Studio write export: [gguf].")
        first, *others = error.problems
        raise PluginError([f"{written.where}: export: {first}{more}", *others]) from None


def _template(host: PluginHost, task: Task[Any], wanted: str) -> Any:
    """By name; else the one that recognises the value; else an error that lists the names."""
    there = host.components("loraforge_templates", task.name)
    if not wanted or (wanted == "auto" and "auto" not in there):  # the key's default means the task's template
        return host.component("loraforge_templates", task.name, task.template)
    if wanted not in there:
        for component, _ in there.values():
            if cast("Template[Any]", component).matches(wanted):
                return component
    return host.component("loraforge_templates", task.name, wanted)


def _family(host: PluginHost, task: Task[Any], source: Source) -> Any:
    """By name; else the one that recognises the base.

    Raises:
        PluginError: if none or several do.
    """
    named = _raw(source, "model_family")
    if named:
        return host.component("loraforge_model_families", task.name, named)
    base = resolve_base(source)
    if not base:
        return None  # validate says that the key is missing
    there = host.components("loraforge_model_families", task.name)
    fitting = [name for name, (family, _) in there.items() if cast(ModelFamily, family).matches(base)]
    where = source.values["base_model"].where
    if len(fitting) > 1:
        raise PluginError(
            say(
                "{where}: several model families take '{base}': {names}. Choose one with model_family.",
                where=where,
                base=base,
                names=", ".join(fitting),
            )
        )
    if not fitting:
        helps = "; ".join(f"{name}: {say(family.help)}" for name, (family, _) in sorted(there.items())) or say("none")
        if elsewhere := _misplaced(host, task, source, base):
            raise PluginError(f"{where}: {elsewhere}")
        guess = explain_base(base)
        what = dict.fromkeys(found for family, _ in there.values() if (found := cast(ModelFamily, family).describe_base(base)))
        raise PluginError(
            [
                *([f"{where}: base_model: {guess}"] if guess else []),
                *(f"{where}: {line}" for line in what),
                say("{where}: no model family takes base_model '{base}'. There are: {helps}", where=where, base=base, helps=helps),
                *host.broken(),
            ]
        )
    return there[fitting[0]][0]


def _misplaced(host: PluginHost, task: Task[Any], source: Source, base: str) -> str:
    """For a base of another task, or one that stands in train_data_dir; otherwise empty."""

    def takes(name: str, value: str) -> bool:
        there = host.components("loraforge_model_families", name)
        return any(cast(ModelFamily, family).matches(value) for family, _ in there.values())

    data = _raw(source, "train_data_dir")
    there = next((folder for folder in (Path(data), source.path.parent / data) if folder.is_dir()), None)
    model = there is None or any((there / name).is_file() for name in ("config.json", "model_index.json"))
    if data and model and takes(task.name, str(there or data)) and Path(base).is_dir():
        return say(
            "base_model: {base} is a folder without a model, and train_data_dir: {data} is one: they have changed places.",
            base=base,
            data=data,
        )
    others = [name for name in host.tasks() if name != task.name and takes(name, base)]
    if others and not takes(task.name, base):
        return say(
            "base_model: '{base}' is a base of {other}: write `loraforge train {other}` (or check), or another base_model.",
            base=base,
            other=others[0],
        )
    return ""
