# SPDX-License-Identifier: Apache-2.0
"""Pairs of near-identical questions, quickly: 5,000 rows in about a second."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import loraforge
from loraforge import fold

from ..evaluation.measures import fingerprint
from ..records import Conversation

# A row of a table that is one template filled in thousands of times is compared with its nearest earlier rows only.
_MOST = 8
# Words that change how a question sounds and not what it asks.
_PARTICLES = frozenset("吗呢啊吧呀么嘛的了得地请问一下想知道我您你是否该这那个")
# Characters that turn a question into another one although hardly anything else changes.
_DECISIVE = frozenset("0123456789两十百千万半不未没无非男女父母夫妻儿原被甲乙丙上下前后左右大小高低多少轻重急慢新旧早晚婚")
# What two questions share that ask nearly the same.
_NEAR = 0.8


@dataclass(frozen=True)
class Pair:
    """Two rows that stand on one side of the hold-out because of what they ask.

    Attributes:
        later, earlier: indices.
        similarity: Jaccard of their questions' character pairs, 0 to 1.
        same: whether they differ in nothing that changes what is asked: width, punctuation, a particle, a greeting.
        decisive: whether they differ in a number, a negation or the like, so that different answers are to be expected.
        part: whether one question stands within the other one, or is another turn's of the same conversation.
    """

    later: int
    earlier: int
    similarity: float
    same: bool
    decisive: bool
    part: bool = False


def bigrams(text: str) -> frozenset[str]:
    """The pairs of neighbouring characters of the folded text; the text itself if it is shorter."""
    folded = fold(text)
    return frozenset(folded[i : i + 2] for i in range(len(folded) - 1)) or frozenset({folded} - {""})


def jaccard(first: str, second: str) -> float:
    """How much two texts share, 0 to 1."""
    a, b = bigrams(first), bigrams(second)
    return len(a & b) / len(a | b) if a or b else 1.0


@functools.lru_cache(maxsize=2)  # two checks ask the same of the same rows, one after the other
def near_pairs(rows: tuple[Conversation, ...]) -> tuple[Pair, ...]:
    """All pairs that ask the same to the split (see ``measures.fingerprint``), for each row at most the ``_MOST`` nearest earlier ones."""
    prints = [fingerprint(row) for row in rows]
    plain = [loraforge.bare_question(row.question) for row in rows]
    found: list[Pair] = []
    for row, others, _ in loraforge.near_records([(one.features, *one.others) for one in prints], [one.floor for one in prints]):
        for other in others[:_MOST].tolist():
            value = _alike(plain[row], plain[other])
            part = value < _NEAR
            changed = set() if part else _changed(plain[other], plain[row]) - _PARTICLES
            found.append(Pair(row, other, value, not part and not changed, bool(changed & _DECISIVE), part))
    return tuple(found)


def same_context(one: Conversation, other: Conversation) -> bool:
    """Whether all that the answers depend on besides the questions is the same: system message, earlier turns, tools."""
    return [fold(text) for text in one.context] == [fold(text) for text in other.context]


def _alike(first: str, second: str) -> float:
    a, b = loraforge.character_pairs(first), loraforge.character_pairs(second)
    return len(a & b) / len(a | b)


def _changed(first: str, second: str) -> set[str]:
    """The characters that one has and the other has not at that place."""
    ahead = _shared(first, second)
    first, second = first[ahead:], second[ahead:]
    behind = _shared(first[::-1], second[::-1])
    first, second = first[: len(first) - behind], second[: len(second) - behind]
    changed: set[str] = set()
    for tag, a, b, c, d in difflib.SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if tag != "equal":
            changed |= set(first[a:b]) | set(second[c:d])
    return changed


def _shared(first: str, second: str) -> int:
    """How many characters two texts have in common at their beginning."""
    return next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))


def nearest(pairs: Sequence[Pair]) -> dict[int, Pair]:
    """For every later row, the pair with its most similar earlier row."""
    best: dict[int, Pair] = {}
    for pair in pairs:
        if pair.later not in best or pair.similarity > best[pair.later].similarity:
            best[pair.later] = pair
    return best
