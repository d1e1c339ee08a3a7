# SPDX-License-Identifier: Apache-2.0
"""A flat YAML as its lines: single keys are changed, and all else stays as somebody wrote it, comments too."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

_KEY = re.compile(r"([A-Za-z_][\w.-]*)[ \t]*:(?=\s|$)")
_BARE = re.compile(r"[^\W\d_](?:[\w./\\ +-]*[\w./\\+-])?|\./[\w./\\ +-]*[\w./\\+-]")  # texts that are text without quotes as well
_WORDS = {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}


def read_values(text: str) -> dict[str, str]:
    """What each key is given, as it stands there without its comment."""
    found = {}
    for key, first, lines in _entries(text):
        value = first[_KEY.match(first).end() :] if _KEY.match(first) else ""  # type: ignore[union-attr]
        found[key] = _bare("\n".join([value, *lines]))
    return found


def changed(text: str, values: Mapping[str, Any]) -> str:
    """The text with other values; a key with None is taken out, a new one comes last. What is written behind a value stays."""
    lines = text.splitlines()
    entries = {key: (number, count) for number, count, key in _places(lines)}
    taken: dict[int, tuple[int, str | None]] = {}
    added = []
    for key, value in values.items():
        new = None if value is None else f"{key}: {written(value)}"
        if key in entries:
            number, count = entries[key]
            taken[number] = (count, None if new is None else new + _comment(lines[number]))
        elif new is not None:
            added.append(new)
    kept: list[str] = []
    number = 0
    while number < len(lines):
        count, new = taken.get(number, (1, lines[number]))
        kept += [] if new is None else [new]
        number += count
    return "\n".join([*kept, *added]) + "\n"


def written(value: Any) -> str:
    """A value as YAML that no reader takes for something else."""
    if isinstance(value, str):
        text = value.strip() if "\n" not in value else value
        plain = _BARE.fullmatch(text) and text.lower() not in _WORDS and ": " not in text and " #" not in text
        return text if plain else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False)


def _entries(text: str) -> Iterator[tuple[str, str, list[str]]]:
    lines = text.splitlines()
    for number, count, key in _places(lines):
        yield key, lines[number], lines[number + 1 : number + count]


def _places(lines: list[str]) -> Iterator[tuple[int, int, str]]:
    """(line, how many lines, key) of every key."""
    begins = [(number, match[1]) for number, line in enumerate(lines) if (match := _KEY.match(line))]
    for number, key in begins:
        end = number + 1
        while end < len(lines) and (lines[end][:1] in (" ", "\t", "-") and lines[end].strip()):
            end += 1
        yield number, end - number, key


def _comment(line: str) -> str:
    """What stands behind a value, with the space before it."""
    found = re.search(r"\s+#[^\"']*$", line)
    return found[0] if found else ""


def _bare(written: str) -> str:
    """A value as a person would type it: without quotes and comment."""
    try:
        value = yaml.load(f"a: {written}", Loader=yaml.BaseLoader)["a"]
    except (yaml.YAMLError, KeyError, TypeError):
        return written.strip()
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
