# SPDX-License-Identifier: Apache-2.0
"""The pictures of a run: its loss curve, what was diagnosed in it, its checkpoints compared."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import charts
from ..charts import About, sheet
from ..messages import speaker

if TYPE_CHECKING:
    from .diagnose import Diagnosis
    from .history import History

Points = Sequence[tuple[int, float]]

_WHOLE, _CLOSER = 2.9, 2.3  # inches: all of a run, and the part of it that is seen closer
_MOST = 1000  # places along a line, each with its lowest and its highest value; a picture has no more pixels
_LOGARITHMIC = 30.0  # times the lowest loss, from which on a curve would be flat in even divisions
_WIDEST = 250  # steps on either side of a mean
_SETTLED = 0.1  # the first share of a run is left out when it is looked at closer
_LEFT_OVER = 0.45  # of the height: what is seen closer filled more than that already

say = speaker(__name__)


def draw_loss(history: History, path: Path, run: str = "") -> None:
    """The loss curve as PNG: every step, its moving average, and the held-out loss; below, the part after the first fall closer.

    Args:
        run: its name.
    """
    say = charts.words(__name__)
    about = About(say("Loss in training"), run, history.began, summary(history))
    _draw(history, (), path, about, say)


def draw_diagnosis(history: History, diagnoses: Sequence[Diagnosis], path: Path, run: str = "") -> None:
    """The loss curve with what was found marked in it and said below, as PNG. In English where no font has Chinese."""
    say = charts.words(__name__)
    said = " ".join([summary(history), *(f"{d.sentence} {d.evidence}".strip() for d in diagnoses)])
    _draw(history, diagnoses, path, About(say("What the losses say"), run, history.began, said), say)


def draw_checkpoints(rows: Sequence[Mapping[str, Any]], chosen: int | None, path: Path, run: str = "", began: float | None = None) -> None:
    """The checkpoints of a run compared, as PNG.

    Args:
        rows: one per checkpoint: ``step``, ``epoch``, ``train_loss``, ``held_out_loss`` (either may be None) and ``kept``, whether it is
            still on the disk.
        chosen: the step that the adapter was taken from.
        run: its name.
        began: when the run began, in seconds since 1970.
    """
    say = charts.words(__name__)
    best = next((row for row in rows if row["step"] == chosen), None)
    with sheet(path, About(say("Checkpoints compared"), run, began, _compared(rows, best)), 3.6) as figure:
        axes = figure.subplots()
        kinds = (
            ("train_loss", charts.TRAIN, say("training, around this step")),
            ("held_out_loss", charts.HELD_OUT, say("held-out examples")),
        )
        for key, look, name in kinds:
            points = [(row["step"], row[key], row.get("kept", True)) for row in rows if _number(row.get(key))]
            if not points:
                continue
            look = {**look, "marker": "o" if key == "held_out_loss" else "s"}
            axes.plot([s for s, _, _ in points], [y for _, y, _ in points], **{**look, "markerfacecolor": look["color"]}, label=name)
            gone = [(s, y) for s, y, kept in points if not kept]
            axes.plot([s for s, _ in gone], [y for _, y in gone], **{**look, "linestyle": "", "markerfacecolor": "white"})
            other = {row["step"]: row.get(k) for row in rows for k, _, _ in kinds if k != key}
            spread = _spread([s for s, _, _ in points])
            _values(axes, [(s, y, not _number(other[s]) or y >= other[s]) for s, y, _ in points if s in spread], look["color"])
        if best is not None:
            shown = next((best[key] for key, _, _ in reversed(kinds) if _number(best.get(key))), None)
            axes.axvline(best["step"], color=charts.GREEN, linewidth=1.4, linestyle="-.", zorder=1)
            if shown is not None:
                axes.plot([best["step"]], [shown], **charts.STAR, label=say("the adapter: step {step}", step=best["step"]))
        if not all(row.get("kept", True) for row in rows):
            axes.plot(
                [],
                [],
                linestyle="",
                marker="o",
                markersize=6,
                markerfacecolor="white",
                markeredgecolor=charts.GREY,
                label=say("hollow: no longer on the disk"),
            )
        values = [row[key] for row in rows for key, _, _ in kinds if _number(row.get(key))]
        logarithmic = _spans(values)
        if logarithmic:
            axes.set_yscale("log")
        charts.plain_ticks(axes.yaxis, logarithmic=logarithmic)
        charts.label(axes, say("step (passes over the examples)"), _loss(say, logarithmic))
        spread = _spread([row["step"] for row in rows if row.get("epoch") is not None])
        ticks = [row for row in rows if row["step"] in spread]
        axes.set_xticks([row["step"] for row in ticks], [f"{row['step']:,}\n({row['epoch']:.1f})" for row in ticks])
        axes.margins(x=0.07, y=0.16)


def _spread(steps: Sequence[int]) -> set[int]:
    """Those steps whose labels do not cover each other, from the last one back: the end of a run is often close to a checkpoint."""
    chosen: list[int] = []
    for step in sorted(steps, reverse=True):
        if not chosen or chosen[-1] - step >= 0.11 * (max(steps) - min(steps)):
            chosen.append(step)
    return set(chosen)


# --- parts of pictures -----------------------------------------------------------------------------------------------------


def _draw(history: History, diagnoses: Sequence[Diagnosis], path: Path, about: About, say: Callable[..., str]) -> None:
    lines = [line for d in diagnoses for line in charts.wrapped(_sentence(d))]
    train = [(step, loss) for step, loss in history.losses if math.isfinite(loss)]
    held = [(step, loss) for step, loss in history.heldout if math.isfinite(loss)]
    mean, window = _mean([loss for _, loss in train])
    smooth = list(zip([step for step, _ in train], mean, strict=True))
    logarithmic = _spans([loss for _, loss in [*smooth, *held]])
    closer = _closer(smooth, held, [loss for _, loss in [*train, *held]], logarithmic)
    with sheet(path, about, _WHOLE + (_CLOSER if closer else 0), lines) as figure:
        panels = list(
            figure.subplots(2 if closer else 1, sharex=True, height_ratios=[_WHOLE, _CLOSER][: 2 if closer else 1], squeeze=False)[:, 0]
        )
        for axes in panels:
            _curves(axes, train, smooth, window, held, say)
            _marks(axes, history, diagnoses, held, say)
            charts.label(axes, "", _loss(say, logarithmic))
            if logarithmic:
                axes.set_yscale("log")
            charts.plain_ticks(axes.yaxis, logarithmic=logarithmic)
        seen = [loss for _, loss in [*train, *held]]
        if not logarithmic and min(seen, default=0) >= 0:
            panels[0].set_ylim(0, 1.07 * max(seen, default=0) or 1)
        if closer:
            low, high, alone = closer
            panels[1].set_ylim(low, high)
            what = say("the held-out loss closer") if alone else say("closer; single steps may lie outside")
            panels[1].set_title(what, loc="left", fontsize=charts.SMALL, color=charts.GREY)
        _steps(panels[-1], history, say)


def _curves(axes: Any, train: Points, smooth: Points, window: int, held: Points, say: Callable[..., str]) -> None:
    if window > 1:
        thin = {"alpha": 0.3} if len(train) > 2 * _MOST else {}  # where hundreds share a place they would be one surface
        axes.plot(*_thinned(train), **{**charts.RAW, **thin}, label=say("training, each step"))
    name = say("training, mean of {n} steps", n=window) if window > 1 else say("training")
    marks = {"marker": "s", "markersize": 4.5} if len(train) <= 20 else {}
    axes.plot(*_thinned(smooth), **charts.TRAIN, **marks, label=name)
    if held:
        every = max(1, len(held) // 30)
        axes.plot(*zip(*held, strict=True), **charts.HELD_OUT, markevery=every, label=say("held-out examples"))


def _marks(axes: Any, history: History, diagnoses: Sequence[Diagnosis], held: Points, say: Callable[..., str]) -> None:
    """What is special: the lowest held-out loss, findings, steps without a number, where the run was taken up again."""
    if len(held) > 1:
        step, loss = min(held, key=lambda point: point[1])
        axes.plot([step], [loss], **charts.STAR, label=say("lowest held out: {loss} (step {step:,})", loss=f"{loss:.4g}", step=step))
    for diagnosis in diagnoses:
        _band(axes, diagnosis, say)
    odd = [step for step, loss in [*history.losses, *history.heldout] if not math.isfinite(loss)]
    if odd:
        places = odd[:: max(1, len(odd) // 30)]
        name = say("steps without a number (NaN): {n}", n=len(odd))
        axes.plot(
            places, [0.96] * len(places), transform=axes.get_xaxis_transform(), linestyle="", marker="x", color=charts.BLACK, label=name
        )
    for number, step in enumerate(history.resumed):
        name = (
            say("taken up again ({n} times)", n=len(history.resumed))
            if len(history.resumed) > 1
            else say("taken up again after step {step:,}", step=step)
        )
        axes.axvline(step, color=charts.GREY, linewidth=1.2, linestyle=":", label="_" if number else name, zorder=0)


def _band(axes: Any, diagnosis: Diagnosis, say: Callable[..., str]) -> None:
    """The steps that a finding is about: a hatched band, which a grey print shows too."""
    names = {
        "over_fitting": (charts.VERMILLION, "//", say("over-fitting")),
        "oscillating": (charts.PURPLE, "\\\\", say("rose again")),
        "diverged": (charts.BLACK, "xx", say("went astray")),
        "too_long": (charts.BLUE, "..", say("no longer improving")),
    }
    if diagnosis.steps is None or diagnosis.kind not in names:
        return
    colour, hatch, name = names[diagnosis.kind]
    axes.axvspan(*diagnosis.steps, facecolor=(colour, 0.08), edgecolor=(colour, 0.35), hatch=hatch, linewidth=0, label=name, zorder=0)


def _steps(axes: Any, history: History, say: Callable[..., str]) -> None:
    """The steps, each with the passes over the examples in brackets."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    known = [step for step, _ in [*history.losses, *history.heldout]]
    first, last = min(known, default=0), max(known, default=1)
    room = 0.02 * (last - first) or 0.5
    axes.set_xlim(first - room, last + room)
    passes = history.per_epoch > 1 or last > 1
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1, steps=[1, 2, 2.5, 5, 10]))
    digits = 1 if last >= 2 * history.per_epoch else 2
    write = f"{{step:,.0f}}\n({{passes:.{digits}f}})" if passes else "{step:,.0f}"
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: write.format(step=step, passes=step / max(1, history.per_epoch))))
    axes.set_xlabel(say("step (passes over the examples)") if passes else say("step"))


def _values(axes: Any, points: Sequence[tuple[int, float, bool]], colour: str) -> None:
    """Every value (step, loss, above or below the point), where there is room."""
    if len(points) > 12:
        return
    from matplotlib.patheffects import withStroke

    for step, loss, above in points:
        place = {"xytext": (0, 9 if above else -17), "textcoords": "offset points", "ha": "center"}
        axes.annotate(
            f"{loss:.3f}",
            (step, loss),
            fontsize=charts.SMALL - 0.5,
            color=colour,
            zorder=7,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            **place,
        )


def _loss(say: Callable[..., str], logarithmic: bool) -> str:
    return say("loss (log; lower is better)") if logarithmic else say("loss (lower is better)")


# --- numbers ---------------------------------------------------------------------------------------------------------------


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _mean(losses: Sequence[float]) -> tuple[Sequence[float], int]:
    """For each step the mean of those around it, as far as there are any, and of how many; of so few that nothing real is smoothed away."""
    import numpy as np

    half = min(len(losses) // 50, _WIDEST)
    if not half:
        return losses, 1
    total = np.concatenate([[0.0], np.cumsum(losses)])
    places = np.arange(len(losses))
    first, last = np.maximum(places - half, 0), np.minimum(places + half + 1, len(losses))
    return (total[last] - total[first]) / (last - first), 2 * half + 1


def _thinned(points: Points) -> tuple[Sequence[float], Sequence[float]]:
    """The line through the points; of very many, the lowest and the highest of those that share a place, so that no peak is lost."""
    import numpy as np

    steps, losses = (np.array([p[i] for p in points], dtype=float) for i in (0, 1))
    if len(points) <= 2 * _MOST:
        return steps.tolist(), losses.tolist()
    bounds = np.linspace(0, len(points), _MOST + 1).astype(int)
    found = sorted({i for a, b in itertools.pairwise(bounds) for i in (a + int(losses[a:b].argmin()), a + int(losses[a:b].argmax()))})
    return steps[found].tolist(), losses[found].tolist()


def _spans(losses: Sequence[float]) -> bool:
    """Whether losses span so many powers of ten that only a logarithmic axis shows all of them."""
    return len(losses) > 1 and min(losses) > 0 and max(losses) > _LOGARITHMIC * min(losses)


def _closer(smooth: Points, held: Points, seen: Sequence[float], logarithmic: bool) -> tuple[float, float, bool] | None:
    """The bounds of the losses after the first fall, and whether of the held-out ones alone, which may lie far from those of training; None
    where nothing would be seen better."""
    if len(smooth) < 20 or (logarithmic and min(seen) <= 0):
        return None
    settled = smooth[0][0] + _SETTLED * (smooth[-1][0] - smooth[0][0])
    into, back = (math.log, math.exp) if logarithmic else (float, float)
    whole = seen if logarithmic or min(seen) < 0 else [0.0, *seen]
    height = into(max(whole)) - into(min(whole))
    for points, alone in (([*smooth, *held], False), (held, True)):
        late = [into(loss) for step, loss in points if step >= settled]
        if len(late) > 2 and 0 < max(late) - min(late) <= _LEFT_OVER * height:
            room = 0.12 * (max(late) - min(late))
            return back(min(late) - room), back(max(late) + room), alone
    return None


# --- words in pictures -----------------------------------------------------------------------------------------------------


def summary(history: History) -> str:
    """The loss curve in two sentences, for whoever cannot see it."""
    train = [(step, loss) for step, loss in history.losses if math.isfinite(loss)]
    held = [(step, loss) for step, loss in history.heldout if math.isfinite(loss)]
    if not train:
        return say("There is no training loss that is a number.")
    mean, _ = _mean([loss for _, loss in train])
    text = say(
        "Training loss over {n} steps: {first:.3g} at first, {last:.3g} at the end.",
        n=train[-1][0],
        first=mean[0],
        last=mean[-1],
    )
    if held:
        step, loss = min(held, key=lambda point: point[1])
        text += " " + say(
            "Held-out loss: {first:.3g} at first, {last:.3g} at the end, lowest at step {step} with {loss:.3g}.",
            first=held[0][1],
            last=held[-1][1],
            step=step,
            loss=loss,
        )
    return text


def _compared(rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any] | None) -> str:
    """The comparison of checkpoints in words."""
    known = [(row["step"], row["held_out_loss"]) for row in rows if _number(row.get("held_out_loss"))]
    parts = [say("{n} checkpoints.", n=len(rows))]
    if known:
        step, loss = min(known, key=lambda point: point[1])
        parts.append(say("The held-out loss is lowest at step {step} with {loss:.3g}.", step=step, loss=loss))
    if best is not None:
        parts.append(say("The adapter is from step {step}.", step=best["step"]))
    return " ".join(parts)


def _sentence(diagnosis: Diagnosis) -> str:
    """What is said of a finding below a picture; short and in English where its own words could not be shown."""
    if charts.readable():
        return f"{diagnosis.sentence} {diagnosis.evidence}"
    text = diagnosis.kind.replace("_", " ").capitalize()
    if diagnosis.steps is not None:
        text += f", steps {diagnosis.steps[0]} to {diagnosis.steps[1]}"
    return text + (f"; try learning_rate: {diagnosis.learning_rate:g}." if diagnosis.learning_rate is not None else ".")
