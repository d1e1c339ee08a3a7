"""Which examples are held out. Near-identical ones never stand on both sides, and a row's side does not change when rows are appended."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .interfaces import Task
from .likeness import character_pairs, fold, near_pairs
from .types import Record, Sketch

# So many near-identical earlier rows are looked at for each row; of more, the nearest.
_MOST = 64

LEARNED, HELD_OUT, ASIDE = "train", "held-out", "set aside"


@dataclass(frozen=True)
class Leak:
    """A row that resembles one that is learned and one that is held out: it is kept out of both."""

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


def sketcher(task: Task[Any]) -> Callable[[Any], Sketch]:
    """The task's own ``sketch``, or one of the text of its question."""
    if task.sketch is not None:
        return task.sketch

    def sketch(record: Record) -> Sketch:
        text = task.question(record)
        key = fold(text) or text
        return Sketch(key, character_pairs(key))

    return sketch


def split(sketches: Sequence[Sketch], ratio: float, fixed: Mapping[str, str] | None = None) -> Split:
    """Holds out about ``ratio`` of the rows.

    Rows are taken in their order. One that is near-identical to earlier rows goes where these are; otherwise a hash of what it asks
    decides. So a row's side depends on itself and on earlier rows only, and appending rows changes nothing. A row that resembles earlier
    rows of both sides would leak one into the other: it is set aside.

    Args:
        fixed: sides that are given, by ``Split.keys``: those of the run that this one continues.
    """
    keys = tuple(hashlib.sha256(sketch.key.encode("utf-8", "surrogatepass")).hexdigest() for sketch in sketches)
    sides: list[str] = []
    groups: list[int] = []
    leaks: list[Leak] = []
    for row, near in enumerate(_earlier(sketches)):
        groups.append(groups[near[0]] if near[0] != row else row)
        seen = {sides[j]: j for j in reversed(near) if j != row and sides[j] != ASIDE}
        given = (fixed or {}).get(keys[row])
        if given in (LEARNED, HELD_OUT):
            seen.setdefault(given, row)
        if len(seen) > 1:
            sides.append(ASIDE)
            leaks.append(Leak(row, seen[LEARNED], seen[HELD_OUT]))
        else:
            sides.append(next(iter(seen), HELD_OUT if point(keys[row]) < ratio else LEARNED))
    _never_empty(sides, groups, keys, ratio)
    return Split(tuple(sides), tuple(groups), keys, tuple(leaks))


def point(key: str) -> float:
    """Where a row's hash lies, 0 to 1: it is held out if that is below the ratio."""
    return float(int(key[:16], 16) / 16**16)


def _never_empty(sides: list[str], groups: Sequence[int], keys: Sequence[str], ratio: float) -> None:
    """Very small data still have something to learn and something to measure by: the group whose hash is next to the border moves."""
    leaders = sorted({g for g, side in zip(groups, sides, strict=True) if side != ASIDE}, key=lambda g: point(keys[g]))
    if len(leaders) < 2:
        if leaders and HELD_OUT in sides:
            sides[:] = [LEARNED if side == HELD_OUT else side for side in sides]
        return
    if ratio > 0 and HELD_OUT not in sides:
        sides[:] = [HELD_OUT if g == leaders[0] and side == LEARNED else side for g, side in zip(groups, sides, strict=True)]
    elif LEARNED not in sides:
        sides[:] = [LEARNED if g == leaders[-1] and side == HELD_OUT else side for g, side in zip(groups, sides, strict=True)]


def _earlier(sketches: Sequence[Sketch]) -> list[list[int]]:
    """For every row, the earlier rows that it is near-identical to, the nearest first, and itself last."""
    found: list[list[int]] = [[] for _ in sketches]
    for row, other, _ in near_pairs([sketch.features for sketch in sketches], most=_MOST):
        found[row].append(other)
    same: dict[str, int] = {}
    for row, sketch in enumerate(sketches):  # equal keys are equal, whatever the features say
        first = same.setdefault(sketch.key, row)
        if first != row and first not in found[row]:
            found[row].insert(0, first)
        found[row].append(row)
    return found
