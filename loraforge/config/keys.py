# SPDX-License-Identifier: Apache-2.0
"""Values with lines -> one validated model per owner; every error at file:line, all at once.

Every key has exactly one owner per run: the core (``schema.RunConfig``), the task, or a component that the run uses. An owner declares its
keys as one pydantic model with help and bounds at the field. Validation, ``loraforge keys``, ``docs/config.md`` and the JSON Schema all
come from that declaration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from ..errors import ConfigError
from ..messages import speaker
from .explanations import explain, label, plain, unknown_key
from .other_trainers.aliases import all_aliases
from .paths import resolve_path
from .yaml_reader import Source, unwritable

say = speaker(__name__)


class Keys(BaseModel):
    """The YAML keys of one owner. Derive, and give every field a ``Field(default, description=...)``.

    ``Field(json_schema_extra={"usual": [low, high], "why": "..."})`` draws advice outside of the usual range;
    ``json_schema_extra={"path": "input"}`` looks a relative path up from the working directory first, from the config file's folder second;
    ``json_schema_extra={"aliases": [...], "values": {...}}`` takes what other programs call the key and its values: see ``aliases``;
    ``json_schema_extra={"refused": {...}}`` says what there is instead of values that only other programs know: see ``refused``;
    ``json_schema_extra={"needs": "other_key"}`` says so where the key is set and that key of the same owner, or each of a list, is not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False, protected_namespaces=(), allow_inf_nan=False)


class NoKeys(Keys):
    """For owners without keys of their own."""


K = TypeVar("K", bound=Keys)


class KeySet:
    """The validated keys of a run, by owner: ``keys[TextKeys].max_seq_length``."""

    def __init__(self, values: Mapping[type[Keys], Keys]) -> None:
        self._values = dict(values)

    def __getitem__(self, owner: type[K]) -> K:
        return cast(K, self._values[owner])

    def __iter__(self) -> Iterator[Keys]:
        return iter(self._values.values())

    def replaced(self, values: Keys) -> KeySet:
        """The same keys with the values of one owner exchanged."""
        return KeySet({**self._values, type(values): values})

    def flat(self) -> dict[str, Any]:
        """Every effective value by key, the core's first."""
        return {key: value for owner in self for key, value in owner.model_dump(mode="json").items()}


def fields(owners: Sequence[type[Keys]]) -> dict[str, tuple[type[Keys], FieldInfo]]:
    """Every key of the owners, with its owner. The caller has made sure that no key has two."""
    return {name: (owner, info) for owner in owners for name, info in owner.model_fields.items()}


def validate(source: Source, owners: Sequence[type[Keys]], *, paths: bool = True, others: Mapping[str, str] | None = None) -> KeySet:
    """The values of every owner.

    Args:
        others: keys of other tasks, each with its task.
        paths: look paths up; an opened run does without, because its data may have moved since.

    Raises:
        ConfigError: with every unknown key, wrong value, missing key and missing path at once.
    """
    known = fields(owners)
    problems: dict[str, str] = {}
    for key, value in source.values.items():
        if key in source.problems:
            problems[key] = source.problems[key]
        elif key not in known and others and key in others:
            problems[key] = say(
                "{where}: '{key}' is a key of {task} (`loraforge train {task}`); it means nothing here: take the line out.",
                where=value.where,
                key=key,
                task=others[key],
            )
        elif key not in known:
            hint = unknown_key(key, value.value, known, all_aliases(owners))
            problems[key] = say("{where}: unknown key '{key}'.{hint}", where=value.where, key=key, hint=hint)
        elif isinstance(value.value, bool) and not _takes_bool(known[key][1]):
            shown = str(value.value).lower()
            problems[key] = say(
                "{where}: {key}: must not be true or false; got {value}.", where=value.where, key=label(source, key), value=shown
            )
        elif unwritable(value.value):
            shown = plain(value.value)
            problems[key] = say(
                "{where}: {key}: has a character that no text can hold; got {value}.", where=value.where, key=key, value=shown
            )
    models: dict[type[Keys], Keys] = {}
    for owner in owners:
        mine = {
            key: resolve_path(source, value, owner.model_fields[key], key, problems) if paths else value.value
            for key, value in source.values.items()
            if key in owner.model_fields
            and key not in problems
            and not (_blank(owner.model_fields[key], value.value) and not owner.model_fields[key].is_required())
        }
        try:
            models[owner] = owner(**mine)
        except ValidationError as error:
            for detail in error.errors():
                key = str(detail["loc"][0]) if detail["loc"] else ""
                about = say(known[key][1].description or "") if key in known else ""
                problems.setdefault(
                    key, explain(source, key, about, cast(Mapping[str, Any], detail), known[key][1] if key in known else None)
                )
    if problems:
        order = list(source.values)
        raise ConfigError([problems[k] for k in sorted(problems, key=lambda k: order.index(k) if k in order else len(order))])
    return KeySet(models)


def _blank(info: FieldInfo, value: Any) -> bool:
    """Whether nothing is said: no value, or an empty text where none is taken."""
    return value is None or (value == "" and not re.search(r"\bstr\b", re.sub(r"'[^']*'", "", str(info.annotation))))


def _takes_bool(info: FieldInfo) -> bool:
    return "bool" in str(info.annotation)
