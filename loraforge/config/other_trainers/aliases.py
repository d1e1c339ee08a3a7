# SPDX-License-Identifier: Apache-2.0
"""Keys and values as other trainers call them, where they mean exactly the same: said, and taken.

A key declares them: ``Field(..., json_schema_extra={"aliases": {...}, "values": {...}})``.

``aliases``
    A list of names, or a mapping from each name to how its values are converted: ``{"use_dora": {"true": "dora", "false": None}}``. A
    value is looked up as YAML writes it; ``None`` says that it asks for nothing; what is not listed is taken as it is. ``{"below": 1}``
    refuses numbers that the other key could not hold, ``{"alone": "epochs"}`` the name beside that key. ``{"assumes": {"lora_alpha": 1}}``
    says what its own program takes where that key is not given, ``{"within": {"4bit": ["bf16"]}}`` which of its values add nothing to a
    value of the key. Where ``true`` or ``false`` is listed, all the ways to write them are.
``values``
    How other programs write values of the key: ``{"AdamW8bit": "adamw_8bit"}``; upper and lower case are the same.

What means nothing here is in ``elsewhere``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ...messages import speaker
from ..explanations import plain
from ..paths import from_page, path_role
from ..yaml_reader import Source, Value
from .elsewhere import NO, YES, Elsewhere, elsewhere
from .refused import share_hint

say = speaker(__name__)

_Map = Mapping[str, Any]
_RULES = ("below", "alone", "assumes", "within")


def aliases_of(info: FieldInfo) -> dict[str, _Map]:
    """The other names of a key, each with how its values are converted."""
    declared = _extra(info).get("aliases", {})
    return {name: declared[name] or {} for name in declared} if isinstance(declared, Mapping) else {name: {} for name in declared}


def all_aliases(owners: Sequence[type[BaseModel]]) -> dict[str, str]:
    """Every other name of the owners' keys, with the key."""
    return {alias: key for owner in owners for key, info in owner.model_fields.items() for alias in aliases_of(info)}


def rename(source: Source, owners: Sequence[type[BaseModel]], later: Collection[str] = ()) -> Source:
    """The same values under the owners' own names, with a note for each that was written otherwise.

    Args:
        later: keys that other owners may have, whom the values decide: a key goes before an alias of the same name.
    """
    known = {name: info for owner in owners for name, info in owner.model_fields.items()}
    names = all_aliases(owners)
    values: dict[str, Value] = {}
    said: dict[str, str] = {}  # by the name as written
    problems = dict(source.problems)
    for written, value in source.values.items():
        key = written if written in known else "" if written in later else names.get(written, "")
        if not key or written in problems:
            values[written] = value
            continue
        if key != written and value.value in (None, "", []):
            continue  # an empty line of another program's config asks for nothing
        conversion = aliases_of(known[key])[written] if key != written else {}
        taken, problem = _converted(key, written, value, conversion, known[key])
        if problem:
            values[written], problems[written] = value, problem
            continue
        if taken is None:
            said[written] = say("{where}: {written} leaves '{key}' as it is.", where=value.where, written=_line(written, value), key=key)
            continue
        other = values.get(key)
        if other is not None and other.overrides != taken.overrides:
            taken = other if other.overrides else taken  # --set wins, whatever it calls the key
        elif other is not None:
            kept = _one_of(known[key], taken, other)
            if kept is None:
                values[written], problems[written] = value, _twice(key, written, value, other)
                continue
            more = value if kept is other else other
            said[written if kept is other else other.written or key] = say(
                "{where}: '{written}' adds nothing to '{other}' at {first} ('{key}').",
                where=more.where,
                written=written if kept is other else other.written or key,
                other=kept.written or key,
                first=kept.where,
                key=key,
            )
            values[key] = kept
            if kept is other:
                continue
        values[key] = taken
        if taken is not value and taken is not other:
            ours = f"'{key}'" if taken.value == value.value else _line(key, taken)
            theirs = f"'{written}'" if taken.value == value.value else _line(written, value)
            said[written] = say("{where}: {theirs} is {ours} here.", where=value.where, theirs=theirs, ours=ours)
    _elsewhere_meant(source, values, known, said, problems)
    return replace(source, values=values, notes=(*source.notes, *said.values()), problems=problems)


def _elsewhere_meant(
    source: Source, values: Mapping[str, Value], known: Mapping[str, FieldInfo], said: dict[str, str], problems: dict[str, str]
) -> None:
    """Adds to notes and problems what a name means in its own program beside, or without, another key."""
    for key, value in values.items():
        conversion = aliases_of(known[key]).get(value.written, {}) if key in known and value.written else {}
        instead = str(conversion.get("alone", ""))
        if instead in values and not values[instead].overrides and key not in problems:
            problems[key] = say(
                "{where}: '{written}' gives way to '{other}' in its own program, and not here ('{key}'). Keep one of them.",
                where=value.where,
                written=value.written,
                other=values[instead].written or instead,
                key=key,
            )
        for other_key, default in conversion.get("assumes", {}).items():
            if value.written in said and not _given(other_key, values, known, source):
                said[value.written] += " " + say(
                    "Without {other} that program takes {default}; LoRAForge does otherwise: {help} To train as there, write {line}.",
                    other=other_key,
                    default=plain(default),
                    help=say(known[other_key].description or ""),
                    line=f"{other_key}: {plain(default)}",
                )


def _given(key: str, values: Mapping[str, Value], known: Mapping[str, FieldInfo], source: Source) -> bool:
    """Whether a key has a value, or one that was refused."""
    if key in values:
        return values[key].value is not None
    return any(name in source.problems or name in values for name in aliases_of(known[key]))


def _one_of(info: FieldInfo, taken: Value, other: Value) -> Value | None:
    """Of two values of one key the one that says all; None if they disagree."""
    if _alike(taken.value, other.value):
        return other
    for whole, part in ((other, taken), (taken, other)):
        if part.value in aliases_of(info).get(part.written, {}).get("within", {}).get(plain(whole.value).strip("'"), ()):
            return whole
    return None


def _alike(one: Any, other: Any) -> bool:
    return bool(one == other) or plain(one).strip("'") == plain(other).strip("'")


def dismiss(source: Source, known: Mapping[str, Any]) -> Source:
    """Without the lines of other programs that change nothing here, which are noted; those that would are problems."""
    values: dict[str, Value] = {}
    problems = dict(source.problems)
    noted: dict[str, list[tuple[str, Value]]] = {}
    for key, value in source.values.items():
        row = None if key in known or key in problems else elsewhere(key)
        if row is None:
            values[key] = value
        elif row.harmless(value.value):
            noted.setdefault(row.description, []).append((key, value))
        else:
            values[key] = value
            problems[key] = say("{where}: there is no key '{key}' here. {why}", where=value.where, key=key, why=_why(row))
    notes = [_dismissed(description, lines) for description, lines in noted.items()]
    return replace(source, values=values, notes=(*source.notes, *notes), problems=problems)


def _dismissed(description: str, lines: Sequence[tuple[str, Value]]) -> str:
    first = lines[0][1].where
    others = [value.where.rpartition(":")[2] for _, value in lines[1:]]
    names = ", ".join(key for key, _ in lines)
    return say("{where}: {names}: not used here. {why}", where=", ".join([first, *others]), names=names, why=say(description))


def _why(row: Elsewhere) -> str:
    return say(row.description)


def _converted(key: str, written: str, value: Value, conversion: _Map, info: FieldInfo) -> tuple[Value | None, str]:
    """The value as the key takes it, None if it asks for nothing; or what is wrong with it."""
    taken, found = value.value, False
    switch = {"true", "false"} & set(conversion)
    if switch and plain(taken).strip("'").casefold() in (*YES, *NO):
        taken = plain(taken).strip("'").casefold() in YES
    for table in (conversion, _extra(info).get("values", {})):
        for theirs, ours in table.items():
            if theirs not in _RULES and not isinstance(taken, list | dict) and _same(theirs, taken):
                taken, found = ours, True
                break
    if switch and not found:
        return None, say("{where}: {line}: must be true or false.", where=value.where, line=_line(written, value))
    limit = conversion.get("below")
    if limit is not None and isinstance(taken, int | float) and not isinstance(taken, bool) and taken >= limit:
        line = _line(written, value)
        problem = say("{where}: {line}: must be less than {bound}.", where=value.where, line=line, bound=plain(limit))
        return None, problem + share_hint(taken, limit)
    if found and taken is None:
        return None, ""
    if path_role(info) == "base" and isinstance(taken, str):
        base, more = from_page(taken)
        if more:
            return None, say("{where}: {key}: {why}", where=value.where, key=key, why=more)
        taken = base or taken
    name = written if key != written else ""
    return (value if not name and taken == value.value else Value(taken, value.where, name)), ""


def _same(theirs: str, written: Any) -> bool:
    one, other = (re.sub("(?<!^)[-_]", "", text).casefold() for text in (theirs, plain(written).strip("'")))  # a sign stays: 1 is not -1
    return one == other


def _twice(key: str, written: str, value: Value, other: Value) -> str:
    given = other.written or key
    if written == key:
        return say(
            "{where}: '{key}' is given already, as '{other}' at {first}. Keep one of them.",
            where=value.where,
            key=key,
            other=given,
            first=other.where,
        )
    return say(
        "{where}: '{written}' is '{key}' here, which is given already, as '{other}' at {first}. Keep one of them.",
        where=value.where,
        written=written,
        key=key,
        other=given,
        first=other.where,
    )


def _line(key: str, value: Value) -> str:
    shown = plain(value.value)
    return f"{key}: {shown.strip(chr(39)) if isinstance(value.value, str) else shown}"


def _extra(info: FieldInfo) -> Mapping[str, Any]:
    return info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
