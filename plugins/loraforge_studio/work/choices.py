# SPDX-License-Identifier: Apache-2.0
"""What the form of the settings is made of: what ``loraforge keys`` says of every key, and sets of values that have a name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .configs import written

MAIN: Mapping[str, Sequence[str]] = {
    "text": ("base_model", "epochs", "learning_rate", "lora_rank", "max_seq_length", "batch_size", "export"),
    "image": ("base_model", "trigger_word", "resolution", "epochs", "learning_rate", "lora_rank", "batch_size", "sample_prompts", "export"),
}
"""The keys that everybody is asked, by task; all others are there on demand."""
_OTHERS = ("base_model", "epochs", "learning_rate", "lora_rank", "batch_size", "export")
_BOUNDS = {"minimum": "minimum", "maximum": "maximum", "exclusiveMinimum": "above", "exclusiveMaximum": "below"}


def form(keys: Sequence[Mapping[str, Any]], schema: Mapping[str, Any], listed: Sequence[Mapping[str, Any]], task: str) -> dict[str, Any]:
    """What a page draws a form from.

    Args:
        keys: what ``keys TASK --json`` says.
        schema: what ``keys TASK --schema`` says.
        listed: what ``list --json`` says, for the names that ``export`` takes.
    """
    properties = schema.get("properties", {})
    exporters = [one["name"] for one in listed if one.get("kind") == "exporter" and one.get("task") == task]
    made = []
    for key in keys:
        found = {**key, **_shape(properties.get(key["name"], {}))}
        if key["name"] == "export":
            found["choices"] = exporters
            found["said"] = {
                one["name"]: one.get("help", "") for one in listed if one.get("kind") == "exporter" and one.get("task") == task
            }
        made.append(found)
    names = {key["name"] for key in keys}
    return {"keys": made, "main": [name for name in MAIN.get(task, _OTHERS) if name in names], "required": list(schema.get("required", []))}


def _shape(told: Mapping[str, Any]) -> dict[str, Any]:
    """Type, bounds, choices and advice of one key of the schema: ``type`` is integer, number, boolean, list, choice, lines or text."""
    kinds = [one for one in told.get("anyOf", [told]) if one.get("type") != "null"]
    first = kinds[0] if kinds else {}
    names = {str(one.get("type")) for one in kinds}
    choices = [choice for one in kinds for choice in one.get("enum", [one["const"]] if "const" in one else [])]
    if choices and all("enum" in one or "const" in one or one.get("type") == "boolean" for one in kinds):
        kind = "choice"
        choices = [*([True, False] if "boolean" in names else []), *choices]
    elif len(names) > 1 or not names:
        kind = "text"
    else:
        kind = {"integer": "integer", "number": "number", "boolean": "boolean", "array": "list", "object": "lines"}.get(names.pop(), "text")
    shape = {"type": kind, "choices": choices, "empty": any(one.get("type") == "null" for one in told.get("anyOf", []))}
    shape |= {name: first[bound] for bound, name in _BOUNDS.items() if bound in first} if kind in ("integer", "number") else {}
    return {**shape, **{name: told[name] for name in ("usual", "why", "path", "needs") if name in told}}


def presets(first: Mapping[str, Any], known: Iterable[str]) -> list[dict[str, Any]]:
    """Sets of values counted from those that a config began with: a quick try, what it began with, and a thorough run. None takes a key
    out, so that its default holds.

    Args:
        first: the values that the config began with.
        known: the keys that the task has.
    """
    try:
        passes = float(first.get("epochs") or 10)
    except (TypeError, ValueError):
        passes = 10.0
    keys = ("epochs", "eval_answers", "eval_minutes", "patience", "save_steps")
    begun = {key: _number(first.get(key)) for key in keys}
    sets = {
        "quick": {**begun, "epochs": _count(passes / 2), "eval_answers": False},
        "begun": begun,
        "thorough": {**begun, "epochs": _count(passes * 2), "eval_minutes": 30, "patience": 5},
    }
    there = set(known)
    return [{"name": name, "values": {key: value for key, value in values.items() if key in there}} for name, values in sets.items()]


def _count(passes: float) -> float:
    return max(1, round(passes)) if passes >= 1 else passes


def _number(value: Any) -> Any:
    """What was written as a number or a truth, as that."""
    if value in ("true", "false"):
        return value == "true"
    try:
        return int(value) if re.fullmatch(r"-?\d+", str(value)) else float(value)
    except (TypeError, ValueError):
        return value or None


def overrides(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """``--set`` for values that are not written yet; a key that is taken out gets its default."""
    words = []
    for key, value in values.items():
        if value is None:
            default = defaults.get(key)
            words += ["--set", f"{key}={'null' if default is None else written(default)}"]
        else:
            words += ["--set", f"{key}={written(value)}"]
    return words


def about(line: str, names: Iterable[str]) -> dict[str, str]:
    """Which key a command's sentence is about (``key``, "" for none), and what it says of it (``text``)."""
    known = set(names)
    found = re.match(r"--set (\w+): (?:\1: )?(.*)", line, re.DOTALL)
    if found and found[1] in known:
        return {"key": found[1], "text": found[2]}
    found = re.match(r"(?:[^\n]*?\.ya?ml(?::\d+)?: )?(\w+)(?:: | )(.*)", line, re.DOTALL)
    if found and found[1] in known:
        said = line[found.start(1) :]
        return {"key": found[1], "text": said.removeprefix(f"{found[1]}: ")}
    spoken = [word for word in re.findall(r"\w+", line.partition(":")[0]) if "_" in word and word in known]
    return {"key": spoken[0] if len(spoken) == 1 else "", "text": line}
