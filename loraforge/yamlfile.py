"""Flat YAML -> values with lines. YAML 1.1 reads ``2e-4`` as text, ``no`` as false, and lets the last of two equal keys win: not here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigError
from .messages import speaker

say = speaker(__name__)


@dataclass(frozen=True)
class Value:
    """A value and where it was written: ``configs/legal.yaml:4``."""

    value: Any
    where: str


@dataclass(frozen=True)
class Source:
    """What the user wrote, key by key, before anybody validated it."""

    path: Path
    values: Mapping[str, Value]


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's plain scalars: ``2e-4`` is a number, ``no`` and ``2024-01-02`` are text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML reads this very attribute)


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_FLOAT = re.compile(r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
# PyYAML's own integer constructor reads 010 as octal.
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))  # type: ignore[arg-type]


def read(path: Path, overrides: Sequence[str] = ()) -> Source:
    """The keys of a YAML file, each with its line, and of ``--set key=value``.

    Raises:
        ConfigError: if the file cannot be read, is no flat mapping, or names a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(say("{path}: there is no such file (looked at {absolute}).", path=path, absolute=path.absolute())) from None
    except UnicodeDecodeError as error:
        raise ConfigError(say("{path}: is not UTF-8 text ({error}). Save it as UTF-8.", path=path, error=error.reason)) from None
    except OSError as error:
        raise ConfigError(say("{path}: cannot be read: {error}.", path=path, error=error.strerror)) from None
    values, problems = _parse(text, str(path))
    for setting in overrides:
        key, equals, written = setting.partition("=")
        where = f"--set {key}"
        if not equals:
            problems.append(say("--set {setting}: write it as key=value.", setting=setting))
            continue
        parsed, more = _parse(f"{key.strip()}: {written}", where)
        problems += more
        values.update({name: Value(value.value, where) for name, value in parsed.items()})
    if problems:
        raise ConfigError(problems)
    return Source(path, values)


def _slips(text: str, name: str) -> list[str]:
    """What Chinese keyboards and copied text do to YAML, with the line that it stands in: the parser names the line after it."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{name}:{number}"
        if re.match(r"\s*[A-Za-z_]+\s*：", line):
            found.append(say("{where}: has a full-width colon (：). Write an ordinary one and a space: 'key: value'.", where=where))
        elif re.match(r"\s*[A-Za-z_]+:[^\s]", line) and "://" not in line:
            found.append(say("{where}: a space is missing after the colon: 'key: value'.", where=where))
        elif line.startswith("\t"):
            found.append(say("{where}: begins with a tab. Use spaces, or nothing: the file is flat.", where=where))
    return found


def _parse(text: str, name: str) -> tuple[dict[str, Value], list[str]]:
    """The keys of one flat mapping with their lines, and what is wrong with it."""
    values: dict[str, Value] = {}
    problems: list[str] = []
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return {}, [say("{file}: the file is empty.", file=name)]
        if not isinstance(node, yaml.MappingNode):
            return {}, [say("{file}:1: expected lines of the form 'key: value'.", file=name)]
        for key_node, value_node in node.value:
            where = f"{name}:{key_node.start_mark.line + 1}" if not name.startswith("--set") else name
            key = str(loader.construct_object(key_node, deep=True))
            if key in values:
                problems.append(say("{where}: '{key}' is given twice (first at {first}).", where=where, key=key, first=values[key].where))
                continue
            values[key] = Value(loader.construct_object(value_node, deep=True), where)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark and not name.startswith("--set") else ""
        problems.append(say("{file}{line}: is not valid YAML: {error}.", file=name, line=line, error=error.problem or error.context))
        problems += _slips(text, name)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problems.append(say("{file}{line}: is not valid YAML: {error}.", file=name, line="", error=str(error).split("\n")[0]))
    finally:
        loader.dispose()
    return values, problems
