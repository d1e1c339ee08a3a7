# SPDX-License-Identifier: Apache-2.0
"""Is the adapter better, or was it luck? Intervals for means and for paired differences, honest about small samples.

Base and adapter answer the same questions, so their difference is taken question by question (paired bootstrap: Koehn, "Statistical
Significance Tests for Machine Translation Evaluation", EMNLP 2004). Whole groups of near-identical questions are drawn, not rows, because
five wordings of one question are one piece of evidence. No interval without assumptions holds for every distribution (Bahadur & Savage,
Annals of Mathematical Statistics 27, 1956), and the usual ones fail exactly where a doctor's or lawyer's hold-out lives. Hence:

1. Three intervals, of which the widest end counts on each side: BCa (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, ch. 14),
   taken further out as a t interval would (Hesterberg, The American Statistician 69, 2015, sec. 3.3); Student's t; and the bootstrap-t
   (Efron & Tibshirani, ch. 12), the only one that follows a long tail at ten rows (Chernick & LaBudde, "Revisiting Qualms about Bootstrap
   Confidence Intervals", American Journal of Mathematical and Management Sciences 29, 2009), with 1.5 % at each end rather than
   2.5 % (1 % below twenty groups).
2. What was never seen: a kind of question that is a share u of the world is absent from n groups with probability (1 - u)^n. The interval
   reaches at least as far as if the largest u that can be missed differed by one grain of the measure (for 0/1, this is Clopper & Pearson's
   bound where all rows agree; the mean of one side's shares may lie as far off as if it scored 0 or 1).
3. "Better" needs the sign-flip test of the pairs too (exact for few groups): if base and adapter were interchangeable, it errs in at most
   5 % of all cases. Where it finds nothing, the interval is widened to reach 0, so that interval and verdict never contradict each other.
   Five groups can never reach 5 % (2 * 0.5^5 = 6 %): six must differ for anything to be shown. Where fewer do, how far a group can move is
   not known from them: of shares the interval is that of how many move (Clopper & Pearson 1934) times the whole range, of losses none.
4. Below ``FEWEST_GROUPS`` no interval is printed, because none of the three holds there.

``python -m benchmarks intervals`` measures how often the truth is covered; docs/trust.md has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from ..messages import speaker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

say = speaker(__name__)

_NORMAL = NormalDist()
_POWER = 0.8  # the usual one: a difference that is there is seen in four of five such evaluations
_CELLS = 2_000_000  # numbers drawn at once: 16 MB
# With six or seven independent groups, intervals of log-normal differences hold the truth in 90 % (measured), with eight in 93 %.
FEWEST_GROUPS = 8
# The bootstrap-t's tails, as shares of the others', so that log-normal values are covered: 1.5 % of 2.5 %, and 1 % below twenty groups.
_TAIL, _SHORT_TAIL, _MANY = 0.6, 0.4, 20
_SPREAD = 0.25  # resamples of which all values lie in one heap of two have hardly any error, and a bootstrap-t without end
_UNSEEN_IN_TABLES = 5e-4  # what rounds to 0.000, or to 0.0 points


@dataclass(frozen=True)
class Comparison:
    """Base and adapter on the same rows.

    Args:
        rows: pairs compared.
        groups: independent ones among them: near-identical questions count once.
        base: the base's mean.
        adapter: the adapter's mean.
        low: lower end of the interval of the mean difference adapter - base; None: there is no interval that holds.
        high: its upper end.
        detectable: the smallest difference that an evaluation of this size sees in four of five cases; None: it can show none.
        share: the figures are shares, and shown in per cent.
        level: of the interval.
        moved: groups on which the two differ by as much as a table shows.
    """

    measure: str
    rows: int
    groups: int
    base: float
    adapter: float
    low: float | None
    high: float | None
    lower_is_better: bool = False
    detectable: float | None = None
    share: bool = False
    level: float = 0.95
    moved: int = 0

    @property
    def difference(self) -> float:
        """The mean of adapter - base."""
        return self.adapter - self.base

    @property
    def too_few(self) -> bool:
        """There are too few groups for any interval."""
        return self.groups < FEWEST_GROUPS

    @property
    def verdict(self) -> str:
        """``better`` or ``worse``, where the interval leaves no doubt about the direction; otherwise ``no evidence``."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "no evidence"
        return "better" if (self.high < 0) == self.lower_is_better else "worse"

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {**asdict(self), "difference": self.difference, "verdict": self.verdict, "too_few": self.too_few}


@dataclass(frozen=True)
class _Groups:
    """Per group: the sum of its values and how many they are. ``grain``: the smallest step between two values that occur."""

    sums: NDArray[np.float64]
    sizes: NDArray[np.float64]
    grain: float

    @property
    def mean(self) -> float:
        return float(self.sums.sum() / self.sizes.sum())

    @property
    def unequal(self) -> float:
        """How much more the largest group weighs than the mean one."""
        return float(self.sizes.max() / self.sizes.mean())


def compare(
    measure: str,
    base: Sequence[float],
    adapter: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    lower_is_better: bool = False,
    share: bool | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Comparison:
    """Compares base and adapter row by row; equal arguments give equal results.

    Args:
        base: one figure a row.
        adapter: the same rows in the same order.
        groups: one label a row; rows of one label are one piece of evidence. None: each row stands for itself.
        share: the figures are shares from 0 to 1. None: judged by their range, and no loss is one.

    Raises:
        ValueError: without rows, with lists of different lengths, or with a figure that is no finite number.
    """
    import numpy as np

    before, after = np.asarray(base, dtype=float), np.asarray(adapter, dtype=float)
    if before.shape != after.shape:
        raise ValueError(f"{before.size} figures of the base, {after.size} of the adapter")
    both = np.concatenate([before, after])
    found = _grouped(after - before, groups, _grain(both))
    if share is None:
        share = "loss" not in measure and bool((both >= 0).all() and (both <= 1).all())
    means = float(before.mean()), float(after.mean())
    visible = _UNSEEN_IN_TABLES if share else min(_UNSEEN_IN_TABLES, 0.001 * max(map(abs, means)))
    changes = np.where(np.abs(found.sums / found.sizes) > max(visible, 1e-12), found.sums, 0.0)
    moved = int((changes != 0).sum())
    low, high, detectable = _difference(found, changes, share, np.random.default_rng(seed), resamples, level)
    return Comparison(measure, len(before), len(found.sums), *means, low, high, lower_is_better, detectable, share, level, moved)


def _difference(
    found: _Groups, changes: NDArray[np.float64], share: bool, rng: np.random.Generator, resamples: int, level: float
) -> tuple[float | None, float | None, float | None]:
    """(lower end, upper end, smallest difference that would show) of the mean difference; ``changes``: ``found.sums`` that can be seen."""
    count, fewest, mean = len(found.sums), _fewest(level), found.mean
    ups, downs = int((changes > 0).sum()), int((changes < 0).sum())
    if count < FEWEST_GROUPS or (ups + downs < fewest and not share):
        return None, None, None
    if ups + downs < fewest:
        tail = (1 - level) / 2
        most = [min(1.0, found.unequal * _most(number, count, tail)) for number in (downs, ups)]
        return min(-most[0], mean), max(most[1], mean), None
    low, high, error = _bounds(found, rng, resamples, level)
    detectable = max((high - low) / 2 + _NORMAL.inv_cdf(_POWER) * error, fewest / count * found.grain)
    if share:
        low, high, detectable = max(low, -1.0), min(high, 1.0), min(detectable, 1.0)
    if _flip_probability(changes, rng, resamples) > 1 - level:
        low, high = min(low, 0.0), max(high, 0.0)
    return low, high, detectable


def interval(
    values: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float | None, float | None]:
    """(mean, lower end, upper end) of the mean of ``values``; shares stay within 0 and 1. Without ends where no interval holds.

    Raises:
        ValueError: without values, or if one is no finite number.
    """
    import numpy as np

    array = np.asarray(values, dtype=float)
    found = _grouped(array, groups, _grain(array))
    share = bool(array.min() >= 0 and array.max() <= 1)
    count, mean = len(found.sums), found.mean
    if count < FEWEST_GROUPS or (not share and np.ptp(found.sums / found.sizes) < 1e-12):
        return mean, None, None
    low, high, _ = _bounds(found, np.random.default_rng(seed), resamples, level)
    if share:
        unseen = min(1.0, found.unequal * _most(0, count, (1 - level) / 2))
        low, high = max(min(low, mean * (1 - unseen)), 0.0), min(max(high, mean + unseen * (1 - mean)), 1.0)
    return mean, low, high


def _grouped(values: NDArray[np.float64], groups: Sequence[Hashable] | None, grain: float) -> _Groups:
    import numpy as np

    if not values.size or not np.isfinite(values).all():
        raise ValueError("an interval needs at least one value, and finite ones only")
    labels: dict[Hashable, int] = {}
    place = np.arange(values.size)
    if groups is not None:
        place = np.array([labels.setdefault(label, len(labels)) for label in groups])
        if place.size != values.size:
            raise ValueError(f"{values.size} rows, {place.size} group labels")
    return _Groups(np.bincount(place, values).astype(float), np.bincount(place).astype(float), grain)


def _grain(values: NDArray[np.float64]) -> float:
    import numpy as np

    different = np.unique(values.round(9))
    return float(np.diff(different).min()) if len(different) > 1 else 1.0


def _most(number: int, count: int, tail: float) -> float:
    """Clopper & Pearson's upper end: the largest share of which so few of ``count`` are seen with probability ``tail``."""
    low, high = 0.0, 1.0
    for _ in range(50):
        share = (low + high) / 2
        seen = sum(math.comb(count, i) * share**i * (1 - share) ** (count - i) for i in range(number + 1))
        low, high = (share, high) if seen > tail else (low, share)
    return high


def _bounds(found: _Groups, rng: np.random.Generator, resamples: int, level: float) -> tuple[float, float, float]:
    """(lower end, upper end, standard error) of the mean of two groups or more, without the sign-flip test."""
    import numpy as np

    tail, count, mean = (1 - level) / 2, len(found.sums), found.mean
    means, errors = _drawn(found, rng, resamples)
    error = float(_errors(found.sums - mean * found.sizes, found.sizes))
    ends = [_bca(found, means, tail)]
    reach = _student(1 - tail, count - 1)
    unseen = (1 - tail ** (1 / count)) * found.grain
    ends += [(mean - reach * error, mean + reach * error), (mean - unseen, mean + unseen)]
    spread = errors > _SPREAD * error
    if error > 1e-12 * max(1.0, abs(mean)) and spread.any():
        tail *= _TAIL if count >= _MANY else _SHORT_TAIL
        first, last = np.quantile((means[spread] - mean) / errors[spread], [tail, 1 - tail])
        ends.append((mean - float(last) * error, mean - float(first) * error))
    return min(low for low, _ in ends), max(high for _, high in ends), error


def _drawn(found: _Groups, rng: np.random.Generator, resamples: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of every resample, and its own standard error."""
    import numpy as np

    count = len(found.sums)
    centred = found.sums - found.mean * found.sizes
    means, errors = np.empty(resamples), np.empty(resamples)
    step = max(1, _CELLS // count)
    for start in range(0, resamples, step):
        drawn = rng.integers(0, count, (min(step, resamples - start), count))
        values, sizes = centred[drawn], found.sizes[drawn]
        off = values.sum(axis=1) / sizes.sum(axis=1)
        part = slice(start, start + step)
        means[part] = found.mean + off
        errors[part] = _errors(values - off[:, None] * sizes, sizes)
    return means, errors


def _errors(left: NDArray[np.float64], sizes: NDArray[np.float64]) -> Any:
    """The standard error of a ratio of sums over the last axis, from what is left of each group (Cochran 1977, sec. 6.4)."""
    import numpy as np

    count = left.shape[-1]
    return np.sqrt(count / (count - 1) * (left**2).sum(axis=-1)) / sizes.sum(axis=-1)


def _bca(found: _Groups, means: NDArray[np.float64], tail: float) -> tuple[float, float]:
    import numpy as np

    count, mean = len(found.sums), found.mean
    same = np.isclose(means, mean, rtol=0, atol=1e-12)
    below = float(((means < mean) & ~same).mean() + same.mean() / 2)  # a tie counts half: 0/1 measures have many
    shift = _NORMAL.inv_cdf(min(max(below, 1 / len(means)), 1 - 1 / len(means)))
    without = (found.sums.sum() - found.sums) / (found.sizes.sum() - found.sizes)
    off = without.mean() - without
    spread = float((off**2).sum())
    bend = float((off**3).sum()) / (6 * spread**1.5) if spread > 1e-24 else 0.0
    reach = math.sqrt(count / (count - 1)) * _student(1 - tail, count - 1)

    def place(z: float) -> float:
        turn = 1 - bend * (shift + z)
        return _NORMAL.cdf(shift + (shift + z) / turn) if turn > 0 else float(z > 0)

    low, high = np.quantile(means, [place(-reach), place(reach)])
    return float(low), float(high)


def _flip_probability(sums: NDArray[np.float64], rng: np.random.Generator, resamples: int) -> float:
    """How often a difference as large comes about if in each group base and adapter are swapped by a coin."""
    import numpy as np

    moved = sums[np.abs(sums) > 1e-12]
    count = len(moved)
    if count <= 12:  # 4,096 cases: all of them
        signs = (np.arange(2**count)[:, None] >> np.arange(count) & 1) * 2 - 1
        return float((np.abs(signs @ moved) >= abs(moved.sum()) - 1e-9).mean())
    hits, step = 0, max(1, _CELLS // count)
    for start in range(0, resamples, step):
        signs = rng.integers(0, 2, (min(step, resamples - start), count)) * 2 - 1
        hits += int((np.abs(signs @ moved) >= abs(moved.sum()) - 1e-9).sum())
    return (1 + hits) / (1 + resamples)


def _fewest(level: float) -> int:
    """Groups without which the sign-flip test can find nothing: 2 * 0.5^n must not exceed 1 - level."""
    return 1 + math.ceil(-math.log2(1 - level))


def _student(share: float, freedom: int) -> float:
    """Student's t quantile (Abramowitz & Stegun 26.7.5): 0.3 % off at 4 degrees of freedom, and no need of scipy here."""
    z = _NORMAL.inv_cdf(share)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / float(freedom) ** (i + 1) for i, term in enumerate(terms))


def sentence(comparison: Comparison, unit: str = "questions") -> str:
    """What the comparison means, for somebody who never met an interval.

    Args:
        unit: what a row is, in the plural; shown translated where there is a translation.
    """
    told = figures(comparison, unit)
    if comparison.verdict == "better":
        return say("The adapter is better than the base. {figures}", figures=told)
    if comparison.verdict == "worse":
        return say("The adapter is worse than the base. {figures}", figures=told)
    return say("No evidence that the adapter differs from the base. {figures} {hint}", figures=told, hint=_hint(comparison, unit)).strip()


def figures(comparison: Comparison, unit: str = "questions") -> str:
    """The figures of a comparison as a sentence."""
    c = comparison
    size = say("{rows} {unit} compared", rows=c.rows, unit=say(unit))
    if c.groups < c.rows:
        size = say("{rows} {unit} compared, {groups} of them independent", rows=c.rows, unit=say(unit), groups=c.groups)
    values: dict[str, Any] = {
        "measure": say(c.measure),
        "base": figure(c.base, c.share),
        "adapter": figure(c.adapter, c.share),
        "difference": _gap(c.difference, c.share),
        "size": size,
    }
    if c.low is None or c.high is None:
        return say("{measure}: base {base}, adapter {adapter}; difference {difference}; {size}.", **values)
    values |= {"low": f"{100 * c.low:+.1f}" if c.share else _gap(c.low, False), "high": _gap(c.high, c.share), "level": f"{c.level:.0%}"}
    return say("{measure}: base {base}, adapter {adapter}; difference {difference}, {level} interval {low} to {high}; {size}.", **values)


def _hint(c: Comparison, unit: str) -> str:
    """Why nothing was shown, and what would take to show it."""
    if c.too_few:
        return say(
            "Too few independent {unit} for an interval or a verdict; it takes {fewest} or more.", unit=say(unit), fewest=FEWEST_GROUPS
        )
    if c.detectable is None:
        return say(
            "The two differ on {moved} of {groups} independent {unit}; where they differ on fewer than {fewest}, nothing can be shown.",
            moved=c.moved, groups=c.groups, unit=say(unit), fewest=_fewest(c.level),
        )  # fmt: skip
    if c.detectable < _UNSEEN_IN_TABLES:
        return ""  # both figures are the same to all digits shown
    least = _gap(c.detectable, c.share).lstrip("+")
    return say("At this size only a difference of about {least} or more can be expected to show.", least=least)


def figure(value: float, share: bool) -> str:
    """A figure as a table shows it: shares in per cent."""
    return f"{value:.1%}" if share else f"{value:.3f}"


def _gap(value: float, share: bool) -> str:
    return say("{points:+.1f} points", points=100 * value) if share else f"{value:+.3f}"
