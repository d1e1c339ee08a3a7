# SPDX-License-Identifier: Apache-2.0
"""What a finished run's losses say about its learning rate, its length and its data, in plain words with the figures behind them.

Pure functions over numbers, without torch. The advice on the rate is that of practitioners with a few hundred rows: start at 2e-4; if the
loss falls too slowly, 3e-4; if it oscillates, 1e-4. For a base with another usual range the same places in that range are meant.

How an oscillation is told from batch noise: the loss of a single batch of four rows always jitters, so single steps prove nothing. Means
over windows do: shuffling alone moves a mean of w steps by sigma / sqrt(w), with sigma from the differences of neighbouring steps, which a
slow movement hardly enters. A healthy loss falls or stays; so a window counts as *raised* if its mean lies above the lowest earlier mean by
more than four such errors (more where there are many windows) and by a share that matters. Chance raises single windows; only a fifth of
all windows, raised, is a finding. Everything is done on logarithms, because the jitter shrinks with the loss. Whole passes are the best
windows, since each holds every row once; within a pass the loss of a healthy run can creep up a little (rows seen long ago are forgotten),
so shorter windows must rise by more. The held-out loss has no batch noise at all: a rise of it counts by itself, as over-fitting if the
training loss fell meanwhile, as too high a rate if not. What happens in the first 15 % of the steps is the warm-up's business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..messages import speaker
from .history import History, history_from_log
from .losses import Curve, Swing, heldout_swing, plateau, rise_since_best, train_swing

__all__ = ["Diagnosis", "History", "advised_rate", "diagnose", "higher", "history_from_log", "lower", "shown", "start"]

say = speaker(__name__)

FEW_STEPS = 20  # with fewer there are no windows to compare
FEW_QUESTIONS = 50
_START = math.log(2) / math.log(3)  # where 2e-4 lies between 1e-4 and 3e-4, on a logarithmic scale


@dataclass(frozen=True)
class Diagnosis:
    """One thing that the run's figures say.

    Attributes:
        kind: ``diverged``, ``oscillating``, ``over_fitting``, ``too_slow``, ``still_falling``, ``flat``, ``too_long``, ``small_data``,
            ``too_short`` or ``healthy``.
        sentence: what, and what to do, in the user's language.
        evidence: the figures that it rests on, in words.
        steps: where on the curve.
        learning_rate: what to try next, where that is the advice.
    """

    kind: str
    sentence: str
    evidence: str
    steps: tuple[int, int] | None = None
    learning_rate: float | None = None


def diagnose(history: History) -> list[Diagnosis]:
    """Everything that the run's figures say, most important first; ``healthy`` alone if nothing is wrong."""
    broken = [step for step, loss in history.losses if not math.isfinite(loss)]
    if broken:
        return [
            _too_high(history, "diverged", say("The loss was no number any more at step {step}.", step=broken[0]), (broken[0], broken[-1]))
        ]
    small = _small_data(history)
    if not history.losses:
        return small or [_too_short(history)]
    history = replace(history, heldout=[(step, loss) for step, loss in history.heldout if math.isfinite(loss)])
    curve = Curve(history)
    high = _unstable(history, curve)
    found = [high] if high else []
    if not (high and high.kind == "diverged"):
        fitted = _over_fitting(history, curve)
        found += [fitted] if fitted else []
    if not found and len(history.losses) >= FEW_STEPS:
        low = _slow(history, curve) or _too_long(curve)
        found += [low] if low else []
    elif not found:
        found = [_too_short(history)]
    return [*found, *small] or [_healthy(history, curve)]


def advised_rate(diagnoses: Sequence[Diagnosis], history: History) -> float | None:
    """The rate to train with once more, or None.

    None too where the advice would take back what earlier advice changed: up and down in turns ends nowhere.
    """
    rate = next((d.learning_rate for d in diagnoses if d.learning_rate is not None), None)
    if rate is None or math.isclose(rate, history.learning_rate):
        return None
    back = history.before is not None and (rate > history.learning_rate) != (history.learning_rate > history.before)
    return None if back else rate


def higher(rate: float, usual: tuple[float, float]) -> float | None:
    """The rate to try where the loss falls too slowly: 2e-4 becomes 3e-4. None at the top of the usual range."""
    low, high = usual
    if rate >= high * 0.99:
        return None
    return _within(usual, start(usual)) if rate < low else _within(usual, rate * 1.5)


def lower(rate: float, usual: tuple[float, float]) -> float:
    """The rate to try where the loss oscillates: 2e-4 becomes 1e-4; half of it at the bottom of the usual range."""
    low, high = usual
    if rate <= low * 1.01:
        return _rounded(rate / 2)
    return _within(usual, start(usual) if rate > 2 * high else rate / 2)


def start(usual: tuple[float, float]) -> float:
    """Where to begin: 2e-4 for the range from 1e-4 to 3e-4, and the same place in others."""
    low, high = usual
    return _within(usual, low * (high / low) ** _START)


def _within(usual: tuple[float, float], rate: float) -> float:
    return min(max(_rounded(rate), usual[0]), usual[1])


def _rounded(rate: float) -> float:
    return float(f"{rate:.1e}")


def shown(rate: float) -> str:
    """``3e-4``: as one writes it in a config."""
    digits, power = f"{rate:.2e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"


# --- the findings ----------------------------------------------------------------------------------------------------------


def _too_high(history: History, kind: str, evidence: str, steps: tuple[int, int]) -> Diagnosis:
    if history.finds_rate:
        sentence = say("The steps that the optimizer found are too long here: try optimizer_args: [d_coef=0.5], or optimizer: adamw.")
        return Diagnosis(kind, sentence, evidence, steps)
    rate = lower(history.learning_rate, history.usual)
    values = {"rate": shown(history.learning_rate), "better": shown(rate)}
    if kind == "diverged":
        sentence = say("The training went astray: a learning_rate of {rate} is too high here; try {better}.", **values)
    else:
        sentence = say(
            "The loss oscillates instead of falling steadily: a learning_rate of {rate} is too high here; try {better}.", **values
        )
    return Diagnosis(kind, sentence, evidence, steps, rate)


def _unstable(history: History, curve: Curve) -> Diagnosis | None:
    """The loss ended above its start, shot up and stayed high, or went up again and again."""
    first, last = curve.steps[0], curve.steps[-1]
    if curve.risen:
        evidence = say("The loss was {start:.3f} at the start and {end:.3f} at the end.", start=curve.base, end=curve.end)
        return _too_high(history, "diverged", evidence, (first, last))
    if len(curve.losses) < FEW_STEPS:
        return None
    peak = curve.overshoot()
    if peak is not None and curve.drop < 0.25 and history.learning_rate >= history.usual[0]:
        evidence = say(
            "The loss shot up from {start:.3f} to {peak:.3f} at step {step}, and was still {end:.3f} at the end.",
            start=curve.base,
            peak=peak[1],
            step=peak[0],
            end=curve.end,
        )
        return _too_high(history, "diverged", evidence, (first, peak[0]))
    trained, held = train_swing(curve), heldout_swing(curve)
    swing = trained or held
    if swing is None:
        return None
    return _too_high(history, "diverged" if swing.lasting else "oscillating", _swing_words(swing, trained is not None), swing.steps)


def _swing_words(swing: Swing, training: bool) -> str:
    values: dict[str, Any] = {"low": swing.low, "high": swing.high, "first": swing.steps[0], "last": swing.steps[1], "n": swing.times}
    if not training:
        return say("The held-out loss rose from {low:.3f} to {high:.3f} after step {first}, and the training loss did not fall.", **values)
    if swing.lasting:
        return say("The mean of the loss rose from {low:.3f} to {high:.3f} after step {first} and did not come back.", **values)
    return say(
        "Between steps {first} and {last} the mean of the loss went up again {n} times, at most from {low:.3f} to {high:.3f}: "
        "more than the shuffling of the examples explains.",
        **values,
    )


def _over_fitting(history: History, curve: Curve) -> Diagnosis | None:
    rise = rise_since_best(curve)
    if rise is None:
        return None
    if history.kept is not None and history.kept <= rise.steps[0]:
        sentence = say(
            "Over-fitting since step {step}. The adapter was taken from before that; fewer epochs are enough.", step=rise.steps[0]
        )
    else:
        sentence = say(
            "Over-fitting since step {step}: from there on it learns the examples by heart. "
            "Use the checkpoint of step {step} (adapter_from: best), fewer epochs, or more examples.",
            step=rise.steps[0],
        )
    evidence = say(
        "The held-out loss was lowest at step {step} ({low:.3f}) and rose to {high:.3f}, "
        "while the training loss fell from {train:.3f} to {train_end:.3f}.",
        step=rise.steps[0],
        low=rise.low,
        high=rise.high,
        train=rise.train,
        train_end=rise.train_end,
    )
    return Diagnosis("over_fitting", sentence, evidence, rise.steps)


def _slow(history: History, curve: Curve) -> Diagnosis | None:
    """Falls too slowly, was still falling at the end, or did not move."""
    late, rate = curve.late_fall, history.learning_rate
    below = rate < history.usual[0] * 0.99
    figures: dict[str, Any] = {
        "start": curve.base,
        "end": curve.end,
        "late": 100 * max(late, 0.0),
        "steps": len(curve.losses),
        "rate": shown(rate),
        "low": shown(history.usual[0]),
        "high": shown(history.usual[1]),
    }
    evidence = say(
        "The loss went from {start:.3f} to {end:.3f} in {steps} steps; the last quarter of the learning took away {late:.0f} %. "
        "learning_rate is {rate}; usual is {low} to {high}.",
        **figures,
    )
    tail = (curve.step_at(0.75), curve.steps[-1])
    weak = curve.drop < 0.25
    # A faint bump at the start says nothing for certain, but it forbids to call for a higher rate.
    if (below and (late >= 0.04 or weak)) or (weak and late >= 0.04 and curve.epochs >= 2 and not curve.overshoot(3.5)):
        better = higher(rate, history.usual)
        if better is not None:
            sentence = say(
                "The loss falls too slowly: try a learning_rate of {better} instead of {rate}.", better=shown(better), rate=shown(rate)
            )
            return Diagnosis("too_slow", sentence, evidence, tail, better)
    # Without held-out losses a fall in later passes may be mere learning by heart.
    if late >= 0.075 and curve.late_share >= 0.1 and (len(curve.heldout) > 2 or curve.epochs <= 2):
        return Diagnosis("still_falling", say("The loss was still falling at the end: more epochs would help."), evidence, tail)
    if curve.drop < 0.05 and abs(late) < 0.04 and not curve.noisy:
        if history.pictures:
            sentence = say("The loss hardly moved: the base draws such pictures already, or nothing was learned. Look at the samples.")
        else:
            sentence = say(
                "The loss hardly moved: the base knows the answers already, or the examples do not fit together. Look at its answers."
            )
        return Diagnosis("flat", sentence, evidence)
    return None


def _too_long(curve: Curve) -> Diagnosis | None:
    """The held-out loss stopped improving in the first half: most of the time was for nothing."""
    found = plateau(curve)
    if found is None:
        return None
    epochs = found.step / curve.per_epoch
    values: dict[str, Any] = {"step": found.step, "end": found.end, "share": f"{found.step / found.end:.0%}"}
    sentence = say(
        "The held-out loss stopped improving at step {step} of {end}: {share} of the time would have given about the same. "
        "Fewer epochs (about {epochs}) are enough; patience: 3 stops such a run by itself.",
        epochs=f"{epochs:.0f}" if epochs >= 2 else f"{max(epochs, 0.1):.1f}", **values,
    )  # fmt: skip
    evidence = say(
        "The held-out loss was {start:.3f} at the start, {loss:.3f} at step {step} and {last:.3f} at step {end}.",
        start=curve.base, loss=found.loss, last=found.last, **values,
    )  # fmt: skip
    return Diagnosis("too_long", sentence, evidence, (found.step, found.end))


def _small_data(history: History) -> list[Diagnosis]:
    rows, questions, answers = history.rows, history.questions, history.answers
    if not rows or not questions:
        return []
    evidence = say(
        "{rows} rows hold {questions} different questions and {answers} different answers.", rows=rows, questions=questions, answers=answers
    )
    if questions <= 0.7 * rows:
        sentence = say("The data is smaller than it looks: many questions are the same but for a few signs. Add questions that differ.")
    elif answers and answers <= rows / 4:
        sentence = say(
            "The data is smaller than it looks: few answers differ. Right for a choice among fixed answers, little for anything else."
        )
    elif questions < FEW_QUESTIONS:
        sentence = say("Few examples: expect the style to be learned, not the knowledge. A hundred or more different questions do better.")
    else:
        return []
    return [Diagnosis("small_data", sentence, evidence)]


def _too_short(history: History) -> Diagnosis:
    evidence = say("{steps} steps.", steps=len(history.losses))
    return Diagnosis("too_short", say("Too few steps to judge learning_rate by."), evidence)


def _healthy(history: History, curve: Curve) -> Diagnosis:
    evidence = say(
        "The loss went from {start:.3f} to {end:.3f} in {steps} steps.", start=curve.base, end=curve.end, steps=len(curve.losses)
    )
    if not history.heldout:
        sentence = say("The training loss looks healthy. Nothing was held out, so over-fitting cannot be seen; eval_ratio: 0.2 shows it.")
    else:
        sentence = say("The run looks healthy: nothing suggests another learning_rate or length.")
    return Diagnosis("healthy", sentence, evidence)
