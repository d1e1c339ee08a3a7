# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks lengths``: does an epoch's time grow with the tokens, or with rows x longest row?

Three spreads of row lengths with equal rows and (to a few tokens) equal tokens: all alike, evenly wide, and with a long tail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from loraforge import charts

from .measuring import Contender, Run, middle
from .reporting import Table, machine, publish, spread
from .text import measure, prepared
from .workload import TINY, Size, Workload, cache_folder

KINDS = {"even": "all alike", "wide": "evenly wide", "tailed": "long tail"}
CONTENDERS = (Contender("loraforge", "product"), Contender("trainer-peft", "trainer_peft"))


def padded(work: Workload, batch_size: int) -> float:
    """What rows x longest would make of an epoch, in tokens: batches as they come, each as long as its longest row."""
    lengths = work.lengths
    return sum(len(part) * max(part) for part in (lengths[i : i + batch_size] for i in range(0, len(lengths), batch_size)))


def epoch_seconds(run: Run, work: Workload) -> float:
    """An epoch at the steady rate."""
    return work.tokens / run.steady


def draw(results: Mapping[str, tuple[Workload, Sequence[Mapping[str, Run]]]], batch_size: int, path: Path) -> None:
    """Bars of epoch times, one group per spread, and below each group what its padding would be."""
    bars = {
        contender.name: [
            middle([epoch_seconds(found[contender.name], work) for found in rounds if found[contender.name].ok])
            for work, rounds in results.values()
        ]
        for contender in CONTENDERS
    }
    names = [
        f"{KINDS[kind]}\npadded {padded(work, batch_size) / work.tokens:.2f}x\nlongest {max(work.lengths):,}"
        for kind, (work, _) in results.items()
    ]
    draw_bars(bars, names, next(iter(results.values()))[0].tokens, path)


def draw_bars(bars: Mapping[str, Sequence[tuple[float, float, float]]], names: Sequence[str], tokens: int, path: Path) -> None:
    """Draws (middle, lowest, highest) seconds for an epoch, by contender and spread.

    Args:
        names: of the spreads.
        tokens: in each of them.
    """
    said = "; ".join(f"{name} {', '.join(f'{point[0]:.1f}' for point in points)}" for name, points in bars.items())
    about = charts.About(
        "Equal tokens, rows of unequal length", f"{tokens:,} tokens in each group", summary=f"Seconds for an epoch: {said}."
    )
    looks = ({"color": charts.BLUE}, {"facecolor": "white", "edgecolor": charts.VERMILLION, "hatch": "//", "linewidth": 1.2})
    with charts.sheet(path, about, 3.4) as figure:
        axes = figure.subplots()
        for offset, (look, (name, points)) in enumerate(zip(looks, bars.items(), strict=True)):
            places = [number + (offset - 0.5) * 0.38 for number in range(len(points))]
            middles = [point[0] for point in points]
            errors = [[point[0] - point[1] for point in points], [point[2] - point[0] for point in points]]
            axes.bar(places, middles, 0.35, yerr=errors, capsize=3, label=name, zorder=2, **look)
            for place, point in zip(places, points, strict=True):
                axes.annotate(
                    f"{point[0]:.1f}", (place, point[2]), xytext=(0, 4), textcoords="offset points", ha="center", fontsize=charts.SMALL
                )
        charts.label(axes, "", "seconds for an epoch (lower is better)")
        axes.set_xticks(range(len(names)), names)
        axes.margins(y=0.12)


def table(results: Mapping[str, tuple[Workload, Sequence[Mapping[str, Run]]]], batch_size: int, facts: Mapping[str, Any]) -> Table:
    """The figures of the plot."""
    made = Table(
        "An epoch's time over three spreads of row lengths",
        ["lengths", "tokens", "longest", "padded / tokens", *(f"{one.name} s per epoch" for one in CONTENDERS)],
        facts=facts,
    )
    for kind, (work, rounds) in results.items():
        cells = []
        for contender in CONTENDERS:
            runs = [found[contender.name] for found in rounds]
            made.notes += sorted({f"{kind}, {contender.name}: {run.reason}" for run in runs if not run.ok})
            cells.append(spread(middle([epoch_seconds(run, work) for run in runs if run.ok]), 1))
        made.rows.append([KINDS[kind], str(work.tokens), str(max(work.lengths)), f"{padded(work, batch_size) / work.tokens:.2f}", *cells])
    return made


@click.command()
@click.option("--rows", default=240, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--batch-size", default=4, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), help="Where bases, rows and runs are kept; by default the user's cache.")
@click.option("--out", type=click.Path(path_type=Path), help="Write lengths.md, lengths.json and lengths.png there.")
@click.option("--tiny", is_flag=True, help="A base of 64 units: whether everything works, not how fast it is.")
def command(rows: int, rounds: int, batch_size: int, work: Path | None, out: Path | None, tiny: bool) -> None:
    """Epoch time over three spreads of row lengths with equal tokens: a table and a plot."""
    kept = work or cache_folder()
    size = replace(TINY if tiny else Size(), rows=rows, held_out=0.0)
    results = {}
    for kind in KINDS:
        made = prepared(replace(size, lengths=kind), kept)
        folder = kept / "runs" / f"lengths-{made.size.key()}"
        settings: dict[str, Any] = {"batch_size": batch_size, **({"rank": 4} if tiny else {})}
        results[kind] = (made, measure(made, "attention", CONTENDERS, rounds, folder, **settings)[0])
    facts = {**machine(), "hidden": size.hidden, "layers": size.layers, "rows": rows, "batch": batch_size, "rounds": rounds}
    raw = {kind: [{name: run.__dict__ for name, run in one.items()} for one in found] for kind, (_, found) in results.items()}
    publish("lengths", [table(results, batch_size, facts)], out, raw)
    if out is not None:
        draw(results, batch_size, out / "lengths.png")
