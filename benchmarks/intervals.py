# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks intervals``: how often the intervals that LoRAForge prints hold the truth, on data whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from loraforge_image.evaluation import style_distance

from loraforge.evaluation import bootstrap

from .reporting import Table, publish

Draw = Callable[[np.random.Generator, int], Any]
SIZES = (*range(1, 11), 20, 36)
PICTURES = (4, 8, 16, 64)


def _changes(more: float, less: float) -> Draw:
    return lambda rng, n: rng.choice([1.0, -1.0, 0.0], p=[more, less, 1 - more - less], size=n)


def _sparse(share: float, scale: float) -> Draw:
    return lambda rng, n: scale * rng.beta(1, 2, n) * (rng.random(n) < share)


# Differences of base and adapter: of losses, which have no bounds, and of shares.
LOSSES: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, n: rng.normal(0.3, 1, n), 0.3),
    "log-normal": (lambda rng, n: rng.lognormal(0, 1, n), math.exp(0.5)),
    "exponential": (lambda rng, n: rng.exponential(1, n), 1.0),
    "Student's t, 4 degrees": (lambda rng, n: rng.standard_t(4, n), 0.0),
}
SHARES: dict[str, tuple[Draw, float]] = {
    "yes or no, 10 % change": (_changes(0.075, 0.025), 0.05),
    "yes or no, 40 % change": (_changes(0.3, 0.1), 0.2),
    "yes or no, 90 % change": (_changes(0.9, 0.0), 0.9),
    "scores": (lambda rng, n: rng.beta(2, 1, n) - rng.beta(0.5, 0.5, n), 2 / 3 - 0.5),
    "scores, 10 % change": (_sparse(0.1, 1.0), 0.1 / 3),
    "scores, 40 % change": (_sparse(0.4, 1.0), 0.4 / 3),
}
# What experts found of one side: yes 1, partly 0.5, no 0.
GRADES: dict[str, tuple[Draw, float]] = {
    "half right": (lambda rng, n: rng.choice([0.0, 0.5, 1.0], p=[0.4, 0.2, 0.4], size=n), 0.5),
    "nearly all right": (lambda rng, n: rng.choice([0.0, 0.5, 1.0], p=[0.04, 0.04, 0.92], size=n), 0.94),
    "nearly all wrong": (lambda rng, n: rng.choice([0.0, 1.0], p=[0.95, 0.05], size=n), 0.05),
}


def of_comparisons(draw: Draw, truth: float, size: int, repetitions: int, share: bool, wordings: int = 1) -> tuple[float, float] | None:
    """(share of the intervals that hold the truth, share of ``better`` or ``worse``) at one size; None: no interval is ever printed.

    Args:
        wordings: rows of each independent question, all with the same difference.
    """
    rng = np.random.default_rng(size)
    labels = np.repeat(np.arange(size), wordings)
    held = printed = told = 0
    for _ in range(repetitions):
        change = np.repeat(draw(rng, size), wordings)
        base = np.full(len(change), 5.0) if not share else np.where(change > 0, 0.0, np.where(change < 0, 1.0, 0.5))
        found = bootstrap.compare("loss" if not share else "x", base, base + change, labels, share=share, resamples=1000)
        told += found.verdict != "no evidence"
        if found.low is not None and found.high is not None:
            printed += 1
            held += found.low - 1e-9 <= truth <= found.high + 1e-9
    return (held / printed, told / repetitions) if printed else None


def of_means(draw: Draw, truth: float, size: int, repetitions: int) -> float | None:
    """The same for the mean of one side."""
    rng = np.random.default_rng(size)
    held = printed = 0
    for _ in range(repetitions):
        _, low, high = bootstrap.interval(draw(rng, size), resamples=1000)
        if low is not None and high is not None:
            printed += 1
            held += low - 1e-9 <= truth <= high + 1e-9
    return held / printed if printed else None


def pictures(rng: np.random.Generator, count: int, shift: float) -> Any:
    """Features of pictures, (count, 27): correlated, most of their spread in a few directions, as those of real pictures are."""
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(27, 27)))[0]
    return rng.normal(size=(count, 27)) * 0.15 * np.exp(-np.arange(27) / 4) @ turned.T + shift


def of_distances(shift: float, size: int, repetitions: int) -> float | None:
    """How often the interval of a style distance holds what so many pictures show on average."""
    rng = np.random.default_rng(size)
    real = pictures(rng, 24, 0.0)
    truth = np.mean([style_distance.frechet(pictures(rng, size, shift), real) for _ in range(max(40, repetitions))])
    held = 0
    for _ in range(repetitions):
        bounds = style_distance.interval(lambda values: style_distance.frechet(values, real), pictures(rng, size, shift))
        if bounds is None:
            return None
        held += bounds[0] <= truth <= bounds[1]
    return held / repetitions


def of_adherence(size: int, repetitions: int) -> float | None:
    """The same for the mean cosine of pictures and prompts; each caption has its own level, and is drawn several times."""
    rng = np.random.default_rng(size)
    level = 0.3 + 0.03 * rng.normal(size=24)
    truth = np.mean([level[i % 24] for i in range(size)])
    held = 0
    for _ in range(repetitions):
        cosines = np.array([level[i % 24] for i in range(size)]) + 0.02 * rng.normal(size=size)
        bounds = style_distance.interval(lambda values: float(values.mean()), cosines)
        if bounds is None:
            return None
        held += bounds[0] <= truth <= bounds[1]
    return held / repetitions


def _shown(found: float | None) -> str:
    return "-" if found is None else f"{found:.1%}"


def tables(repetitions: int, sizes: Sequence[int], counts: Sequence[int]) -> list[Table]:
    """Every kind of interval, a row for each distribution and a column for each size."""
    notes = ["-: no interval is printed"]
    columns = ["distribution", *map(str, sizes)]
    compared = Table("Differences of base and adapter: intervals that hold the truth", columns, notes=notes)
    wrong = Table("The same, where base and adapter are interchangeable: better or worse is said by luck", columns, notes=notes)
    for kind, cases in (("loss", LOSSES), ("share", SHARES)):
        for name, (draw, truth) in cases.items():
            found = [of_comparisons(draw, truth, size, repetitions, kind == "share") for size in sizes]
            compared.rows.append([f"{kind}: {name}", *(_shown(one and one[0]) for one in found)])
    grouped = [of_comparisons(*SHARES["yes or no, 40 % change"], size, repetitions, True, wordings=4) for size in sizes]
    compared.rows.append(["share: yes or no, four wordings a question", *(_shown(one and one[0]) for one in grouped)])
    for name, draw in (("loss: Student's t, 4 degrees", LOSSES["Student's t, 4 degrees"][0]), ("share: yes or no", _changes(0.2, 0.2))):
        luck = [of_comparisons(draw, 0.0, size, repetitions, name.startswith("share")) for size in sizes]
        wrong.rows.append([name, *(_shown(one and one[1]) for one in luck)])
    sides = Table("What experts found of one side: intervals that hold the truth", columns, notes=notes)
    for name, (draw, truth) in GRADES.items():
        sides.rows.append([name, *(_shown(of_means(draw, truth, size, repetitions)) for size in sizes)])
    drawn = Table("Pictures: intervals that hold what so many pictures show on average", ["figure", *map(str, counts)], notes=notes)
    for shift in (0.02, 0.2):
        drawn.rows.append([f"style distance, off by {shift}", *(_shown(of_distances(shift, n, max(1, repetitions // 10))) for n in counts)])
    drawn.rows.append(["prompt adherence", *(_shown(of_adherence(n, max(1, repetitions // 10))) for n in counts)])
    return [compared, wrong, sides, drawn]


@click.command()
@click.option("--repetitions", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--tiny", is_flag=True, help="Two sizes, few repetitions: whether all works.")
@click.option("--out", type=click.Path(path_type=Path), help="Write intervals.md and intervals.json there.")
def command(repetitions: int, tiny: bool, out: Path | None) -> None:
    """How often the printed intervals hold the truth."""
    sizes, counts = ((5, 8), (8, 64)) if tiny else (SIZES, PICTURES)
    publish("intervals", tables(5 if tiny else repetitions, sizes, counts), out)
