# SPDX-License-Identifier: Apache-2.0
"""The texts of a row as checks read them."""

from __future__ import annotations

from ..records import Conversation, without_reasoning
from .private import masked


def answer(record: Conversation) -> str:
    """The answer without the reasoning of a thinking model before it, which may hesitate."""
    return without_reasoning(record.output)


def asked(record: Conversation) -> str:
    """All that the answer depends on: two rows ask the same if this is the same."""
    return "\n".join([*record.context, record.instruction, record.input]).strip()


def everything(record: Conversation) -> list[str]:
    """All texts of the row."""
    return record.texts


def excerpt(text: str, start: int = 0, end: int | None = None, around: int = 12) -> str:
    """The place in question with a little before and after it, on one line, with personal data masked: reports are passed around."""
    end = min(len(text), start + 2 * around) if end is None else end
    left, right = max(0, start - around), min(len(text), end + around)
    # Masked before it is cut: half a number is no longer recognised.
    return ("…" if left else "") + " ".join(masked(text)[left:right].split()) + ("…" if right < len(text) else "")
