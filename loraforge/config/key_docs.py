# SPDX-License-Identifier: Apache-2.0
"""What is said about YAML keys, derived from their declarations: tables for people, a JSON Schema for editors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..messages import speaker
from .explanations import plain
from .other_trainers.aliases import aliases_of
from .schema import Keys

say = speaker(__name__)


def schema(owners: Sequence[type[Keys]]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a config file, for editors that complete YAML."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    for owner in owners:
        part = owner.model_json_schema()
        properties.update(part.get("properties", {}))
        for name, info in owner.model_fields.items():
            # Editors know them and strike them through; a converted one has other values than the key.
            for alias, conversion in aliases_of(info).items():
                same = {} if conversion else {k: v for k, v in part["properties"][name].items() if k in ("anyOf", "type", "enum")}
                properties[alias] = {**same, "description": name, "deprecated": True}
        required += part.get("required", [])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


@dataclass(frozen=True)
class KeyInfo:
    """One key as people read about it.

    Attributes:
        aliases: what other programs call it, which is taken too.
    """

    name: str
    owner: str
    kind: str
    default: str
    help: str
    aliases: tuple[str, ...] = ()


def describe(owner: str, keys: type[Keys]) -> list[KeyInfo]:
    """The keys of one owner, for ``loraforge keys`` and ``docs/config.md``."""
    found = []
    for name, part in keys.model_json_schema()["properties"].items():
        info = keys.model_fields[name]
        if info.is_required():
            default = say("(required)")
        else:
            given = info.get_default(call_default_factory=True, validated_data={})
            default = "" if given is None else plain(given).strip("'")
        found.append(KeyInfo(name, owner, _kind(part), default, say(info.description or ""), tuple(aliases_of(info))))
    return found


def _kind(part: Mapping[str, Any]) -> str:
    """A JSON Schema type with its bounds, in words."""
    options = [option for option in part.get("anyOf", [part]) if option.get("type") != "null"]
    words = []
    for option in options:
        if "enum" in option:
            words.append(" | ".join(str(choice) for choice in option["enum"]))
            continue
        if "const" in option:
            words.append(str(option["const"]))
            continue
        names = {
            "integer": say("whole number"),
            "number": say("number"),
            "string": say("text"),
            "boolean": say("true or false"),
            "array": say("list"),
            "object": say("name: value lines"),
        }
        word = names.get(option.get("type", ""), "")
        bounds = [
            f"{sign} {plain(option[key])}"
            for key, sign in (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))
            if key in option
        ]
        words.append(" ".join([word, *([f"({', '.join(bounds)})"] if bounds else [])]))
    return say(" or ").join(words)
