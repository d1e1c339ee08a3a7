"""Which examples are held out. Near-identical ones never stand on both sides, and a row's side does not change when rows are appended."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..plugin_api.task import Task
from ..plugin_api.types import Fingerprint, Record
from .similarity import character_pairs, fold, near_rows

LEARNED, HELD_OUT, ASIDE = "train", "held-out", "set aside"


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
        groups: for every row the first row of its cluster of near-identical ones.
        keys: for every row, SHA-256 of what it asks, so that a later run recognises the question whatever its answer is by then.
        leaks: why rows are set aside.
    """

    sides: tuple[str, ...]
    groups: tuple[int, ...]
    keys: tuple[str, ...]
    leaks: tuple[Leak, ...] = ()

    def of(self, side: str) -> frozenset[int]:
        """The rows of one side."""
        return frozenset(i for i, mine in enumerate(self.sides) if mine == side)


def fingerprinter(task: Task[Any]) -> Callable[[Any], Fingerprint]:
    """The task's own ``fingerprint``, or one of the text of its question."""
    if task.fingerprint is not None:
        return task.fingerprint

    def fingerprint(record: Record) -> Fingerprint:
        text = task.question(record)
        key = fold(text) or text
        return Fingerprint(key, character_pairs(key))

    return fingerprint


def key_of(fingerprint: Fingerprint) -> str:
    """What a manifest calls the question: SHA-256 of the fingerprint's key."""
    return hashlib.sha256(fingerprint.key.encode("utf-8", "surrogatepass")).hexdigest()


def split(fingerprints: Sequence[Fingerprint], ratio: float, fixed: Sequence[str | None] = ()) -> Split:
    """Holds out about ``ratio`` of the rows.

    Rows are taken in their order. One that is near-identical to earlier rows goes where these are; otherwise a hash of what it asks
    decides. So a row's side depends on itself and on earlier rows only, and appending rows changes nothing. A row that resembles earlier
    rows of both sides would leak one into the other: it is set aside.

    Args:
        fixed: for every row the side that is given, or None: by the run that this one continues, or by the data; ASIDE if these differ.
    """
    import numpy as np

    keys = tuple(key_of(fingerprint) for fingerprint in fingerprints)
    given = list(fixed) or [None] * len(keys)
    sides: list[str] = []
    codes = np.zeros(len(keys), dtype=np.int8)  # 1 learned, 2 held out: the same for looking at many rows at once
    clusters = _Clusters(len(keys))
    leaks: list[Leak] = []
    for row, near in _earlier(fingerprints):
        seen: dict[str, int] = {}
        for code, side in ((1, LEARNED), (2, HELD_OUT)):
            there = near[codes[near] == code]
            if len(there):
                seen[side] = int(there[0])
        for other in near.tolist():
            clusters.join(row, other)
        wanted = given[row]
        for side in (LEARNED, HELD_OUT):
            if wanted in (side, ASIDE):
                seen.setdefault(side, row)
        if len(seen) > 1:
            sides.append(ASIDE)
            leaks.append(Leak(row, seen[LEARNED], seen[HELD_OUT]))
        else:
            sides.append(next(iter(seen), HELD_OUT if point(keys[row]) < ratio else LEARNED))
        codes[row] = {LEARNED: 1, HELD_OUT: 2}.get(sides[row], 0)
    groups = tuple(clusters.first(row) for row in range(len(keys)))
    _never_empty(sides, groups, keys, ratio, {groups[row] for row, side in enumerate(given) if side})
    return Split(tuple(sides), groups, keys, tuple(leaks))


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


def _earlier(fingerprints: Sequence[Fingerprint]) -> Iterator[tuple[int, Any]]:
    """For every row in turn, the earlier rows that it is near-identical to, the nearest first."""
    import numpy as np

    same: dict[str, int] = {}
    for row, near, _ in near_rows([fingerprint.features for fingerprint in fingerprints]):
        first = same.setdefault(fingerprints[row].key, row)  # equal keys are equal, whatever the features say
        yield row, near if first == row or first in near else np.concatenate([[first], near]).astype(int)
