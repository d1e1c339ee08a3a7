# SPDX-License-Identifier: Apache-2.0
"""So much of Go's text/template as templates of Ollama's need, after its documentation."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_ACTION = re.compile(r"\{\{(- )?\s*((?:\"(?:[^\"\\]|\\.)*\"|[^\"}])*?)\s*( -)?\}\}")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def render(template: str, messages: Sequence[Mapping[str, str]]) -> str:
    """What a template writes for ``.Messages``."""
    steps = _steps(template)
    tree, end = _block(steps, 0)
    assert end == len(steps)
    return _run(tree, {".": {"Messages": list(messages)}, "$": {"Messages": list(messages)}})


def _steps(template: str) -> list[tuple[str, str]]:
    found, at, trim = [], 0, False
    for action in _ACTION.finditer(template):
        text = template[at : action.start()]
        text = text.lstrip() if trim else text
        found.append(("text", text.rstrip() if action[1] else text))
        found.append(("do", action[2].strip()))
        at, trim = action.end(), bool(action[3])
    return [*found, ("text", template[at:].lstrip() if trim else template[at:])]


def _block(steps: list[tuple[str, str]], at: int) -> tuple[list[Any], int]:
    tree: list[Any] = []
    while at < len(steps):
        kind, text = steps[at]
        if kind == "do" and (text == "end" or text.startswith("else")):
            return tree, at
        at += 1
        if kind == "do" and text.startswith(("if ", "range ")):
            inner, at = _block(steps, at)
            other: list[Any] = []
            if steps[at][1] == "else":
                other, at = _block(steps, at + 1)
            assert steps[at][1] == "end"
            tree.append((text, inner, other))
            at += 1
        else:
            tree.append((kind, text))
    return tree, at


def _run(tree: list[Any], known: dict[str, Any]) -> str:
    out = ""
    for node in tree:
        if len(node) == 3 and node[0].startswith("if "):
            out += _run(node[1] if _value(node[0][3:], known) else node[2], known)
        elif len(node) == 3:
            names, _, over = node[0][6:].partition(":=")
            number, item = (name.strip() for name in names.split(","))
            for i, value in enumerate(_value(over.strip(), known)):
                out += _run(node[1], {**known, number: i, item: value, ".": value})
        elif node[0] == "text":
            out += node[1]
        elif ":=" in node[1]:
            name, _, value = node[1].partition(":=")
            known[name.strip()] = _value(value.strip(), known)
        else:
            out += str(_value(node[1], known))
    return out


def _value(text: str, known: Mapping[str, Any]) -> Any:
    if _STRING.fullmatch(text):
        return json.loads(text)
    if text.isdigit():
        return int(text)
    if text.startswith(("$", ".")) and " " not in text:
        first, *fields = text.split(".")
        value = known[first or "."]
        for name in fields:
            value = value[name] if name in value else value[name.lower()] if name else value
        return value
    word, *rest = re.findall(r"\([^()]*(?:\([^()]*\)[^()]*)*\)|\"(?:[^\"\\]|\\.)*\"|\S+", text)
    given = [_value(one[1:-1] if one.startswith("(") else one, known) for one in rest]
    return {"eq": lambda a, b: a == b, "len": len, "slice": lambda a, i: a[i:]}[word](*given)
