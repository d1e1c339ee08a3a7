# SPDX-License-Identifier: Apache-2.0
"""What the lines of a caption mean, and captions of which there are several."""

from __future__ import annotations

import json
from typing import Any

from loraforge import speaker

say = speaker(__name__)

_ENDS = (".", "!", "?", "。", "！", "？", "…")
_SEPARATORS = ",，、;； "


def lines_of(text: str) -> list[str]:
    """The lines of a text that say something, each with single blanks."""
    return [line for one in text.splitlines() if (line := " ".join(one.split()))]


def meant(lines: list[str], mode: str) -> str:
    """The caption that lines make.

    Args:
        mode: ``first``; ``any``, each a caption of its own, below each other; or ``join``: behind a comma, or behind the full stop that a
            sentence ends with, but never run together.
    """
    if mode == "any":
        return "\n".join(dict.fromkeys(lines))
    if mode == "join":
        return joined(lines)
    return lines[0] if lines else ""


def joined(lines: list[str]) -> str:
    """Lines of tags as one line of them."""
    text = ""
    for line in (one.strip(_SEPARATORS) for one in lines):
        if line:
            text += (" " if text.endswith(_ENDS) else ", " if text else "") + line
    return text


def caption_of(value: Any, mode: str) -> tuple[str | None, int]:
    """The caption that a cell or a value of JSON holds.

    Args:
        value: a text; a list of texts, which are several captions, or with ``join`` several tags; or nothing.

    Returns:
        The caption, None where there is no value; and how many lines of a text were left out.

    Raises:
        ValueError: with what it is instead, for people.
    """
    if value is None:
        return None, 0
    if isinstance(value, str):
        lines = lines_of(value)
        if len(lines) < 2:  # inner blanks stay as they are written
            return value.strip(), 0
        return meant(lines, mode), len(lines) - 1 if mode == "first" else 0
    if isinstance(value, list):
        for one in value:
            if not isinstance(one, str):
                raise ValueError(say("one of its captions is {kind}, not text ({value})", kind=_kind(one), value=_short(one)))
        texts = [meant(lines_of(one), "any" if mode == "any" else "join") for one in value]
        texts = [text for text in texts if text]
        return meant(texts, "join" if mode == "join" else "any"), 0
    raise ValueError(say("its caption is {kind}, not text ({value})", kind=_kind(value), value=_short(value)))


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return say("true or false")
    if isinstance(value, int | float):
        return say("a number")
    if value is None:
        return say("null")
    return say("a list") if isinstance(value, list) else say("an object")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."
