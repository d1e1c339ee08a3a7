# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks memory``: the peak memory of real runs beside what ``loraforge check --json`` says beforehand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from . import sdbase
from .measuring import Contender, Run, environment, interleave, middle
from .reporting import Table, machine, publish, spread
from .text import prepared, spec_of
from .workload import TINY, Size, cache_folder


@dataclass(frozen=True)
class Setting:
    """One run whose memory is measured.

    Attributes:
        spec: what ``benchmarks.contenders.product`` is told.
    """

    name: str
    task: str
    spec: Mapping[str, Any] = field(default_factory=dict)


def text_settings(work: Path, tiny: bool, rows: int) -> list[Setting]:
    """Two sizes, two batches, with and without checkpointing, two lengths of rows."""
    small = TINY if tiny else Size(hidden=512, layers=6, intermediate=1408, heads=8)
    large = replace(TINY, hidden=96) if tiny else Size()
    made = []
    for label, size, batch, checkpointing, mean in (
        ("small", small, 4, False, 1),
        ("small", small, 16, False, 1),
        ("small", small, 4, False, 2.5),
        ("large", large, 1, False, 1),
        ("large", large, 4, False, 1),
        ("large", large, 4, True, 1),
        ("large", large, 4, False, 2.5),
        ("large", large, 8, True, 2.5),
    ):
        workload = prepared(replace(size, rows=rows, held_out=0.0, mean=round(size.mean * mean)), work)
        spec = {**spec_of(workload, "attention", batch_size=batch), "checkpointing": checkpointing, "gemms": []}
        longest = max(workload.lengths)
        name = f"text {label} {size.hidden}x{size.layers}, batch {batch}, rows to {longest}{', checkpointing' if checkpointing else ''}"
        made.append(Setting(name, "text", spec))
    return made


def image_settings(work: Path, tiny: bool, pictures: int, base: str | None) -> list[Setting]:
    """Resolution, batch and checkpointing on a quartered SD1.5."""
    divide, sides = (16, (64, 64)) if tiny else (4, (256, 384))
    bench = sdbase.prepared(work, "sd15", divide, pictures, max(sides))
    made = []
    for side, batch, checkpointing in ((sides[0], 1, False), (sides[0], 4, False), (sides[0], 4, True), (sides[1], 2, False)):
        spec = {
            "task": "image",
            "base": base or str(bench.base),
            "pictures": str(bench.pictures),
            "resolution": side,
            "batch_size": batch,
            "checkpointing": checkpointing,
            "rank": 8,
            "alpha": 8,
            "epochs": 1,
            "learning_rate": 1e-4,
            "seed": 42,
        }
        made.append(Setting(f"image {side}x{side}, batch {batch}{', checkpointing' if checkpointing else ''}", "image", spec))
    return made


def estimate(setting: Setting, folder: Path) -> float | None:
    """MB that ``loraforge check --json`` foresees under ``fit.memory_bytes``; None while it says nothing."""
    from .contenders.product import config_of, image_config_of

    folder.mkdir(parents=True, exist_ok=True)
    spec = {**setting.spec, "folder": str(folder)}
    config = config_of(spec) if setting.task == "text" else image_config_of(spec)
    file = folder / "config.json"
    file.write_text(json.dumps(config), encoding="utf-8")
    command = [sys.executable, "-m", "loraforge", "check", setting.task, str(file), "--json"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    try:
        said = json.loads(done.stdout)
    except ValueError:
        return None
    foreseen = (said.get("fit") or {}).get("memory_bytes")
    return float(foreseen) / 2**20 if foreseen else None


def table(settings: Sequence[Setting], runs: Mapping[str, Sequence[Run]], foreseen: Mapping[str, float | None]) -> Table:
    """Measured beside foreseen."""
    made = Table("Peak memory of whole processes", ["setting", "measured MB", "foreseen MB", "foreseen / measured"], facts=machine())
    for setting in settings:
        good = [run for run in runs[setting.name] if run.ok]
        made.notes += sorted({f"{setting.name}: {run.reason}" for run in runs[setting.name] if not run.ok})
        peak = middle([run.peak for run in good])
        guess = foreseen[setting.name]
        shown = f"{guess:.0f}" if guess else "-"
        made.rows.append([setting.name, spread(peak), shown, f"{guess / peak[0]:.2f}" if guess and good else "-"])
    return made


@click.command()
@click.option("--task", type=click.Choice(["text", "image", "both"]), default="both", show_default=True)
@click.option("--rounds", default=1, show_default=True, help="Peaks differ little from run to run.")
@click.option("--rows", default=24, show_default=True, help="Rows and pictures of each run: enough for a few steps.")
@click.option("--image-base", help="Another base for the pictures; by default a random quartered SD1.5.")
@click.option("--work", type=click.Path(path_type=Path), help="Where bases, rows and runs are kept; by default the user's cache.")
@click.option("--out", type=click.Path(path_type=Path), help="Write memory.md and memory.json there.")
@click.option("--tiny", is_flag=True, help="Tiny bases: whether everything works.")
def command(task: str, rounds: int, rows: int, image_base: str | None, work: Path | None, out: Path | None, tiny: bool) -> None:
    """Memory: the measured peak of `loraforge train` for a dozen settings, beside the estimate of `loraforge check`."""
    kept = work or cache_folder()
    settings = text_settings(kept, tiny, rows) if task in ("text", "both") else []
    settings += image_settings(kept, tiny, min(rows, 16), image_base) if task in ("image", "both") else []
    runs: dict[str, list[Run]] = {}
    foreseen: dict[str, float | None] = {}
    for number, setting in enumerate(settings):
        folder = kept / "runs" / f"memory{'-tiny' if tiny else ''}-{number}"
        foreseen[setting.name] = estimate(setting, folder / "check")
        click.echo(f"{setting.name}:", err=True)
        found = interleave(
            [Contender("loraforge", "product")], setting.spec, folder, rounds, lambda text: click.echo(f"  {text}", err=True)
        )
        runs[setting.name] = [one["loraforge"] for one in found]
    publish("memory", [table(settings, runs, foreseen)], out, {name: [run.__dict__ for run in found] for name, found in runs.items()})
