# SPDX-License-Identifier: Apache-2.0
"""Which examples are held out. What is near-identical never stands on both sides, and a row's side does not change when rows are
appended."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..plugin_api.task import Task
from ..plugin_api.types import Fingerprint, Record
from . import wording
from .similarity import character_pairs, near_records

LEARNED, HELD_OUT, ASIDE = "train", "held-out", "set aside"
# The values of ``split_by`` that are no columns.
AUTO, ANSWER, QUESTION = "auto", "answer", "question"
# So many rows may have one short answer before it counts as the name of a class: knowledge is asked in a few wordings, classes in many.
CLASS = 5
# Features from which on an answer that stands within another one is learned with it.
_ANSWER_FLOOR = 20


@dataclass(frozen=True)
class Leak:
    """A row that resembles one that is learned and one that is held out: it is kept out of both.

    Where one of these is the row itself, its side was given.
    """

    row: int
    learned: int
    heldout: int


@dataclass(frozen=True)
class Split:
    """The sides of the rows.

    Attributes:
        sides: for every row LEARNED, HELD_OUT or ASIDE.
        groups: for every row the first row of its cluster: rows that stay on one side, directly or through others.
        questions: for every row the first row of those that ask the same: a cluster of the questions alone.
        keys: for every row, SHA-256 of what it asks, so that a later run recognises the question whatever its answer is by then.
        leaks: why rows are set aside.
        known: held-out rows whose answer is learned, so that they ask in other words for what is known.
        companions: for every row, see ``companions``; empty where nobody asked.
    """

    sides: tuple[str, ...]
    groups: tuple[int, ...]
    keys: tuple[str, ...]
    leaks: tuple[Leak, ...] = ()
    known: frozenset[int] = frozenset()
    companions: tuple[list[str], ...] = ()
    questions: tuple[int, ...] = ()

    def of(self, side: str) -> frozenset[int]:
        """The rows of one side."""
        return frozenset(i for i, mine in enumerate(self.sides) if mine == side)

    @property
    def largest(self) -> int:
        """How many rows the largest cluster has."""
        return max(Counter(self.groups).values(), default=0)


def fingerprinter(task: Task[Any]) -> Callable[[Any], Fingerprint]:
    """The task's own ``fingerprint``, or one of the texts of its question and its answer."""
    if task.fingerprint is not None:
        return task.fingerprint

    def fingerprint(record: Record) -> Fingerprint:
        text = task.question(record)
        # Where answers are judged in a way of the task's own they are pictures, say; and str would tell the question once more.
        answer = "" if task.answer is str or task.evaluation.compare is not None else task.answer(record)
        bare = wording.bare_question(text)
        return Fingerprint(wording.asked(text), character_pairs(bare), (), wording.FLOOR, (wording.lesson(answer),) if answer else ())

    return fingerprint


def key_of(fingerprint: Fingerprint) -> str:
    """What a manifest calls the question: SHA-256 of the fingerprint's key."""
    return _hash(fingerprint.key)


def companions(fingerprint: Fingerprint, by: str, group: str | None) -> list[str]:
    """What else a row stands together by, each as a manifest calls it: its answers, or its group where ``by`` names a column."""
    if by in (AUTO, ANSWER):
        return [_hash(f"answer\n{one.key}") for one in fingerprint.lessons if by == ANSWER or not one.short]
    return [_hash(f"{by}\n{group}")] if by != QUESTION and group else []


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def split(
    fingerprints: Sequence[Fingerprint],
    ratio: float,
    fixed: Sequence[str | None] = (),
    by: str = AUTO,
    values: Sequence[str | None] = (),
) -> Split:
    """Holds out about ``ratio`` of the rows.

    Rows are taken in their order. One that is near-identical to earlier rows goes where these are; otherwise a hash of what it asks
    decides. So a row's side depends on itself and on earlier rows only, and appending rows changes nothing. A row that resembles earlier
    rows of both sides would leak one into the other: it is set aside. Where one answer stands on both sides already, because sides were
    given, a further row with it is learned.

    Args:
        fixed: for every row the side that is given, or None: by the run that this one continues, or by the data; ASIDE if these differ.
        by: what rows are near-identical by besides their questions: AUTO, ANSWER, QUESTION (nothing else) or a column.
        values: for every row, what that column says.
    """
    keys = tuple(key_of(fingerprint) for fingerprint in fingerprints)
    given = list(fixed) or [None] * len(keys)
    sides: list[str] = []
    clusters, alike = _Clusters(len(keys)), _Clusters(len(keys))
    leaks: list[Leak] = []
    for row, asking, others in _earlier(fingerprints, by, values):
        for other in asking:
            alike.join(row, other)
        for other in (*asking, *others):
            clusters.join(row, other)
        seen, beside = ({sides[other]: other for other in reversed(those) if sides[other] != ASIDE} for those in (asking, others))
        for side in (LEARNED, HELD_OUT):
            if given[row] in (side, ASIDE):
                seen.setdefault(side, row)
        if given[row] is None:  # a side that is given holds whatever was learned elsewhere; the comparison tells such rows apart
            seen = {**beside, **seen} if len(beside) < 2 else seen or {LEARNED: beside[LEARNED]}
        if len(seen) > 1:
            sides.append(ASIDE)
            leaks.append(Leak(row, seen[LEARNED], seen[HELD_OUT]))
        else:
            sides.append(next(iter(seen), HELD_OUT if point(keys[row]) < ratio else LEARNED))
    groups = tuple(clusters.first(row) for row in range(len(keys)))
    _never_empty(sides, groups, keys, ratio, {groups[row] for row, side in enumerate(given) if side})
    questions = tuple(alike.first(row) for row in range(len(keys)))
    return Split(tuple(sides), groups, keys, tuple(leaks), known(fingerprints, sides), questions=questions)


def known(fingerprints: Sequence[Fingerprint], sides: Sequence[str]) -> frozenset[int]:
    """The held-out rows of whose answers one is learned, or nearly. Of answers that are the names of classes nothing is known by having
    met the class: there the question is what is new."""
    held = [row for row, side in enumerate(sides) if side == HELD_OUT]
    learned = [row for row, side in enumerate(sides) if side == LEARNED]
    order = [*learned, *held]
    counts: dict[str, int] = defaultdict(int)
    for row in order:
        for key in {one.key for one in fingerprints[row].lessons}:
            counts[key] += 1
    taught = {one.key for row in learned for one in fingerprints[row].lessons if not one.short or counts[one.key] <= CLASS}
    found = {row for row in held if any(one.key in taught for one in fingerprints[row].lessons)}
    if not held or not learned:
        return frozenset()
    for place, near, _ in near_records([_long(fingerprints[row]) for row in order], [_ANSWER_FLOOR] * len(order)):
        if place < len(learned):
            continue
        mine = fingerprints[order[place]]
        if any(_one_lesson(mine, fingerprints[order[other]]) for other in near if other < len(learned)):
            found.add(order[place])
    return frozenset(found)


def point(key: str) -> float:
    """Where a row's hash lies, 0 to 1: it is held out if that is below the ratio."""
    return float(int(key[:16], 16) / 16**16)


class _Clusters:
    """Rows that are near-identical, directly or through others; each cluster is called by its first row."""

    def __init__(self, count: int) -> None:
        self._up = list(range(count))

    def first(self, row: int) -> int:
        while self._up[row] != row:
            self._up[row] = self._up[self._up[row]]
            row = self._up[row]
        return row

    def join(self, row: int, other: int) -> None:
        a, b = self.first(row), self.first(other)
        self._up[max(a, b)] = min(a, b)


def _never_empty(sides: list[str], groups: Sequence[int], keys: Sequence[str], ratio: float, bound: Collection[int]) -> None:
    """Very small data still have something to learn and something to measure by: the cluster whose hash is next to the border moves.

    Args:
        bound: clusters with a given side, which stay.
    """
    free = sorted({g for g, side in zip(groups, sides, strict=True) if side != ASIDE and g not in bound}, key=lambda g: point(keys[g]))
    several = len({g for g, side in zip(groups, sides, strict=True) if side != ASIDE}) > 1
    if LEARNED not in sides and free:
        moved, side = free[-1], LEARNED
    elif ratio > 0 and HELD_OUT not in sides and free and several:
        moved, side = free[0], HELD_OUT
    else:
        return
    sides[:] = [side if g == moved and old != ASIDE else old for g, old in zip(groups, sides, strict=True)]


def _earlier(
    fingerprints: Sequence[Fingerprint], by: str = QUESTION, values: Sequence[str | None] = ()
) -> Iterator[tuple[int, list[int], list[int]]]:
    """For every row in turn, the earlier rows that ask the same, the nearest first; and those that it stands together with besides."""
    asked = _alike(fingerprints)
    answered = near_records([_long(one) for one in fingerprints], [_ANSWER_FLOOR] * len(fingerprints)) if by in (AUTO, ANSWER) else None
    same: dict[str, int] = {}
    shared: dict[str, list[int]] = defaultdict(list)
    for row, near in enumerate(asked):
        first = same.setdefault(fingerprints[row].key, row)  # equal keys are equal, whatever the features say
        others: list[int] = []
        if answered is not None:
            others = [other for other in next(answered)[1].tolist() if _one_lesson(fingerprints[row], fingerprints[other])]
            for answer in {one.key for one in fingerprints[row].lessons if one.short}:
                before = shared[answer]
                others += before if by == ANSWER or len(before) < CLASS else ()
                before.append(row)
        elif by != QUESTION and (value := values[row]):
            others = list(shared[value])
            shared[value].append(row)
        yield row, near if first == row or first in near else [first, *near], others


def _alike(fingerprints: Sequence[Fingerprint]) -> Iterator[list[int]]:
    """For every row in turn the earlier rows that are near-identical to it, the nearest first."""
    looks = next((one.looks for one in fingerprints if one.looks is not None), None)
    if looks is not None:
        yield from (list(near) for near in looks.earlier([one.looks for one in fingerprints]))
        return
    for _, near, _ in near_records([(one.features, *one.others) for one in fingerprints], [one.floor for one in fingerprints]):
        yield near.tolist()


def _long(fingerprint: Fingerprint) -> list[Any]:
    """The features of the answers that are more than a word or two."""
    return [one.features for one in fingerprint.lessons if not one.short]


def _one_lesson(one: Fingerprint, other: Fingerprint) -> bool:
    """Whether answers that are near-identical can be the same one: not if each names a number that the other does not."""
    return any(
        mine.numbers <= theirs.numbers or theirs.numbers <= mine.numbers
        for mine in one.lessons
        for theirs in other.lessons
        if not (mine.short or theirs.short)
    )
