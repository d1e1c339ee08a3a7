# SPDX-License-Identifier: Apache-2.0
"""Flat YAML -> values with lines. YAML 1.1 reads ``2e-4`` as text, ``no`` as false, and lets the last of two equal keys win: not here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError
from ..messages import speaker
from .file_kinds import config_text
from .slips import line_slips, parser_says, value_slip

say = speaker(__name__)


@dataclass(frozen=True)
class Value:
    """A value and where it was written: ``configs/legal.yaml:4``.

    Attributes:
        written: the key as the user wrote it, where that is another program's name for it; otherwise empty.
    """

    value: Any
    where: str
    written: str = ""

    @property
    def overrides(self) -> bool:
        """Whether it comes from the command line, which wins over the file."""
        return self.where.startswith("--set ")


@dataclass(frozen=True)
class Source:
    """What the user wrote, key by key, before anybody validated it.

    Attributes:
        notes: what was understood otherwise than it was written.
        problems: what was found wrong already, by key.
    """

    path: Path
    values: Mapping[str, Value]
    notes: tuple[str, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)


_TAG = "tag:yaml.org,2002:"


class _Explained(yaml.MarkedYAMLError):
    """An error whose problem is a sentence of ours already."""


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's plain scalars: ``2e-4`` is a number, ``no`` and ``2024-01-02`` are text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML reads this very attribute)

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Without aliases: a few lines of them can stand for more text than any memory holds."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise _Explained(None, None, say("an alias (*name) stands for something else; write it out"), mark)
        return super().compose_node(parent, index)

    def list_of(self, node: Any) -> list[Any]:
        """A sequence, made at once."""
        return list(self.construct_sequence(node, deep=True))

    def mapping_of(self, node: Any) -> dict[Any, Any]:
        """A mapping, made at once, without equal keys."""
        made = self.construct_mapping(node, deep=True)
        if len(made) < len(node.value):
            raise _Explained(None, None, say("a name is given twice"), node.start_mark)
        return dict(made)


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_FLOAT = re.compile(r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def _refusing(construct: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """What cannot be what its tag says (``!!int abc``) is an error at its place."""

    def constructor(loader: Any, node: Any) -> Any:
        try:
            return construct(loader, node)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            said = say("{value} is not of the kind that its tag ({tag}) says", value=repr(node.value), tag=node.tag.replace(_TAG, "!!"))
            raise _Explained(None, None, said, node.start_mark) from error

    return constructor


# Nothing but plain values: a config has no use for dates, bytes or sets. PyYAML's own integer constructor reads 010 as octal.
_Loader.yaml_constructors = {
    tag and f"tag:yaml.org,2002:{tag}": _refusing(construct)
    for tag, construct in {
        "null": yaml.SafeLoader.construct_yaml_null,
        "bool": yaml.SafeLoader.construct_yaml_bool,
        "int": lambda loader, node: int(loader.construct_scalar(node)),
        "float": yaml.SafeLoader.construct_yaml_float,
        "str": yaml.SafeLoader.construct_yaml_str,
        "seq": _Loader.list_of,
        "map": _Loader.mapping_of,
        None: yaml.SafeLoader.construct_undefined,
    }.items()
}


def read(path: Path, overrides: Sequence[str] = ()) -> Source:
    """The keys of a YAML file, each with its line, and of ``--set key=value``.

    Raises:
        ConfigError: if the file cannot be read, is no flat mapping, or names a key twice.
    """
    text, notes = config_text(path)
    values, problems = _parse(text, str(path))
    for setting in overrides:
        key, equals, written = setting.partition("=")
        where = f"--set {key}"
        if not equals:
            problems.append(say("--set {setting}: write it as key=value.", setting=setting))
            continue
        if not re.fullmatch(r"\w+", key.strip(), re.ASCII):
            problems.append(say("--set {setting}: write it as key=value.", setting=setting))
            continue
        parsed, more = _parse(f"{key.strip()}: {written}", where)
        if not more and list(parsed) != [key.strip()]:
            more = [say("{where}: sets more than one key. Give each a --set of its own.", where=where)]
        problems += more
        values.update({name: Value(value.value, where) for name, value in parsed.items()})
    if problems:
        raise ConfigError(problems)
    return Source(path, values, notes)


def unwritable(value: Any) -> bool:
    """Whether there is text in it with a zero character or half a character (a lone surrogate)."""
    if isinstance(value, str):
        return bool(re.search("[\0\ud800-\udfff]", value))
    if isinstance(value, dict):
        return any(unwritable(part) for pair in value.items() for part in pair)
    return isinstance(value, list) and any(unwritable(part) for part in value)


def _parse(text: str, name: str) -> tuple[dict[str, Value], list[str]]:
    """The keys of one flat mapping with their lines, and what is wrong with it."""
    values: dict[str, Value] = {}
    problems: list[str] = []
    place = "" if name.startswith("--set") else ":{line}"
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return {}, [say("{file}: the file is empty.", file=name)]
        if not isinstance(node, yaml.MappingNode):
            return {}, line_slips(text, name) or [say("{file}:1: expected lines of the form 'key: value'.", file=name)]
        for key_node, value_node in node.value:
            where = f"{name}:{key_node.start_mark.line + 1}" if not name.startswith("--set") else name
            key = str(loader.construct_object(key_node, deep=True))
            if key in values:
                problems.append(say("{where}: '{key}' is given twice (first at {first}).", where=where, key=key, first=values[key].where))
                continue
            if slip := value_slip(key, value_node, text):
                problems.append(f"{where}: {slip}")
                continue
            values[key] = Value(loader.construct_object(value_node, deep=True), where)
    except yaml.MarkedYAMLError as error:
        line = place.format(line=error.problem_mark.line + 1) if error.problem_mark else ""
        found = line_slips(text, name)
        # What a person did is told instead of what the parser made of it, where that stands in the same line or in the one before.
        near = error.problem_mark.line if error.problem_mark else 0
        if not any(slip.startswith((f"{name}:{near + 1}:", f"{name}:{near}:")) for slip in found):
            problem = str(error.problem or error.context)
            said = problem if isinstance(error, _Explained) else parser_says(problem)
            problems.append(say("{file}{line}: is not valid YAML: {error}.", file=name, line=line, error=said))
        problems += found
    except yaml.reader.ReaderError as error:
        line = place.format(line=text.count("\n", 0, error.position) + 1)
        problems.append(
            say(
                "{file}{line}: has a character that no text file should have (U+{code}).",
                file=name,
                line=line,
                code=f"{ord(text[error.position]):04X}",
            )
        )
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        said = say("it is nested too deeply") if isinstance(error, RecursionError) else str(error).split("\n")[0]
        problems.append(say("{file}{line}: is not valid YAML: {error}.", file=name, line="", error=said))
    finally:
        if loader is not None:
            loader.dispose()
    return values, problems
