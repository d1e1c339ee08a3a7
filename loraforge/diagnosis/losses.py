# SPDX-License-Identifier: Apache-2.0
"""The losses of a run, and what can be measured on them: levels, jitter, rises, what was still gained at the end.

No judgement and no words here; those, and why the measures are what they are, are in ``diagnosis``.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from .history import History

WARM_UP = 0.15  # rises in this first share of the steps count for nothing
_ERRORS = 4.0  # standard errors that a mean must rise by
_MORE_ERRORS = 5.5  # the same where there are many windows: the lowest of a hundred lies far down by chance
_EARLY = 0.4  # a run whose loss stops improving in this first share of its steps is longer than it need be
_IMPROVED = 0.01  # less than this share of the loss is no improvement, nor is less than a twentieth of all that was gained
_SCALES = (96, 48, 24, 12, 8)  # windows per run: a movement must last for two of them to be seen

Points = Sequence[tuple[int, float]]


class Curve:
    """Measures on the losses of one run; all of them finite, at least one step."""

    def __init__(self, history: History) -> None:
        self.steps = [step for step, _ in history.losses]
        self.losses = [loss for _, loss in history.losses]
        self.heldout = list(history.heldout)
        self.per_epoch = max(1, history.per_epoch)
        self.epochs = len(self.losses) / self.per_epoch
        rates = dict(history.rates)
        total, self._clock = 0.0, list[float]()
        for step in self.steps:
            total += rates.get(step, history.learning_rate)
            self._clock.append(total)

    @functools.cached_property
    def _tail(self) -> int:
        return min(len(self.losses), max(3, len(self.losses) // 10))

    @functools.cached_property
    def base(self) -> float:
        """The loss before anything was learned: that of the base on the held-out rows, or the first steps'."""
        return self.heldout[0][1] if self.heldout and self.heldout[0][0] == 0 else fmean(self.losses[:3])

    @functools.cached_property
    def end(self) -> float:
        """The loss at the end: held out if there is such a one, otherwise the mean of the last tenth of the steps."""
        return self.heldout[-1][1] if len(self.heldout) > 1 else fmean(self.losses[-self._tail :])

    @property
    def drop(self) -> float:
        """The share of the loss that was lost."""
        return 1 - self.end / self.base if self.base > 0 else 0.0

    # A twentieth of the start is added because logarithms of losses near zero are all jitter.
    @functools.cached_property
    def _floor(self) -> float:
        return 0.05 * max(abs(self.base), fmean(self.losses[:3]), 1e-9)

    def _log(self, loss: float) -> float:
        return math.log(max(loss, 0.0) + self._floor)

    def back(self, value: float) -> float:
        """The loss whose logarithm ``logs`` would hold."""
        return math.exp(value) - self._floor

    @functools.cached_property
    def logs(self) -> list[float]:
        """The logarithm of every step's loss."""
        return [self._log(loss) for loss in self.losses]

    @functools.cached_property
    def jitter(self) -> float:
        """The standard deviation of ``logs`` from step to step, without slow movements."""
        pairs = [(b - a) ** 2 for a, b in itertools.pairwise(self.logs)]
        return math.sqrt(fmean(pairs) / 2) if pairs else 0.0

    @property
    def _base_error(self) -> float:
        """The variance of the start's logarithm, in units of the jitter's: held-out losses have none."""
        return 0.0 if self.heldout and self.heldout[0][0] == 0 else 1 / min(3, len(self.losses))

    @property
    def risen(self) -> bool:
        """The training loss ended above where it began, by more than jitter."""
        if len(self.losses) < 6:
            return False  # start and end would be the same steps
        error = self.jitter * math.sqrt(1 / self._tail + self._base_error)
        return fmean(self.logs[-self._tail :]) - self._log(self.base) > max(0.1, _ERRORS * error)

    def overshoot(self, errors: float = _MORE_ERRORS) -> tuple[int, float] | None:
        """(step, loss) of the peak in the first quarter, if it is above the start by more than so many standard errors."""
        for width in (5, max(5, len(self.logs) // 20)):
            means = [fmean(self.logs[i : i + width]) for i in range(max(1, len(self.logs) // 4 - width + 1))]
            place = max(range(len(means)), key=means.__getitem__)
            error = self.jitter * math.sqrt(1 / width + self._base_error)
            if means[place] - self._log(self.base) > max(0.05, errors * error):
                return self.steps[min(place + width // 2, len(self.steps) - 1)], self.back(means[place])
        return None

    def around(self, step: int) -> float:
        """The mean training loss of about a pass, or a tenth of the run, around a step."""
        half = max(2, min(self.per_epoch, len(self.losses) // 4) // 2, len(self.losses) // 20)
        near = [loss for s, loss in zip(self.steps, self.losses, strict=True) if abs(s - step) <= half]
        return fmean(near or self.losses[-self._tail :])

    # --- what was still gained at the end --------------------------------------------------------------------------------

    def step_at(self, share: float) -> int:
        """The step at which a share of the learning was done: steps count by their learning rate, which falls towards the end."""
        return next((s for s, t in zip(self.steps, self._clock, strict=True) if t >= share * self._clock[-1]), self.steps[-1])

    @functools.cached_property
    def _late(self) -> tuple[float, float]:
        """The loss after three quarters of the learning, and at the end."""
        middle = self.step_at(0.75)
        if len(self.heldout) > 2:
            return _interpolate(self.heldout, middle), self.end
        before = [y for s, y in zip(self.steps, self.losses, strict=True) if self.step_at(0.65) <= s <= self.step_at(0.85)]
        after = [y for s, y in zip(self.steps, self.losses, strict=True) if s > self.step_at(0.9)]
        if len(before) < 3 or len(after) < 3:
            return self.end, self.end
        first, last = fmean(before), fmean(after)
        error = self.jitter * max(first, last) * math.sqrt(1 / len(before) + 1 / len(after))
        return (first, last) if abs(first - last) > 3 * error else (last, last)

    @property
    def late_fall(self) -> float:
        """The share of the loss that the last quarter of the learning took away; negative if it rose."""
        first, last = self._late
        return (first - last) / first if first > 0 else 0.0

    @property
    def late_share(self) -> float:
        """The last quarter's part of all that was gained."""
        first, last = self._late
        return (first - last) / (self.base - self.end) if self.base > self.end else 0.0

    @property
    def noisy(self) -> bool:
        """Too much jitter to see a twentieth of the loss in the mean of a tenth of the steps."""
        return not self.heldout and 2 * self.jitter / math.sqrt(self._tail) > 0.05


def _interpolate(points: Points, step: int) -> float:
    for (a, low), (b, high) in itertools.pairwise(points):
        if a <= step <= b:
            return low + (high - low) * (step - a) / max(1, b - a)
    return points[-1][1]


@dataclass(frozen=True)
class Swing:
    """A loss that went up again.

    Attributes:
        steps: from the low before the first raised window to the last one.
        low: the low before the highest value.
        high: that value.
        times: how often it went up.
        share: the share of the windows that were raised.
        lasting: it never came back.
    """

    steps: tuple[int, int]
    low: float
    high: float
    times: int
    share: float
    lasting: bool


def _swing(windows: Sequence[tuple[int, int, float]], bound: float, begin: int) -> tuple[Swing, list[int]] | None:
    """The windows (first step, last step, log mean) that lie above the lowest earlier one by more than ``bound``."""
    lowest, at, origin, raised, worst, times, counted = math.inf, 0, 0, list[int](), (0.0, 0, 0), 0, 0
    for i, (_, last, value) in enumerate(windows):
        up = value - lowest
        if last > begin:
            counted += 1
            if up > bound:
                origin = origin if raised else at
                times += not raised or raised[-1] != i - 1
                raised.append(i)
                worst = max(worst, (up, at, i))
        if value < lowest:
            lowest, at = value, i
    if not raised:
        return None
    up, low, high = worst
    # Lasting: all of the last quarter is raised, by a quarter or more, and not on its way back.
    tail = windows[-max(2, len(windows) // 4) :]
    lasting = all(value - lowest > max(0.22, 0.7 * up) for _, _, value in tail)
    steps = (windows[origin][1], windows[raised[-1]][1])
    return Swing(steps, windows[low][2], windows[high][2], times, len(raised) / max(1, counted), lasting), raised


def train_swing(curve: Curve) -> Swing | None:
    """The training loss going up by more than shuffling explains, or None. Windows are whole passes, or parts of one."""
    found: list[Swing] = []
    begin = curve.steps[0] + round(WARM_UP * len(curve.steps))
    for scale in _SCALES:
        width = len(curve.losses) // scale
        if width < 3:
            continue
        whole = curve.epochs >= 4 and width >= curve.per_epoch * 0.75
        if whole:
            width = max(1, round(width / curve.per_epoch)) * curve.per_epoch
        means = [
            (curve.steps[i], curve.steps[i + width - 1], fmean(curve.logs[i : i + width]))
            for i in range(0, len(curve.logs) - width + 1, width)
        ]
        errors = _ERRORS if len(means) <= 30 else _MORE_ERRORS
        bound = max(0.05 if whole else 0.15, errors * curve.jitter / math.sqrt(width))
        swing = _swing(means, bound, begin)
        if swing and swing[0].share >= 0.2 and len(swing[1]) >= 2:
            s = swing[0]
            found.append(Swing(s.steps, curve.back(s.low), curve.back(s.high), s.times, s.share, s.lasting))
    return max(found, key=lambda s: (s.lasting, s.share), default=None)


def _held_jitter(values: Sequence[float]) -> float:
    """Of held-out losses, from their second differences; 0 for fewer than six."""
    bends = [abs(a - 2 * b + c) for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    return min(0.025, median(bends) / (0.6745 * math.sqrt(6))) if len(values) >= 6 else 0.0


def heldout_swing(curve: Curve) -> Swing | None:
    """The held-out loss going up while the training loss does not fall, or None: no over-fitting, but too high a rate."""
    points = [(step, loss) for step, loss in curve.heldout if step > 0 and loss > 0]
    if len(points) < 4:
        return None
    logs = [math.log(loss) for _, loss in points]
    found = _swing(
        [(s, s, v) for (s, _), v in zip(points, logs, strict=True)],
        max(0.03, _ERRORS * _held_jitter(logs)),
        curve.steps[0] + round(WARM_UP * len(curve.steps)),
    )
    if found is None:
        return None
    swing, raised = found
    origin = curve.around(swing.steps[0])
    kept = [i for i in raised if curve.around(points[i][0]) > 0.97 * origin]
    if len(kept) < 2 or len(kept) < 0.25 * len(points):
        return None
    return Swing((swing.steps[0], points[kept[-1]][0]), math.exp(swing.low), math.exp(swing.high), swing.times, swing.share, False)


@dataclass(frozen=True)
class Rise:
    """Held-out loss that rose from its best value to the end, and the training loss at both places."""

    steps: tuple[int, int]
    low: float
    high: float
    train: float
    train_end: float


def rise_since_best(curve: Curve) -> Rise | None:
    """The lasting rise of the held-out loss since its minimum while the training loss went on falling, or None."""
    points = [(step, loss) for step, loss in curve.heldout if loss > 0]
    if len(points) < 4:
        return None
    best = min(range(len(points)), key=lambda i: points[i][1])
    after = points[best:]
    if len(after) < 3:
        return None
    logs = [math.log(loss) for _, loss in points]
    end = fmean(logs[-2:]) if len(after) > 3 else logs[-1]
    pairs = [(a, b) for i, (_, a) in enumerate(after) for _, b in after[i + 1 :]]
    sustained = sum((b > a) - (b < a) for a, b in pairs) / len(pairs)
    train, train_end = curve.around(after[0][0]), curve.around(after[-1][0])
    if end - logs[best] < max(0.05, _ERRORS * _held_jitter(logs)) or sustained < 0.5 or train_end > 0.95 * train:
        return None
    return Rise((after[0][0], after[-1][0]), after[0][1], after[-1][1], train, train_end)


@dataclass(frozen=True)
class Plateau:
    """Held-out loss that stopped improving long before the end.

    Attributes:
        step, loss: where, and the held-out loss there.
        end, last: the last measured step, and the held-out loss there.
    """

    step: int
    loss: float
    end: int
    last: float


def plateau(curve: Curve) -> Plateau | None:
    """The first measurement that nothing after it improved on, if it lies in the first part of the run, or None.

    Later values are means of three, and an improvement counts from a hundredth of the loss, or a twentieth of all that was gained, on.
    More, up to the error of these means, is passed over only where the later values go up as well as down: a fall that is as small as the
    noise but steady is an improvement.
    """
    points = [(step, loss) for step, loss in curve.heldout if step > 0 and loss > 0]
    if len(points) < 6 or curve.drop < 0.05:
        return None
    logs = [math.log(loss) for _, loss in points]
    error = _held_jitter(logs) * math.sqrt(1 + 1 / 3)
    least = min(_IMPROVED, 0.05 * (math.log(max(curve.base, points[0][1])) - min(logs)))
    for i, (step, loss) in enumerate(points):
        if step > _EARLY * curve.steps[-1] or len(logs) - i < 4:
            return None
        gained = logs[i] - min(fmean(logs[j : j + 3]) for j in range(i + 1, len(logs) - 2))
        pairs = [(a, b) for j, a in enumerate(logs[i:], i) for b in logs[j + 1 :]]
        falling = sum((a > b) - (a < b) for a, b in pairs) / len(pairs)
        if gained <= least or (gained <= least + error and falling < 0.25):
            return Plateau(step, loss, points[-1][0], points[-1][1])
    return None
