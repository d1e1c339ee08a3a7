# SPDX-License-Identifier: Apache-2.0
"""JSON and JSON Lines: a list of objects, parts by name, columns by name, or objects by key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from loraforge import DataError, speaker

from .rows import Reading, Row, Source, Table, header_names, row_place
from .splits import split_called

say = speaker(__name__)


# A string, a comment, or a comma before a closing bracket.
_SLIPS = re.compile(r'"(?:[^"\\]|\\.)*"|(?P<slip>//[^\n]*|/\*.*?\*/|,(?=\s*[}\]]))', re.DOTALL)


class _Twice(dict[str, Any]):
    """An object that gives a key twice, with different values."""

    key = ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        for key, value in pairs:
            if made[key] != value:
                made = _Twice(made)
                made.key = key
    return made


def _loads(text: str) -> tuple[Any, bool]:
    """A JSON value, and whether commas and comments had to be passed over that JSON does not know.

    Raises:
        ValueError, RecursionError: if it is none.
    """
    try:
        return json.loads(text, object_pairs_hook=_object), False
    except json.JSONDecodeError as error:
        plain = text
        for _ in range(2):  # a comment may stand between the comma and the bracket
            plain = _SLIPS.sub(lambda found: "" if found["slip"] else found[0], plain)
        if plain == text:
            raise
        try:
            return json.loads(plain, object_pairs_hook=_object), True
        except json.JSONDecodeError:
            raise error from None


def _tell_slips(source: Source, reading: Reading) -> None:
    reading.note(say("{file}: commas before a closing bracket and comments, which JSON does not know, are passed over", file=source.name))


def read_json_lines(source: Source, text: str, reading: Reading) -> list[Table]:
    """The one table of a file with one object in each line; also of one that holds a list, or objects of several lines."""
    first = next((line for line in text.split("\n") if line.strip()), "")
    try:
        _loads(first.strip().rstrip(","))
    except (ValueError, RecursionError):
        whole = _several(text)
        if whole is not None:
            reading.note(say("{file}: read as JSON of several lines, not as one object in each line", file=source.name))
            return _tables(source, whole, reading)
    return [Table(source.name, list(_lines(source, text, reading)))]


def _several(text: str) -> list[Any] | None:
    """The list that a text holds, or its objects one after the other; None if it is neither."""
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    found: list[Any] = []
    at = 0
    try:
        while (start := re.compile(r"[\s,]*").match(text, at).end()) < len(text):  # type: ignore[union-attr]
            value, at = decoder.raw_decode(text, start)
            found.append(value)
    except (ValueError, RecursionError):
        return None
    if len(found) == 1 and isinstance(found[0], list):
        return found[0]
    return found if all(isinstance(one, dict) for one in found) else None


def _lines(source: Source, text: str, reading: Reading) -> Iterator[Row]:
    slips = False
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = say("{file}, line {n}", file=source.name, n=number)
        plain = line.strip().removesuffix(",")
        try:
            value, slip = _loads(plain)
        except (ValueError, RecursionError) as error:
            yield Row(where, {}, say("is not valid JSON: {error}.", error=error))
            continue
        slips |= slip or plain != line.strip()
        yield row_of(where, value)
    if slips:
        _tell_slips(source, reading)


def read_json(source: Source, text: str, reading: Reading) -> list[Table]:
    """The tables of a JSON file: one, or one for each part (train, test).

    Raises:
        DataError: if it is no JSON, or holds no rows.
    """
    try:
        value, slips = _loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text[: error.pos].count("\n") == 1 and text[: error.pos].rstrip().endswith(("}", "]")):
            reading.note(say("{file}: read as JSON Lines: each line is an object of its own", file=source.name))
            return read_json_lines(source, text, reading)
        if error.msg == "Extra data" and (several := _several(text)) is not None:
            reading.note(say("{file}: its objects stand one after the other, and are read as a list", file=source.name))
            return _tables(source, several, reading)
        raise DataError(say("{path}:{line}: is not valid JSON: {error}.", path=source.path, line=error.lineno, error=error.msg)) from None
    except (ValueError, RecursionError) as error:
        raise DataError(say("{path}:{line}: is not valid JSON: {error}.", path=source.path, line=1, error=error)) from None
    if slips:
        _tell_slips(source, reading)
    return _tables(source, value, reading)


def _tables(source: Source, value: Any, reading: Reading) -> list[Table]:
    if isinstance(value, list):
        return [Table(source.name, list(_items(source, value, reading)))]
    if isinstance(value, dict):
        lists = {str(key): item for key, item in value.items() if isinstance(item, list)}
        if reading.is_header([str(key) for key in value]):
            return [Table(source.name, list(_columnar(source, value)))]
        parts = {key: item for key, item in lists.items() if item and all(isinstance(one, dict) for one in item)}
        splits = {key: item for key, item in parts.items() if split_called(key)}
        if len(splits) > 1 or (splits and len(parts) == 1):
            _left(source, value, splits, reading)
            return [
                Table(f"{source.name} ({key})", list(_items(source, item, reading, key)), split_called(key) if len(splits) > 1 else "")
                for key, item in splits.items()
            ]
        if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):  # pandas, orient="split"
            return [Table(source.name, list(_items(source, [value["columns"], *value["data"]], reading)))]
        if len(lists) == 1:
            _left(source, value, lists, reading)
            return [Table(source.name, list(_items(source, next(iter(lists.values())), reading)))]
        if len(parts) == 1:
            _left(source, value, parts, reading)
            return [Table(source.name, list(_items(source, next(iter(parts.values())), reading)))]
        if not lists and value and all(isinstance(item, dict) for item in value.values()):
            return [
                Table(source.name, [row_of(say("{file}, item {n}", file=source.name, n=str(key)), item) for key, item in value.items()])
            ]
    raise DataError(say("{path}: expected a list of objects, like [{{...}}, {{...}}].", path=source.path))


def _left(source: Source, value: Mapping[str, Any], used: Mapping[str, Any], reading: Reading) -> None:
    left = [str(key) for key, item in value.items() if str(key) not in used and isinstance(item, dict | list) and item]
    if left:
        reading.note(say("{file}: read: {used}; left out: {left}", file=source.name, used=", ".join(used), left=", ".join(left[:40])))


def _items(source: Source, items: list[Any], reading: Reading, part: str = "") -> Iterator[Row]:
    file = f"{source.name} ({part})" if part else source.name
    if items and isinstance(items[0], list) and all(isinstance(cell, str) for cell in items[0]) and reading.is_header(items[0]):
        names = header_names(source.path, items[0])
        for number, cells in enumerate(items[1:], 2):
            where = row_place(file, number)
            if not isinstance(cells, list) or len(cells) > len(names):
                yield Row(where, {}, say("is no list of {n} values, one for each column.", n=len(names)))
            else:
                yield row_of(where, dict(zip(names, cells, strict=False)))
        return
    for number, item in enumerate(items, 1):
        yield row_of(say("{file}, item {n}", file=file, n=number), item)


def _columnar(source: Source, value: Mapping[str, Any]) -> Iterator[Row]:
    """``{"instruction": [...], "output": [...]}``, also with pandas' ``{"0": ..., "1": ...}`` for the lists; or one single row.

    Raises:
        DataError: if the columns are not equally long.
    """
    columns = {str(key): list(item.values()) if isinstance(item, dict) else item for key, item in value.items()}
    long = {key: item for key, item in columns.items() if isinstance(item, list)}
    single = any(key in ("messages", "conversations") and item and isinstance(item[0], dict) for key, item in long.items())
    if not long or single or any(isinstance(value.get(key), str) for key in columns):
        yield row_of(say("{file}, item {n}", file=source.name, n=1), dict(value))
        return
    lengths = {len(item) for item in long.values()}
    if len(lengths) > 1:
        raise DataError(
            say(
                "{path}: its columns are not equally long: {lengths}.",
                path=source.path,
                lengths=", ".join(f"{key} {len(item)}" for key, item in list(long.items())[:20]),
            )
        )
    for number, cells in enumerate(zip(*long.values(), strict=True), 1):
        yield row_of(say("{file}, item {n}", file=source.name, n=number), dict(zip(long, cells, strict=True)))


def row_of(where: str, value: Any) -> Row:
    """One object as a row, or why it is none. A bare list of messages is a conversation."""
    if isinstance(value, list) and value and all(isinstance(one, dict) and ("role" in one or "from" in one) for one in value):
        value = {"messages": value}
    if not isinstance(value, dict):
        return Row(where, {}, say("is no object with named values ({...})."))
    if isinstance(value, _Twice):
        return Row(where, {}, say("has '{key}' twice, with different values. Keep the one that is meant.", key=value.key))
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        return Row(where, {}, say("has half a character ({half}), which is no text. Write it out, or take it away.", half=half))
    except (RecursionError, ValueError):
        return Row(where, {}, say("is not valid JSON: {error}.", error=say("nested too deeply")))
    return Row(where, {str(key).strip(): _without_nan(item) for key, item in value.items()})


def _without_nan(value: Any) -> Any:
    """NaN is how pandas writes an empty cell."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value
