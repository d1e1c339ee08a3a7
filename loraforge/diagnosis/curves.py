"""The pictures of a run: its loss curve, what was diagnosed in it, its checkpoints compared. Drawn into files, never on a screen."""

from __future__ import annotations

import contextlib
import functools
import math
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

from ..errors import printable
from ..messages import language, speaker

if TYPE_CHECKING:
    from .diagnose import Diagnosis
    from .history import History

Points = Sequence[tuple[int, float]]

STEP, MEAN, HELD, GOOD, BAD = "#9bb8d3", "#1f5a94", "#c2410c", "#15803d", "#dc2626"
# In matplotlib's own font Chinese is empty boxes. The first of these that is installed is asked for what that font lacks.
CHINESE = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "Microsoft YaHei", "PingFang SC", "Hiragino Sans GB",
    "SimHei", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Heiti SC", "STHeiti", "SimSun", "Arial Unicode MS", "Noto Sans CJK JP",
)  # fmt: skip


def draw_loss(train: Points, heldout: Points, path: Path) -> None:
    """The loss curve as PNG: every step, its moving average, and the held-out loss."""
    with _figure(path, 8, 4.5) as figure:
        axes = figure.subplots()
        _curves(axes, train, heldout, str.format)
        axes.legend(frameon=False)


def draw_diagnosis(history: History, diagnoses: Sequence[Diagnosis], path: Path) -> None:
    """The loss curve with what was found marked in it and said below, as PNG. In English where no font has Chinese."""
    say = _words()
    lines = [line for d in diagnoses for line in _wrapped(_sentence(d), 104)]
    with _figure(path, 9, 5 + 0.26 * len(lines)) as figure:
        above, below = figure.subplots(2, 1, height_ratios=[4.6, 0.1 + 0.26 * len(lines)])
        train = [(s, y) for s, y in history.losses if math.isfinite(y)]
        held = [(s, y) for s, y in history.heldout if math.isfinite(y)]
        _curves(above, train, held, say)
        for diagnosis in diagnoses:
            _mark(above, diagnosis, say)
        if held:
            step, loss = min(held, key=lambda point: point[1])
            label = say("lowest held-out loss: {loss:.3f} at step {step}", loss=loss, step=step)
            above.plot([step], [loss], linestyle="", marker="*", markersize=15, color=GOOD, markeredgecolor="white", label=label, zorder=5)
        above.legend(frameon=False, fontsize=9)
        below.axis("off")
        below.text(0, 1, "\n".join(lines), va="top", fontsize=10.5, linespacing=1.35, transform=below.transAxes)


def draw_checkpoints(rows: Sequence[Mapping[str, Any]], chosen: int | None, path: Path) -> None:
    """The checkpoints of a run compared, as PNG.

    Args:
        rows: one per checkpoint: ``step``, ``epoch``, ``train_loss``, ``held_out_loss`` (either may be None) and ``kept``, whether it is
            still on the disk.
        chosen: the step that the adapter was taken from.
    """
    say = _words()
    with _figure(path, 8, 4.5) as figure:
        axes = figure.subplots()
        kinds = (("train_loss", MEAN, say("training, around this step")), ("held_out_loss", HELD, say("held-out examples")))
        for key, colour, label in kinds:
            points = [(row["step"], row[key], row.get("kept", True)) for row in rows if _number(row.get(key))]
            if not points:
                continue
            axes.plot([s for s, _, _ in points], [y for _, y, _ in points], color=colour, linewidth=1.6, label=label, zorder=2)
            for kept, inside in ((True, colour), (False, "white")):
                some = [(s, y) for s, y, k in points if bool(k) == kept]
                axes.scatter([s for s, _ in some], [y for _, y in some], s=34, color=inside, edgecolors=colour, zorder=3)
            other = {row["step"]: row.get(k) for row in rows for k, _, _ in kinds if k != key}
            spread = _spread([s for s, _, _ in points])
            _values(axes, [(s, y, not _number(other[s]) or y >= other[s]) for s, y, _ in points if s in spread], colour)
        best = next((row for row in rows if row["step"] == chosen), None)
        if best is not None:
            shown = next((best[key] for key, _, _ in reversed(kinds) if _number(best.get(key))), None)
            axes.axvline(best["step"], color=GOOD, linewidth=1.2, linestyle="--", zorder=1)
            if shown is not None:
                label = say("the adapter: step {step}", step=best["step"])
                axes.plot([best["step"]], [shown], linestyle="", marker="*", markersize=17, color=GOOD, label=label, zorder=5)
        if not all(row.get("kept", True) for row in rows):
            axes.scatter([], [], s=34, color="white", edgecolors="#555555", label=say("hollow: no longer on the disk"))
        _label(axes, say("step (passes over the examples)"), say("loss, lower is better"))
        spread = _spread([row["step"] for row in rows if row.get("epoch") is not None])
        ticks = [row for row in rows if row["step"] in spread]
        axes.set_xticks([row["step"] for row in ticks], [f"{row['step']}\n({row['epoch']:.1f})" for row in ticks])
        axes.margins(y=0.16)
        axes.legend(frameon=False, fontsize=9)


def _spread(steps: Sequence[int]) -> set[int]:
    """Those steps whose labels do not cover each other, from the last one back: the end of a run is often close to a checkpoint."""
    chosen: list[int] = []
    for step in sorted(steps, reverse=True):
        if not chosen or chosen[-1] - step >= 0.07 * (max(steps) - min(steps)):
            chosen.append(step)
    return set(chosen)


# --- parts of pictures -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _figure(path: Path, width: float, height: float) -> Iterator[Any]:
    """A figure that is written aside and renamed when it is complete."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    families = ["DejaVu Sans", *filter(None, [_chinese_font()])]
    with matplotlib.rc_context({"font.family": families, "text.parse_math": False}):
        figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        aside = path.with_name(f".{path.stem}.partial.png")
        figure.savefig(aside)
    aside.replace(path)


def _curves(axes: Any, train: Points, heldout: Points, say: Callable[..., str]) -> None:
    steps = [step for step, _ in train]
    losses = [loss for _, loss in train]
    window = max(1, len(losses) // 40)
    smooth = [sum(losses[max(0, i - window + 1) : i + 1]) / (i - max(0, i - window + 1) + 1) for i in range(len(losses))]
    axes.plot(steps, losses, color=STEP, linewidth=0.8, label=say("each step"))
    axes.plot(steps, smooth, color=MEAN, linewidth=1.8, label=say("mean of {n} steps", n=window) if window > 1 else say("training"))
    if heldout:
        label = say("held-out examples")
        axes.plot([s for s, _ in heldout], [v for _, v in heldout], color=HELD, marker="o", markersize=4, label=label)
    _label(axes, say("step"), say("loss"))
    axes.set_ylim(bottom=0)


def _label(axes: Any, across: str, up: str) -> None:
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(alpha=0.25)


def _mark(axes: Any, diagnosis: Diagnosis, say: Callable[..., str]) -> None:
    """The steps that a finding is about, as a coloured band."""
    names = {
        "over_fitting": (HELD, say("over-fitting")),
        "oscillating": (BAD, say("rose again")),
        "diverged": (BAD, say("went astray")),
        "too_long": (MEAN, say("no longer improving")),
    }
    if diagnosis.steps is None or diagnosis.kind not in names:
        return
    colour, label = names[diagnosis.kind]
    axes.axvspan(*diagnosis.steps, color=colour, alpha=0.12, linewidth=0, label=label, zorder=0)


def _values(axes: Any, points: Sequence[tuple[int, float, bool]], colour: str) -> None:
    """Every value (step, loss, above or below the point), where there is room."""
    if len(points) > 12:
        return
    for step, loss, above in points:
        place = {"xytext": (0, 9 if above else -16), "textcoords": "offset points", "ha": "center"}
        axes.annotate(f"{loss:.3f}", (step, loss), fontsize=8, color=colour, **place)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


# --- words in pictures -----------------------------------------------------------------------------------------------------


@functools.cache
def _chinese_font() -> str | None:
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return next((name for name in CHINESE if name in installed), None)


def _readable() -> bool:
    return language() == "en" or _chinese_font() is not None


def _words() -> Callable[..., str]:
    return speaker(__name__) if _readable() else str.format


def _sentence(diagnosis: Diagnosis) -> str:
    """What is said of a finding below a picture; short and in English where its own words could not be shown."""
    if _readable():
        return f"{diagnosis.sentence} {diagnosis.evidence}"
    text = diagnosis.kind.replace("_", " ").capitalize()
    if diagnosis.steps is not None:
        text += f", steps {diagnosis.steps[0]} to {diagnosis.steps[1]}"
    return text + (f"; try learning_rate: {diagnosis.learning_rate:g}." if diagnosis.learning_rate is not None else ".")


def _wrapped(text: str, cells: int) -> list[str]:
    """Lines of at most ``cells`` cells; Chinese characters are two wide, and a line may end after any of them."""
    text = printable(text)
    if not any(east_asian_width(sign) in "WF" for sign in text):
        return textwrap.wrap(text, cells, subsequent_indent="  ", initial_indent="• ")
    lines, used = ["• "], 2
    for part in re.findall(r"[!-~]+|.", text):
        width = sum(2 if east_asian_width(sign) in "WF" else 1 for sign in part)
        if used + width > cells and part not in "，。；：、）":
            lines.append("  ")
            used = 2
        lines[-1] += part
        used += width
    return lines
