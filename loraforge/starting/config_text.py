# SPDX-License-Identifier: Apache-2.0
"""A config as text: values as our reader reads them again, each with its comment."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import printable
from ..plugin_api.start import ConfigLine

# What needs no quotes: it cannot be taken for a number, a switch or a sign of YAML's.
_BARE = re.compile(r"(?!(?:true|false|null|yes|no|on|off|y|n)$)[A-Za-z\u3400-\u9fff][\w.\u3400-\u9fff-]*", re.IGNORECASE)
_WIDE = "FW"  # East Asian letters that take two columns


def yaml_text(value: Any) -> str:
    """A value on one line of YAML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{yaml_text(str(key))}: {yaml_text(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(yaml_text, value)) + "]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)  # all of its digits
    if not isinstance(value, str):
        return str(value)
    if _BARE.fullmatch(value):
        return value
    if value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    # All signs as escapes: a few among others would look like a path of Windows in the wrong quotes, which the reader refuses.
    return '"' + "".join(f"\\U{ord(sign):08X}" for sign in value) + '"'


def config_file(heading: Sequence[str], lines: Sequence[ConfigLine], ending: Sequence[str] = ()) -> str:
    """The whole file.

    Args:
        heading, ending: comments before and after the lines, without their sign.
    """
    said = [f"{line.key}: {yaml_text(line.value)}" if line.value != "" else f"{line.key}:" for line in lines]
    column = min(46, max((_width(text) for text in said), default=0)) + 2
    made = [f"# {_one_line(text)}" for text in heading]
    for text, line in zip(said, lines, strict=True):
        made.append(f"{text}{' ' * max(2, column - _width(text))}# {_one_line(line.why)}" if line.why else text)
    made += [f"# {_one_line(text)}".rstrip() for text in ending]
    return "\n".join(made) + "\n"


def merged(lines: Sequence[ConfigLine], more: Sequence[ConfigLine]) -> list[ConfigLine]:
    """The lines with others in the place of those of the same key; new ones come after them."""
    others = {line.key: line for line in more}
    kept = [others.pop(line.key, line) for line in lines]
    return [*kept, *others.values()]


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in _WIDE else 1 for letter in text)
