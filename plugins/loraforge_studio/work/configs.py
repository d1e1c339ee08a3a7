# SPDX-License-Identifier: Apache-2.0
"""A flat YAML as somebody wrote it: single values are exchanged in its text, and all else stays, comments, order and line ends too.

PyYAML says where a key and its value stand; what is read here is never made into values, that is the commands' business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from loraforge import printable, speaker

from ..problems import Refused
from .folders import Work

say = speaker(__name__)

_BOM = "\ufeff"
_BARE = re.compile(r"[^\W\d_](?:[\w./\\ +-]*[\w./\\+-])?|\./[\w./\\ +-]*[\w./\\+-]")  # texts that are text without quotes as well
_WORDS = {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}
_ODD = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")  # what YAML does not take as it is


@dataclass(frozen=True)
class _Entry:
    """Where a key and its value stand in the text: characters from ``begin`` (of the key) over ``colon`` (behind it) to ``end``."""

    key: str
    begin: int
    colon: int
    end: int
    node: yaml.Node


def read_config(file: Path) -> str:
    """A config's text, its line ends and its byte-order mark as they are.

    Raises:
        Refused: if it is no UTF-8.
    """
    try:
        return file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        text = say("{file} is not UTF-8 (byte {n}): save it so in the editor that wrote it.", file=file, n=error.start)
        raise Refused(422, text) from None
    except OSError as error:
        raise Refused(404, say("{file} cannot be read: {error}.", file=file, error=error)) from None


def read_values(text: str) -> dict[str, Any]:
    """What each key is given, as a person would type it; lists as lists. Empty where the text is no flat YAML."""
    try:
        entries = _entries(text.removeprefix(_BOM))
        return {entry.key: _typed(entry.node) for entry in entries}
    except (yaml.YAMLError, Refused, RecursionError):
        return {}


def note_changes(work: Work, before: str, after: str) -> None:
    """Says in ``commands.sh`` what became of the config: no command changes it, somebody types it."""
    old, new = read_values(before), read_values(after)
    lines = [f"{key}: {' '.join(str(value).split())}" for key, value in new.items() if old.get(key) != value]
    lines += [say("{key} is taken out", key=key) for key in old if key not in new]
    work.append(*(printable(f"# {work.config.name}: {line}") for line in lines or [say("other comments, or another order")]))


def changed(text: str, values: Mapping[str, Any]) -> str:
    """The text with other values; a key with None is taken out, a new one comes last. What is written behind a value stays, and a list
    that stands item by item stays one, with the comments of the items that it keeps.

    Raises:
        Refused: if the text is no flat YAML.
    """
    mark, text = (_BOM, text[1:]) if text.startswith(_BOM) else ("", text)
    line_end = "\r\n" if "\r\n" in text else "\n"
    try:
        entries = _entries(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise Refused(
            422, say("the config cannot be read as YAML, so no value can be changed in it: {error}.", error=_short(error))
        ) from None
    indent = " " * _column(text, entries[0].begin) if entries else ""
    edits: list[tuple[int, int, str]] = []
    added: list[str] = []
    for key, value in values.items():
        found = [entry for entry in entries if entry.key == key]
        if not found and value is not None:
            added.append(f"{indent}{key}: {written(value)}")
        for number, entry in enumerate(found):
            again = number > 0  # a key that is given twice: the first place stays
            edits.append(_removal(text, entry) if value is None or again else _exchange(text, entry, value, line_end, indent))
    for begin, end, new in sorted(edits, reverse=True):
        text = text[:begin] + new + text[end:]
    return mark + _with_lines(text, added, line_end)


def written(value: Any) -> str:
    """A value as YAML that no reader takes for something else."""
    if isinstance(value, str) and _BARE.fullmatch(value) and value.lower() not in _WORDS:
        return value
    if isinstance(value, list):
        return "[" + ", ".join(written(one) for one in value) + "]"
    return _ODD.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


# --- where things stand -------------------------------------------------------------------------------------------------------


def _entries(text: str) -> list[_Entry]:
    """Every key, in the order of the text.

    Raises:
        yaml.YAMLError, Refused: if it is no flat mapping, a key a line.
    """
    root = yaml.compose(text, Loader=yaml.BaseLoader)
    if root is None:
        return []
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        raise Refused(422, say("the config is not written as lines of the form key: value; change it as a text."))
    found = []
    for key, value in root.value:
        colon = text.index(":", key.end_mark.index) + 1
        alias = value.start_mark.index < colon  # *name stands for a value that is written elsewhere
        line = text.find("\n", colon)
        end = (len(text) if line < 0 else line) if alias else max(colon, _end(text, value))
        found.append(_Entry(str(key.value), key.start_mark.index, colon, end, value))
    return found


def _end(text: str, node: yaml.Node) -> int:
    """Behind the last character of a value, without the comments and empty lines that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return max(_end(text, one) for one in (last if isinstance(last, tuple) else (last,)))
    begin, end = node.start_mark.index, node.end_mark.index
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        return begin + len(text[begin:end].rstrip())
    return int(end)


def _column(text: str, place: int) -> int:
    return place - (text.rfind("\n", 0, place) + 1)


def _line_end(text: str, place: int) -> int:
    """Behind the line in which a place is, its line end included."""
    found = text.find("\n", place)
    return len(text) if found < 0 else found + 1


def _removal(text: str, entry: _Entry) -> tuple[int, int, str]:
    """All lines of an entry."""
    return text.rfind("\n", 0, entry.begin) + 1, _line_end(text, entry.end), ""


def _exchange(text: str, entry: _Entry, value: Any, line_end: str, indent: str) -> tuple[int, int, str]:
    """Another value in the place of an entry's: (from, to, what)."""
    line = _line_end(text, entry.colon)
    below = isinstance(entry.node, yaml.SequenceNode) and not entry.node.flow_style and entry.node.start_mark.index >= line
    if below and isinstance(value, list) and value:
        return line, entry.end, _items(text, entry, value, line_end, indent)
    if entry.node.start_mark.index >= line and entry.end >= line:  # the value begins in a later line; the comment of the first stays
        comment = text[entry.colon : line].rstrip()
        return entry.colon, entry.end, f" {written(value)}{comment}"
    space = text[entry.colon : entry.node.start_mark.index] if entry.node.start_mark.index > entry.colon else ""
    if isinstance(entry.node, yaml.ScalarNode) and entry.node.style in ("|", ">"):
        first = text[entry.node.start_mark.index : line].rstrip()  # "|  # a comment"
        comment = f"  {first[first.index('#') :]}" if "#" in first else ""
        return entry.colon, entry.end, f" {written(value)}{comment}"
    return entry.colon, entry.end, f"{space or ' '}{written(value)}"


def _items(text: str, entry: _Entry, values: list[Any], line_end: str, indent: str) -> str:
    """A list item by item; items that stay are written as they were."""
    assert isinstance(entry.node, yaml.SequenceNode)
    before: dict[str, str] = {}
    for node in entry.node.value:
        if isinstance(node, yaml.ScalarNode) and "\n" not in text[node.start_mark.index : node.end_mark.index]:
            begin = text.rfind("\n", 0, node.start_mark.index) + 1
            before.setdefault(node.value, text[begin : _line_end(text, node.end_mark.index)].rstrip())
    dash = re.search(r"^([ \t]*)-", text[_line_end(text, entry.colon) : entry.end], re.MULTILINE)
    lead = dash[1] if dash else f"{indent}  "
    lines = [before.get(one if isinstance(one, str) else written(one)) or f"{lead}- {written(one)}" for one in values]
    last = text[entry.end : _line_end(text, entry.end)].rstrip()  # what follows the last item in its line comes with the line
    made = line_end.join(lines)
    return made.removesuffix(last) if last and made.endswith(last) else made


def _with_lines(text: str, added: list[str], line_end: str) -> str:
    """With lines at its end, and a line end behind the last."""
    if text and not text.endswith("\n"):
        text += line_end
    if not added:
        return text
    more = "".join(f"{line}{line_end}" for line in added)
    closing = re.search(r"^\.\.\.\s*$", text, re.MULTILINE)  # the mark that ends a document
    place = closing.start() if closing else len(text)
    return text[:place] + more + text[place:]


def _typed(node: yaml.Node) -> Any:
    """A value as a person would type it."""
    if isinstance(node, yaml.ScalarNode):
        return "" if node.style is None and node.value in ("~", "null", "Null", "NULL") else str(node.value)
    if isinstance(node, yaml.SequenceNode):
        return [_typed(one) for one in node.value]
    return {str(key.value): _typed(value) for key, value in node.value}


def _short(error: Exception) -> str:
    place = getattr(error, "problem_mark", None)
    told = getattr(error, "problem", None) or str(error).partition("\n")[0]
    return f"{told}" + (say(" (line {n})", n=place.line + 1) if place is not None else "")
