# SPDX-License-Identifier: Apache-2.0
"""Finds plugins, asks them what they add, tells them what happened.

A plugin is what an entry point of the group ``loraforge`` names (a module, or a class, of which one object is made), or one file, or the
folder of a package, given with ``-p``. One ``PluginHost`` serves one process run and is passed down. A plugin that cannot be used is set
aside with the reason; the others go on, and the reason is repeated where something is missing.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pluggy

from ..errors import PluginError
from ..messages import speaker
from . import hookspecs
from .answers import answers_of, told, wrong_arguments

if TYPE_CHECKING:
    import click

    from .components import Component
    from .events import Event
    from .task import Task

C = TypeVar("C", bound="Component")
say = speaker(__name__)

GROUP = "loraforge"

# The kinds of component by the hook that brings them, as people call them.
KINDS: Mapping[str, str] = {
    "loraforge_data_loaders": "data loader",
    "loraforge_templates": "template",
    "loraforge_checks": "check",
    "loraforge_model_families": "model family",
    "loraforge_exporters": "exporter",
}


@dataclass(frozen=True)
class PluginInfo:
    """One plugin as ``loraforge plugins`` lists it. ``error`` is why it is not in use, or None."""

    name: str
    origin: str
    hooks: tuple[str, ...] = ()
    error: str | None = None


class PluginHost:
    """The plugins of one process run.

    Args:
        files: one-file plugins and packages' folders (``-p``), from the command line only: a stranger's config must not run code.
        blocked: names that are not loaded; by default ``LORAFORGE_BLOCK``, separated by commas.
        entry_points: load installed plugins; tests turn it off.
    """

    def __init__(self, files: Sequence[Path] = (), blocked: Iterable[str] | None = None, *, entry_points: bool = True) -> None:
        names = os.environ.get("LORAFORGE_BLOCK", "").split(",") if blocked is None else blocked
        self._blocked = {name.strip() for name in names if name.strip()}
        self._manager = pluggy.PluginManager("loraforge")
        self._manager.add_hookspecs(hookspecs)
        self._infos: dict[str, PluginInfo] = {}
        self._tasks: dict[int, tuple[Task[Any], Task[Any]]] = {}  # with the plugin's own, so that no other gets its id
        self.failures: list[str] = []
        if entry_points:
            points = sorted(metadata.entry_points(group=GROUP), key=lambda p: p.name)
            origins = _origins(points)
            for point, origin in zip(points, origins, strict=True):
                self._load(point.name, origin, point.load)
        self._files = {str(file) for file in files}
        for file in files:
            self._load(_file_name(file), str(file), lambda file=file: _import_file(file))  # type: ignore[misc]

    # --- coming in ---------------------------------------------------------------------------------------------------------

    def _load(self, name: str, origin: str, load: Callable[[], Any]) -> None:
        """One plugin from its source; whatever goes wrong is that plugin's own affair."""
        if name in self._blocked:
            self._infos[name] = PluginInfo(name, origin, error=say("blocked by LORAFORGE_BLOCK"))
            return
        try:
            with contextlib.redirect_stdout(sys.stderr):  # what a plugin prints must not stand in the JSON of --json
                plugin = load()
                plugin = plugin() if isinstance(plugin, type) else plugin
            self.register(plugin, name, origin)
        except PluginError as error:
            self._set_aside(name, origin, str(error))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit, or an exception of its own
            self._set_aside(name, origin, say("could not be imported: {error}", error=told(error)))

    def register(self, plugin: object, name: str, origin: str = "") -> None:
        """Takes a plugin in.

        Raises:
            PluginError: if its name is taken, a hook is misspelt or unmarked, or a hook asks for an argument that does not exist.
        """
        if name in self._infos:
            raise PluginError(
                say(
                    "plugin '{name}' from {origin} has the name of the one from {other}.",
                    name=name,
                    origin=origin or "?",
                    other=self._infos[name].origin,
                )
            )
        try:
            self._manager.register(plugin, name)
        except ValueError as error:
            raise PluginError(say("is the same plugin as '{other}'.", other=self.name_of(plugin))) from error
        except pluggy.PluginValidationError as error:
            self._drop(plugin)
            problems = wrong_arguments(plugin) or [say("a hook has the wrong arguments: {error}", error=" ".join(str(error).split()))]
            raise PluginError(problems) from error
        problems = self._misspelt(plugin)
        if problems:
            self._drop(plugin)
            raise PluginError(problems)
        speaker(getattr(plugin, "__name__", type(plugin).__module__))  # its translations count for what the core shows of it
        callers = self._manager.get_hookcallers(plugin) or []
        self._infos[name] = PluginInfo(name, origin or type(plugin).__name__, tuple(sorted(caller.name for caller in callers)))

    def name_of(self, plugin: object) -> str | None:
        """The name under which a plugin is in use, or None."""
        return self._manager.get_name(plugin)

    def _drop(self, plugin: object) -> None:
        if self._manager.is_registered(plugin):
            self._manager.unregister(plugin)

    def _misspelt(self, plugin: object) -> list[str]:
        """Marked hooks that do not exist, and hook names that were not marked."""
        known = [name for name, _ in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("loraforge_")]
        problems = []
        for attribute in dir(plugin):
            if attribute.startswith("__"):
                continue
            marked = self._manager.parse_hookimpl_opts(plugin, attribute) is not None
            if marked and attribute not in known:
                close = difflib.get_close_matches(attribute, known, n=1)
                hint = say(" Did you mean '{word}'?", word=close[0]) if close else ""
                problems.append(say("there is no hook '{hook}'.{hint}", hook=attribute, hint=hint))
            elif attribute in known and not marked and callable(getattr(plugin, attribute)):
                problems.append(say("'{hook}' is not marked with @hookimpl, so it would never be called.", hook=attribute))
        return problems

    def _set_aside(self, name: str, origin: str, error: str) -> None:
        key = name if name not in self._infos else f"{name} ({origin})"
        self._infos[key] = PluginInfo(name, origin, error=error)

    # --- asking ------------------------------------------------------------------------------------------------------------

    def plugins(self) -> list[PluginInfo]:
        """All plugins, those set aside included."""
        return list(self._infos.values())

    def broken(self) -> list[str]:
        """One line for each plugin that is not in use, to be shown where something is missing."""
        return [
            say("plugin '{name}' is not in use: {error}", name=info.name, error=info.error) for info in self._infos.values() if info.error
        ]

    def unusable(self) -> list[str]:
        """One line for each plugin that was named with ``-p`` and is not in use: to go on without it would not be what was asked for."""
        return [
            say("{file}: plugin '{name}' is not in use: {error}", file=info.origin, name=info.name, error=info.error)
            for info in self._infos.values()
            if info.error and info.origin in self._files and info.name not in self._blocked
        ]

    def _answers(self, hook: str) -> list[tuple[str, Any]]:
        """(plugin, object) for everything that the plugins return from one hook."""
        from .contracts import guarded, is_built_in

        answers: list[tuple[str, Any]] = []
        for impl in getattr(self._manager.hook, hook).get_hookimpls():
            try:
                given = answers_of(hook, impl.function())
                if hook in KINDS:
                    given = [guarded(answer, self.owner(impl.plugin_name)) for answer in given]
                elif hook == "loraforge_tasks" and not is_built_in(_root(impl.plugin)):
                    given = [self._held(answer, impl.plugin_name) for answer in given]
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a stranger's code; the others go on
                self._fail(impl.plugin_name, hook, error)
            else:
                answers += [(impl.plugin_name, answer) for answer in given]
        return answers

    def _held(self, task: Task[Any], plugin: str) -> Task[Any]:
        """A plugin's task with functions that are held to their promises: the same one each time it is asked for."""
        from .contracts import held

        if id(task) not in self._tasks:
            self._tasks[id(task)] = (task, held(task, self.owner(plugin)))
        return self._tasks[id(task)][1]

    def owner(self, plugin: str) -> str:
        """A plugin by its name and where it comes from, for people."""
        return say("the plugin '{name}' ({origin})", name=plugin, origin=self._infos[plugin].origin)

    def blamed(self, error: BaseException) -> PluginError | None:
        """What is said of an error that a plugin's own code has raised; None if it was another's, or no fault."""
        from .contracts import TRACEBACK, blameless, failed, is_built_in

        if blameless(error) or os.environ.get(TRACEBACK):
            return None
        there = [(name, plugin) for name, plugin in self._manager.list_name_plugin() if plugin is not None and name in self._infos]
        roots = {_root(plugin): name for name, plugin in there} | {_module(plugin): name for name, plugin in there}
        for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
            module = str(frame.f_globals.get("__name__", ""))
            if is_built_in(module):
                return None
            if name := roots.get(module, roots.get(module.partition(".")[0])):
                return failed(self.owner(name), frame.f_code.co_name, error)
        return None

    def _fail(self, plugin: str, hook: str, error: BaseException) -> None:
        info = self._infos[plugin]
        text = str(error) if isinstance(error, PluginError) else say("{hook} failed: {error}", hook=hook, error=told(error))
        self._infos[plugin] = PluginInfo(info.name, info.origin, info.hooks, text)

    def _by_name(self, answers: Sequence[tuple[str, Any]], kind: str) -> dict[str, tuple[Any, str]]:
        """Answers by name.

        Raises:
            PluginError: naming both plugins, for every name claimed twice.
        """
        found: dict[str, tuple[Any, str]] = {}
        clashes = []
        for plugin, answer in answers:
            name = str(answer.name)
            if name in found and found[name][1] == plugin:
                clashes.append(
                    say(
                        "plugin '{plugin}' brings the {kind} '{name}' twice. Give one another name.",
                        plugin=plugin,
                        kind=say(kind),
                        name=name,
                    )
                )
            elif name in found:
                clashes.append(
                    say(
                        "the {kind} '{name}' is claimed by two plugins, '{first}' and '{second}'. Block one: LORAFORGE_BLOCK={second}",
                        kind=say(kind),
                        name=name,
                        first=found[name][1],
                        second=plugin,
                    )
                )
            found.setdefault(name, (answer, plugin))
        if clashes:
            raise PluginError(clashes)
        return found

    def tasks(self) -> dict[str, tuple[Task[Any], str]]:
        """The tasks by name, each with the plugin that brings it."""
        return self._by_name(self._answers("loraforge_tasks"), "task")

    def task(self, name: str) -> Task[Any]:
        """The task called ``name``, or an error that suggests one."""
        return cast("Task[Any]", self._pick("task", name, self.tasks()))

    def components(self, hook: str, task: str) -> dict[str, tuple[Component, str]]:
        """The components of one kind (see ``KINDS``) that serve ``task``, each with its plugin."""
        return self._by_name([(plugin, answer) for plugin, answer in self._answers(hook) if answer.task == task], KINDS[hook])

    def component(self, hook: str, task: str, name: str) -> Component:
        """The component of one kind called ``name``, or an error that suggests one."""
        return cast("Component", self._pick(KINDS[hook], name, self.components(hook, task)))

    def _pick(self, kind: str, name: str, found: Mapping[str, tuple[Any, str]]) -> Any:
        if name in found:
            return found[name][0]
        close = difflib.get_close_matches(name, list(found), n=1)
        hint = say(" Did you mean '{word}'?", word=close[0]) if close else ""
        have = ", ".join(sorted(found)) or say("none")
        message = say("there is no {kind} '{name}'.{hint} There are: {have}.", kind=say(kind), name=name, hint=hint, have=have)
        raise PluginError([message, *self.broken()])

    def clashes(self) -> list[str]:
        """One line for every name that two plugins claim."""
        found: list[str] = []
        try:
            names = list(self.tasks())
        except PluginError as error:
            return list(error.problems)
        for task in names:
            for hook in KINDS:
                try:
                    self.components(hook, task)
                except PluginError as error:
                    found += error.problems
        return found

    def commands(self, taken: Iterable[str]) -> dict[str, click.Command]:
        """The commands that plugins add. One that has the name of a core command, or of another plugin's, is left out and reported."""
        core = set(taken)
        found: dict[str, tuple[click.Command, str]] = {}
        for plugin, command in self._answers("loraforge_commands"):
            name = str(command.name)
            other = say("LoRAForge itself") if name in core else found[name][1] if name in found else None
            if other is None:
                found[name] = (command, plugin)
                continue
            info = self._infos[plugin]
            text = say("its command '{name}' is already taken by {other}; it was left out.", name=name, other=other)
            self._infos[plugin] = PluginInfo(info.name, info.origin, info.hooks, text)
        return {name: command for name, (command, _) in found.items()}

    # --- telling -----------------------------------------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """Tells every plugin. One that raises is noted in ``failures`` (once each); the run goes on."""
        for impl in self._manager.hook.loraforge_event.get_hookimpls():
            try:
                impl.function(event) if impl.argnames else impl.function()
            except Exception as error:  # an observer must not end a run
                line = say(
                    "plugin '{name}' failed on {event}: {kind}: {error}",
                    name=impl.plugin_name,
                    event=event.name,
                    kind=type(error).__name__,
                    error=str(error),
                )
                if line not in self.failures:
                    self.failures.append(line)


def _module(plugin: object) -> str:
    return plugin.__name__ if isinstance(plugin, ModuleType) else type(plugin).__module__


def _root(plugin: object) -> str:
    """The package or module that a plugin is in."""
    return _module(plugin).partition(".")[0]


def _origins(points: Sequence[metadata.EntryPoint]) -> list[str]:
    """Whose each entry point is. A distribution's metadata, which holds its whole README, is parsed once."""
    parsed = {id(point.dist): point.dist.metadata for point in points if point.dist}
    return ["{Name} {Version}".format_map(parsed[id(point.dist)]) if point.dist else point.value for point in points]


def _file_name(file: Path) -> str:
    """What the plugin in a file is called: as the file, or as the folder of a package."""
    folder = file.absolute().parent if file.name == "__init__.py" else file.absolute()
    return folder.name if folder != file.absolute() or file.is_dir() else file.stem


def _import_file(file: Path) -> ModuleType:
    """A one-file plugin, or a package's folder, as a module, kept out of the way of installed packages."""
    name = f"loraforge_file_plugin_{_file_name(file)}"
    file = file / "__init__.py" if file.is_dir() else file
    if not file.is_file():
        raise PluginError(say("there is no file {path}", path=file.absolute()))
    parts = [str(file.absolute().parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=parts)
    if spec is None or spec.loader is None:
        raise PluginError(say("{path} is not a Python file", path=file))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
