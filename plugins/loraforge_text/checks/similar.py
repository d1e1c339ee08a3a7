"""Pairs of near-identical questions, quickly: 5,000 rows in about a second."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import loraforge
from loraforge import fold

NEAR = 0.8
# A row of a table that is one template filled in thousands of times is compared with its nearest earlier rows only.
_MOST = 8
# Words that change how a question sounds and not what it asks.
_PARTICLES = frozenset("吗呢啊吧呀么嘛的了得地请问一下想知道我您你是否该这那个")
# Of these, the ones that leave the question the same wherever they stand, for short questions.
_SILENT = {ord(c): None for c in "吗呢啊吧呀么嘛的了请问"}
_CORE = 4  # characters
# Characters that turn a question into another one although hardly anything else changes.
_DECISIVE = frozenset(
    "0123456789零〇一二两三四五六七八九十百千万半不未没无非男女父母夫妻儿原被甲乙丙上下前后左右大小高低多少轻重急慢新旧早晚婚"
)
_EITHER = re.compile(r"(.)[不没]\1")


@dataclass(frozen=True)
class Pair:
    """Two rows that ask nearly the same.

    Attributes:
        later, earlier: indices.
        similarity: Jaccard of their character bigrams, 0 to 1.
        same: whether they differ in nothing that changes what is asked: width, punctuation, a particle.
        decisive: whether they differ in a number, a negation or the like, so that different answers are to be expected.
    """

    later: int
    earlier: int
    similarity: float
    same: bool
    decisive: bool


def bigrams(text: str) -> frozenset[str]:
    """The pairs of neighbouring characters of the folded text; the text itself if it is shorter."""
    folded = fold(text)
    return frozenset(folded[i : i + 2] for i in range(len(folded) - 1)) or frozenset({folded} - {""})


def jaccard(first: str, second: str) -> float:
    """How much two texts share, 0 to 1."""
    a, b = bigrams(first), bigrams(second)
    return len(a & b) / len(a | b) if a or b else 1.0


@functools.lru_cache(maxsize=2)  # two checks ask the same of the same rows, one after the other
def near_pairs(questions: tuple[str, ...]) -> tuple[Pair, ...]:
    """All pairs with a similarity of ``NEAR`` or more, for each row at most the ``_MOST`` nearest earlier ones.

    In a short question one particle is a large share: those that differ in nothing else are paired with the first such row, however
    similar.
    """
    features = [bigrams(question) for question in questions]
    plain = [_plain(question) for question in questions]
    near: dict[int, list[tuple[int, float]]] = {}
    for row, other, value in loraforge.near_pairs(features, NEAR, _MOST):
        near.setdefault(row, []).append((other, value))
    found: list[Pair] = []
    first: dict[str, int] = {}
    for row, question in enumerate(questions):
        for other, value in near.get(row, ()):
            changed = _changed(plain[other], plain[row]) - _PARTICLES
            found.append(Pair(row, other, value, not changed, bool(changed & _DECISIVE)))
        core = plain[row].translate(_SILENT)
        other = first.setdefault(core, row) if len(core) >= _CORE else row
        overlap = jaccard(question, questions[other])
        if other != row and overlap < NEAR:  # otherwise it is among those above, or there are nearer ones
            found.append(Pair(row, other, overlap, True, False))
    return tuple(found)


def _plain(question: str) -> str:
    """Folded, and 能不能 and 可以 as 能: without it the 不 would look like a negation."""
    return _EITHER.sub(r"\1", fold(question)).replace("可以", "能")


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
