"""Answers that are marked as bad: of preference data (chosen and rejected) and of feedback (KTO's label). They are never learned."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from loraforge import DataError, speaker

from .columns import judged
from .readers.rows import Row

say = speaker(__name__)

_REJECTED = frozenset(("rejected", "reject", "rejectedresponse", "rejectedanswer", "loser", "负例", "差的回答", "拒绝的回答", "拒绝"))
_CHOSEN = frozenset(("chosen", "chosenresponse", "chosenanswer", "winner", "正例", "好的回答", "选中的回答"))
_LABEL = frozenset(
    ("label", "ktotag", "desirable", "isdesirable", "isgood", "feedback", "preference", "好坏", "是否好评", "评价", "反馈", "标签")
)


def refuse_undecided(names: Sequence[str], given: Mapping[str, str], rows: Sequence[Row], file: str) -> None:
    """Stops where a file holds bad answers and the config does not say what to do with them.

    Args:
        given: the config's ``columns``.

    Raises:
        DataError: with the line to write.
    """
    folded = {name: _fold(name) for name in names}
    rejected = next((name for name, fold in folded.items() if fold in _REJECTED and _filled(rows, name)), None)
    if rejected and given.get("output") == rejected:
        raise DataError(say("{file}: columns: '{column}' holds the bad answers; they are never learned.", file=file, column=rejected))
    if rejected and not given.get("output"):
        chosen = next((name for name, fold in folded.items() if fold in _CHOSEN), None)
        chosen = chosen or next((name for name, fold in folded.items() if fold in ("output", "answer", "response")), "...")
        raise DataError(
            say(
                "{file}: its rows compare good answers with bad ones ('{rejected}'), which only preference training uses. Write columns: "
                "{{output: {chosen}}} to learn the good ones and leave the bad ones out.",
                file=file,
                rejected=rejected,
                chosen=chosen,
            )
        )
    if "label" in given:
        return
    for name in (name for name, fold in folded.items() if fold in _LABEL):
        told = [judged(row.values[name]) for row in rows if row.problem is None and row.values.get(name) not in (None, "")]
        bad = sum(one is False for one in told)
        if bad and None not in told:
            raise DataError(
                say(
                    "{file}: the column '{column}' calls {n} of {all} answers bad, and they would be learned as good ones. Write columns: "
                    '{{label: {column}}} to learn only the others, or columns: {{label: ""}} if it means something else.',
                    file=file,
                    column=name,
                    n=bad,
                    all=len(told),
                )
            )


def is_rejected(name: str) -> bool:
    """Whether a column is called like one of bad answers."""
    return _fold(name) in _REJECTED


def _fold(name: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", name).lower() if c.isalnum())


def _filled(rows: Sequence[Row], name: str) -> bool:
    values: list[Any] = [row.values.get(name) for row in rows]
    return any(value not in (None, "", [], {}) for value in values)
