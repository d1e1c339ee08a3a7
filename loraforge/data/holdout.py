# SPDX-License-Identifier: Apache-2.0
"""By what rows stand together, as ``split_by`` says it; how the hold-out came about, in a line for people; and its two parts: questions
whose answer was never learned, and other wordings of what was learned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import DataError
from ..messages import speaker
from ..plugin_api.types import Fingerprint, Record
from .splitting import ANSWER, AUTO, CLASS, HELD_OUT, QUESTION, Split

say = speaker(__name__)

_SMALL = 9  # rows: in a small table it is nobody's surprise that a few stand together
_HUGE = 1 / 3  # of all rows in one cluster: then the share that is held out is hardly the one that was asked for


def wanted(split_by: str, records: Sequence[Record]) -> tuple[str, list[str | None]]:
    """What ``split_by`` says: AUTO, ANSWER, QUESTION or a column; and what that column says of every row.

    Raises:
        DataError: if no row has such a column.
    """
    by = split_by.strip()
    if by in (AUTO, ANSWER, QUESTION):
        return by, [None] * len(records)
    values = [" ".join(record.group.split()) or None if record.group else None for record in records]
    if not any(values):
        raise DataError(
            say(
                "split_by: no row says anything in a column '{column}'. It takes answer, question, auto, or a column that the data have.",
                column=by,
            )
        )
    return by, values


def explained(parted: Split, fingerprints: Sequence[Fingerprint], by: str, ratio: float, given: bool) -> list[str]:
    """How the rows were divided, in one line; and what to do where that came out badly.

    Args:
        ratio: of ``eval_ratio``; 0 where nothing is held out by it.
        given: whether the data say what is held out.
    """
    held, rows = len(parted.of(HELD_OUT)), len(parted.sides)
    if not (ratio or given):
        return []
    if not held:
        return [
            say("no row could be held out, so nothing will be measured on unseen questions: there are too few different ones."),
            *([_huge(parted, by)] if parted.largest > 1 else []),
        ]
    taught = any(one.lessons for one in fingerprints)
    if by in (AUTO, ANSWER) and taught:
        together = say("near-identical questions and near-identical answers")
    elif by in (AUTO, ANSWER, QUESTION):
        together = say("near-identical questions") if taught else say("near-identical examples")
    else:
        together = say("near-identical examples and those with one {column}", column=by)
    line = (
        say("held out: {held} of {rows} rows, as the data say", held=held, rows=rows)
        if given
        else say(
            "held out: {held} of {rows} rows; {together} stay on one side ({groups} groups)",
            held=held,
            rows=rows,
            together=together,
            groups=len(set(parted.groups)),
        )
    )
    if taught:
        line += say("; the answers of {new} of them are never learned", new=held - len(parted.known))
    classes = _classes(fingerprints) if by == AUTO else []
    if classes:
        shown = " ".join(f"“{name}”" for name in classes[:3])
        line += say("; answers such as {shown} count as classes, whose questions alone decide (split_by: answer if not)", shown=shown)
    lines = [line]
    if ratio and parted.largest > max(rows * _HUGE, _SMALL):
        lines.append(_huge(parted, by))
    return lines


def part_name(new: bool, rows: int) -> str:
    """What a table calls a part of the hold-out."""
    return say("never learned ({n})", n=rows) if new else say("learned in other words ({n})", n=rows)


def in_parts(evaluation: Mapping[str, Any]) -> list[tuple[bool, Mapping[str, Any]]]:
    """(whether it is about answers that were never learned, figures) of every line of a table: each measure's two parts together."""
    lines: list[tuple[bool, Mapping[str, Any]]] = []
    for new, key in ((True, "comparisons"), (False, "reworded")):
        found = evaluation.get(key)
        lines += [(new, one) for one in (found if isinstance(found, list) else ()) if isinstance(one, Mapping)]
    order = list(dict.fromkeys(str(one.get("measure")) for _, one in lines))
    return sorted(lines, key=lambda line: order.index(str(line[1].get("measure"))))


def _classes(fingerprints: Sequence[Fingerprint]) -> list[str]:
    """The short answers that stand in so many rows that they are taken for classes, the commonest first."""
    counts = Counter(key for one in fingerprints for key in {lesson.key for lesson in one.lessons if lesson.short})
    return [key for key, count in counts.most_common() if count > CLASS]


def _huge(parted: Split, by: str) -> str:
    """One cluster holds so many rows that the hold-out is too large, too small or none."""
    rows, largest = len(parted.sides), parted.largest
    if by == QUESTION:
        return say(
            "{n} of {rows} rows are one group, because their questions are near-identical: one text with gaps, say. Put what differs first "
            "or into more words, or give a hold-out of your own (test.csv).",
            n=largest,
            rows=rows,
        )
    if by in (AUTO, ANSWER):
        return say(
            "{n} of {rows} rows are one group, because their questions or answers are near-identical, directly or through others. If the "
            "answers are a form that is filled in, set split_by: question, or split_by: COLUMN with a column that says the topic.",
            n=largest,
            rows=rows,
        )
    return say(
        "{n} of {rows} rows are one group by their column '{column}' and their questions. Set split_by to a column with more values.",
        n=largest,
        rows=rows,
        column=by,
    )
