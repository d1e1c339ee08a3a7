# SPDX-License-Identifier: Apache-2.0
"""Rows that say the same twice: they count twice in training, and one of them may be held out while the other is learned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from loraforge import Check, Finding, KeySet, RunConfig, speaker

from ..records import Conversation
from .similar import jaccard, near_pairs, nearest, same_context
from .texts import asked, excerpt

say = speaker(__name__)

# Answers that share this much say the same in other words.
_SAME_ANSWER = 0.8


def _words(text: str) -> str:
    return " ".join(text.split())


class Duplicates(Check[Conversation]):
    """One finding for each row that repeats an earlier one, question and answer."""

    name = "duplicates"
    task = "text"
    help = "Rows with the same question and the same answer as an earlier row."
    severity = "warning"

    def run(self, config: RunConfig, keys: KeySet, rows: Sequence[Conversation]) -> Iterable[Finding]:
        first: dict[tuple[str, str], int] = {}
        for index, row in enumerate(rows):
            earlier = first.setdefault((_words(asked(row)), _words(row.output)), index)
            if earlier != index:
                yield Finding(
                    (index, earlier),
                    say("Question and answer are those of {where}. Delete one.", where=rows[earlier].where),
                    excerpt(asked(row)),
                )


class NearDuplicates(Check[Conversation]):
    """One finding for each row whose question is nearly an earlier one.

    Other wordings of a question are welcome in the data, and so are questions that differ in a number, a negation or the persons: neither
    is a finding.
    """

    name = "near_duplicates"
    task = "text"
    help = "Questions that differ from an earlier one only in width, punctuation, numerals or a particle, or stand within it."
    severity = "hint"

    def run(self, config: RunConfig, keys: KeySet, rows: Sequence[Conversation]) -> Iterable[Finding]:
        pairs = [pair for pair in near_pairs(tuple(rows)) if not pair.decisive]
        for pair in nearest(pairs).values():
            row, other = rows[pair.later], rows[pair.earlier]
            same_answer = _words(row.output) == _words(other.output)
            if same_answer and _words(asked(row)) == _words(asked(other)):
                continue  # Duplicates has said so
            alike = any(jaccard(one, another) >= _SAME_ANSWER for one in row.answers for another in other.answers)
            if not alike and not (pair.same and same_context(row, other)):
                continue  # questions with answers of their own: a table of cases, another role in the system message
            if pair.part:
                message = say(
                    "{where} asks the same in part, with the same answer: a question that stands within the other, or a turn of a "
                    "conversation. Keep one, or put it in other words.",
                    where=other.where,
                )
                yield Finding((pair.later, pair.earlier), message, excerpt(asked(row)))
                continue
            share = f"{pair.similarity:.0%}"
            if same_answer:
                message = say(
                    "The question is nearly that of {where} ({share} alike), with the same answer. Keep one, or put it in other words.",
                    where=other.where,
                    share=share,
                )
            else:
                message = say(
                    "The question is nearly that of {where} ({share} alike), with another answer. Keep the better one.",
                    where=other.where,
                    share=share,
                )
            yield Finding((pair.later, pair.earlier), message, excerpt(asked(row)))
