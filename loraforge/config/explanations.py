"""Why a value of a key was not taken, in plain words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..messages import speaker
from .slips import number_meant
from .yaml_reader import Source

say = speaker(__name__)


def plain(value: Any) -> str:
    """A value as people write it: quoted text, 0.0002, true."""
    if isinstance(value, str | list | dict):
        text = repr(value)
        return text if len(text) <= 300 else f"{text[:300]}..."
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:g}"
    return str(value)


def did_you_mean(word: str, known: Iterator[str] | Mapping[str, Any] | Sequence[str], cutoff: float = 0.6) -> str:
    """`` Did you mean 'x'?`` with a leading space, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return say(" Did you mean '{word}'?", word=close[0]) if close else ""


def unknown_key(key: str, value: object, known: Mapping[str, Any], aliases: Mapping[str, str]) -> str:
    """What was probably meant by a key that there is not, with a leading space, or nothing.

    Args:
        aliases: other programs' names, each with ours.
    """
    if isinstance(value, dict) or (isinstance(value, list) and value and all(isinstance(part, dict) for part in value)):
        return say(" The file is flat: write what stands below '{key}' at the left margin, and leave '{key}:' out.", key=key)
    close = difflib.get_close_matches(key, [*known, *aliases], n=1, cutoff=0.8 if len(key) > 6 else 0.7)
    return say(" Did you mean '{word}'?", word=aliases.get(close[0], close[0])) if close else ""


def label(source: Source, key: str) -> str:
    """A key as it is called in an error: with the name that the user wrote, where that is another."""
    value = source.values.get(key)
    return f"{key} ('{value.written}')" if value is not None and value.written else key


def explain(source: Source, key: str, help_text: str, detail: Mapping[str, Any]) -> str:
    """One validation error of pydantic's, with its place and the key's help."""
    context = detail.get("ctx", {})
    got = detail.get("input")
    kind = detail["type"]
    if kind == "missing":
        return say("{file}: '{key}' is missing. {help}", file=source.path, key=key, help=help_text)
    where = source.values[key].where if key in source.values else str(source.path)
    rules: dict[str, Callable[[], str]] = {
        "greater_than_equal": lambda: say("must be {bound} or more", bound=plain(context["ge"])),
        "greater_than": lambda: say("must be more than {bound}", bound=plain(context["gt"])),
        "less_than_equal": lambda: say("must be {bound} or less", bound=plain(context["le"])),
        "less_than": lambda: say("must be less than {bound}", bound=plain(context["lt"])),
        "int_parsing": lambda: say("must be a whole number"),
        "int_from_float": lambda: say("must be a whole number"),
        "int_type": lambda: say("must be a whole number"),
        "float_parsing": lambda: say("must be a number"),
        "float_type": lambda: say("must be a number"),
        "finite_number": lambda: say("must be a finite number"),
        "bool_parsing": lambda: say("must be true or false"),
        "bool_type": lambda: say("must be true or false"),
        "string_type": lambda: say("must be text"),
        "list_type": lambda: say("must be a list, like [a, b]"),
        "dict_type": lambda: say("must be a list of 'name: value' lines"),
        "literal_error": lambda: say("must be one of {choices}", choices=str(context.get("expected", "")).replace(" or ", ", ")),
        "value_error": lambda: str(context.get("error", detail["msg"])),
    }
    rule = rules.get(kind, lambda: str(detail["msg"]))()
    line = say(
        "{where}: {key}: {rule}; got {got}. ({help})", where=where, key=label(source, key), rule=rule, got=plain(got), help=help_text
    )
    return line + _better(key, kind, got, context)


def _better(key: str, kind: str, got: Any, context: Mapping[str, Any]) -> str:
    """The line that was probably meant, with a leading space, or nothing."""
    meant = ""
    if kind in ("int_parsing", "float_parsing", "int_from_float"):
        meant = number_meant(got)
    elif kind == "list_type" and isinstance(got, str) and got.strip():
        meant = f"[{', '.join(part.strip() for part in re.split('[,，、;；]', got) if part.strip())}]"
    elif kind == "literal_error" and isinstance(got, str):
        choices = re.findall("'([^']*)'", str(context.get("expected", "")))
        same = [choice for choice in choices if re.sub("[-_ ]", "", choice).casefold() == re.sub("[-_ ]", "", got).casefold()]
        if not same:
            return did_you_mean(got, choices)
        meant = same[0]
    return say(" Write {line}", line=f"{key}: {meant}") if meant else ""
