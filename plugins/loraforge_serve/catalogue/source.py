# SPDX-License-Identifier: Apache-2.0
"""Reads what somebody wants to have served: a run's folder, or that of an exported adapter."""

from __future__ import annotations

import itertools
import json
import os
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import LoadedRun, LoraForgeError, ModelFamily, RunError, command, load_run, read_text, require_files, speaker, why

from ..versions import BASE, Version
from .told import told

if TYPE_CHECKING:
    from collections.abc import Callable

    from loraforge import ChatFormat

say = speaker(__name__)


@dataclass(frozen=True)
class Base:
    """The base that all adapters of one server share.

    Attributes:
        name: as the run's YAML names it.
        files: SHA-256 of its files by name, as the first adapter recorded them; empty where nothing is known.
    """

    name: str
    revision: str | None
    family: ModelFamily
    precision: str
    files: Mapping[str, str] = field(default_factory=dict)


class Source:
    """Makes versions of folders.

    Args:
        host: the plugins.
        base: a base to use instead of the one that the adapters name.

    Attributes:
        base: that of the text adapters read so far; None before the first.
        runs: the opened runs of image versions, by key.
    """

    def __init__(self, host: Any, base: str | None = None) -> None:
        self._host, self._named = host, base
        self.base: Base | None = None
        self.runs: dict[str, LoadedRun] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def read(self, path: Path, name: str | None = None) -> Version:
        """The version that ``path`` holds.

        Args:
            name: what clients ask for; by default the folder's name.

        Raises:
            LoraForgeError: if it cannot be served, saying why.
        """
        try:
            return self._read(path, name)
        except OSError as error:
            raise RunError(say("{path} cannot be read: {error}.", path=error.filename or path, error=error)) from None

    def _read(self, path: Path, name: str | None) -> Version:
        with self._lock:
            place = Path(os.path.abspath(path))
            run = _run_of(place)
            name = name or (run or place).name
            if not _is_name(name) or name == BASE:
                raise RunError(
                    say(
                        "'{name}' cannot be a name to ask for: no blanks, slashes, colons or signs that cannot be seen, and not '{base}'. "
                        "Give it another.",
                        name=name,
                        base=BASE,
                    )
                )
            key = f"{re.sub(r'[^A-Za-z0-9_-]+', '_', name)}-{next(self._numbers)}"
            opened = load_run(self._host, run) if run is not None else None
            if opened is not None and opened.task.name != "text":
                return self._picture(opened, place, name, key)
            folder = place if run is None or place != run else run / "export" / "peft"
            return self._text(opened, place, folder, name, key)

    def converter(self, exporter: str) -> Callable[[Path, Path], Path]:
        """Writes the adapter of a folder in another format: ``convert(folder, destination)`` returns what it wrote."""
        made = self._host.component("loraforge_exporters", "text", exporter)

        def convert(folder: Path, destination: Path) -> Path:
            from loraforge.adapters import lora

            adapter = lora.read_peft(folder)
            made.require_kind(adapter)
            written: Path = made.export(adapter, destination)
            return written

        return convert

    def base_version(self) -> Version:
        """The base alone; where it has no chat template, it is asked with that of the adapter read first."""
        assert self.base is not None
        base = self.base
        chat = base.family.chat_format(base.name, base.revision, None)
        if not getattr(chat, "speaks", True) and self._first is not None:
            chat = base.family.chat_format(base.name, base.revision, self._first)
        about = {"kind": "text", "title": Path(base.name).name, "base": base.name, **told(None, None)}
        return Version(BASE, BASE, Path(base.name), Path(base.name), chat, about, None, int(time.time()))

    _first: Path | None = None

    def _text(self, opened: LoadedRun | None, path: Path, folder: Path, name: str, key: str) -> Version:
        if not (folder / "adapter_config.json").is_file():
            raise RunError(_no_adapter(path, folder, opened))
        try:
            require_files(folder)
        except OSError as error:
            raise RunError(say("{folder}: {file} cannot be read: {error}.", folder=folder, file=error.filename, error=error)) from None
        if opened is not None:
            opened.require_sound([folder.relative_to(opened.path).as_posix()])
        facts = _facts(folder)
        base = self._base_of(facts, folder)
        if self.base is not None:
            _require_same(self.base, base, path)
        chat = base.family.chat_format(base.name, base.revision, folder)
        _require_trained_prompts(chat, folder)
        about = {"kind": "text", "title": str(facts.get("name") or name), "base": base.name, **told(opened, folder)}
        self.base, self._first = self.base or base, self._first or folder
        return Version(name, key, path, folder, chat, about, opened.seal if opened else None, int(time.time()))

    def _base_of(self, facts: Mapping[str, Any], folder: Path) -> Base:
        name = self._named or str(facts.get("base_model") or "")
        if not name:
            raise RunError(say("{folder} does not say which base it was trained on. Name it with --base.", folder=folder))
        families = self._host.components("loraforge_model_families", "text")
        known = [families[str(facts["family"])][0]] if facts.get("family") in families else []
        found = known or [family for family, _ in families.values() if family.matches(name)]
        if not found:
            raise RunError(say("no plugin knows the base '{name}' of {folder}.", name=name, folder=folder))
        training = facts.get("training")
        precision = str(training.get("precision") or "") if isinstance(training, Mapping) else ""
        revision = facts.get("revision") if self._named is None else None
        files = facts.get("base_files")
        return Base(name, revision if isinstance(revision, str) else None, found[0], precision, files if isinstance(files, Mapping) else {})

    def _picture(self, opened: LoadedRun, path: Path, name: str, key: str) -> Version:
        opened.require_sound(["adapter"])
        self.runs[key] = opened
        about = {"kind": "image", "title": opened.path.name, "base": opened.config.base_model, **told(opened, None)}
        return Version(name, key, path, opened.run.adapter, None, about, opened.seal, int(time.time()))


def _run_of(place: Path) -> Path | None:
    """The run that a folder is, or that it was exported from and lies in."""
    if (place / "manifest.json").is_file():
        return place
    if place.parent.name == "export" and (place.parent.parent / "manifest.json").is_file():
        return place.parent.parent
    return None


def _no_adapter(path: Path, folder: Path, opened: LoadedRun | None) -> str:
    if opened is not None and path != opened.path:
        line = command("loraforge", "serve", opened.path)
        return say("{path} is an export that holds no adapter for servers. Serve its run: {line}", path=path, line=line)
    if opened is not None:
        return say(
            "{run} has no export for servers ({folder}). Write it once: {line}",
            run=path,
            folder=folder,
            line=command("loraforge", "export", path, "--to", "peft"),
        )
    if not path.exists():
        return say("{path}: there is no such folder. `loraforge runs` lists runs.", path=path)
    return say("{path} is neither a run nor an exported adapter: it has no manifest.json and no adapter_config.json.", path=path)


def _facts(folder: Path) -> dict[str, Any]:
    """What is known of an adapter beside its weights; of one that others trained, its base alone."""
    found: dict[str, Any] = {}
    for file, take in (("adapter_config.json", _of_peft), ("loraforge.json", _of_ours)):
        try:
            found |= take(json.loads(read_text(folder / file))) if (folder / file).is_file() else {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = _reason(error)
            raise RunError(say("{path} cannot be read: {error}.", path=folder / file, error=reason)) from None
    return found


def _reason(error: Exception) -> str:
    """Why a file of JSON cannot be used, for people."""
    if isinstance(error, OSError | ValueError):
        return why(error)
    return say("it does not hold what such a file holds")


def _of_peft(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"base_model": config.get("base_model_name_or_path"), "revision": config.get("revision")}


def _of_ours(own: Mapping[str, Any]) -> dict[str, Any]:
    """A base that lay in a folder is looked for there if its own name leads nowhere."""
    return {**dict(own["facts"]), **({"base_model": own["base_model"]} if own.get("base_model") else {})}


def _require_trained_prompts(chat: ChatFormat, folder: Path) -> None:
    """
    Raises:
        RunError: if this server would give the model other prompts than were trained, by the golden prompts beside the adapter.
        LoraForgeError: if the template cannot be asked at all.
    """
    file = folder / "golden_prompts.json"
    try:
        known = json.loads(read_text(file))["prompts"] if file.is_file() else []
        plain = [(one["messages"], list(one["ids"])) for one in known if not one.get("tools")]
        plain = [(said, ids) for said, ids in plain if not any(message.get("tool_calls") or message["role"] == "tool" for message in said)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(say("{path} cannot be read: {error}.", path=file, error=_reason(error))) from None
    for said, ids in plain:
        if chat.prompt(said) != ids:
            text = say(
                "{folder}: its chat template does not write what was trained ({file}). It was altered; export the run again.",
                folder=folder,
                file=file.name,
            )
            raise RunError(text)
    if not plain:
        chat.prompt([{"role": "user", "content": "?"}])


def _require_same(one: Base, other: Base, path: Path) -> None:
    """
    Raises:
        RunError: if an adapter belongs to another base than the one that is loaded.
    """
    shared = [name for name in one.files if name in other.files]
    same = all(one.files[name] == other.files[name] for name in shared) if shared else one.name == other.name
    if not same:
        text = say(
            "{path} was trained on another base ({other}) than the adapters before it ({base}). One server has one base: start a second "
            "one, with another --port.",
            path=path,
            other=other.name,
            base=one.name,
        )
        raise RunError(text)


def _is_name(name: str) -> bool:
    """Whether clients can ask for it, and people see what they ask for."""
    return bool(re.fullmatch(r"[^\s/\\:]{1,100}", name)) and name.isprintable()


def named(argument: str) -> tuple[str | None, Path]:
    """``name=path``, or a path alone."""
    name, equals, path = argument.partition("=")
    if equals and path and _is_name(name) and not Path(argument).exists():
        return name, Path(path)
    return None, Path(argument)


def read_all(source: Source, arguments: list[str], put: Callable[[Version], None]) -> None:
    """Serves all of them, or says of each that cannot be what is wrong.

    Raises:
        RunError: with all problems.
    """
    problems: list[str] = []
    taken: dict[str, Path] = {}
    for argument in arguments:
        name, path = named(argument)
        try:
            version = source.read(path, name)
            if version.name in taken:
                text = say(
                    "{one} and {other} would have one name, '{name}'. Give one another: NAME=FOLDER.",
                    one=taken[version.name],
                    other=path,
                    name=version.name,
                )
                raise RunError(text)
            taken[version.name] = path
            put(version)
        except LoraForgeError as error:
            problems += error.problems
    if problems:
        raise RunError(problems)
