# SPDX-License-Identifier: Apache-2.0
"""Tables: on the screen, as markdown, as JSON."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .measuring import Run, cores, environment, middle, ratios


@dataclass
class Table:
    """One table of results.

    Attributes:
        facts: what was measured, and on what.
        notes: what a reader must know; what is missing and why.
    """

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """The table in markdown, with a line of facts above it."""
        lines = [f"### {self.title}", ""]
        if self.facts:
            lines += [", ".join(f"{key} {value}" for key, value in self.facts.items()), ""]
        lines += ["| " + " | ".join(self.columns) + " |", "|" + " --- |" * len(self.columns)]
        lines += ["| " + " | ".join(str(cell).replace("|", "/") for cell in row) + " |" for row in self.rows]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes), ""])


def spread(values: tuple[float, float, float], digits: int = 0) -> str:
    """``median (lowest-highest)``, or a dash."""
    median, low, high = values
    if math.isnan(median):
        return "-"
    shown = f"{median:.{digits}f}"
    return shown if f"{low:.{digits}f}" == f"{high:.{digits}f}" else f"{shown} ({low:.{digits}f}-{high:.{digits}f})"


def machine() -> dict[str, Any]:
    """The machine in a few words."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    return {"cpu": model, "cores": cores(), "threads": environment()["OMP_NUM_THREADS"], "python": platform.python_version()}


def of_runs(
    title: str,
    rounds: Sequence[Mapping[str, Run]],
    unit: str,
    flops_per_unit: float = 0.0,
    losses: Mapping[str, float] | None = None,
    facts: Mapping[str, Any] | None = None,
    digits: int = 0,
) -> Table:
    """One row per contender: medians over the rounds, with their ranges."""
    columns = [
        "contender",
        f"steady {unit}/s",
        f"whole process {unit}/s",
        "wall s",
        "peak MB",
        "share of limit",
        "machine GFLOP/s",
        "by the faster library",
        "held-out loss",
    ]
    table = Table(title, columns, facts=dict(facts or {}))
    for name in rounds[0]:
        runs = [found[name] for found in rounds if found[name].ok]
        failed = sorted({str(found[name].reason) for found in rounds if not found[name].ok})
        for reason in failed:
            table.notes.append(f"{name}: {reason}")
        if not runs:
            table.rows.append([name, failed[0].split(":")[0], *["-"] * (len(columns) - 2)])
            continue
        loss = (losses or {}).get(name)
        table.rows.append([
            name,
            spread(middle([run.steady for run in runs]), digits),
            spread(middle([run.whole for run in runs]), digits),
            spread(middle([run.wall for run in runs]), 1),
            spread(middle([run.peak for run in runs])),
            spread(middle([run.share(flops_per_unit) for run in runs]), 2),
            spread(middle([run.rate / 1e9 if run.rate else float("nan") for run in runs])),
            spread(middle([run.share(flops_per_unit, best=True) for run in runs]), 2),
            f"{loss:.4f}" if loss is not None else "-",
        ])  # fmt: skip
    if losses and "base" in losses:
        table.notes.append(f"held-out loss of the base without an adapter: {losses['base']:.4f}")
    return table


def of_ratios(title: str, rounds: Sequence[Mapping[str, Run]], ours: str, goals: Mapping[str, str] | None = None) -> Table:
    """Ours against every other contender, each ratio taken inside one round."""
    table = Table(title, ["against", "steady rate", "whole-process rate", "step time", "peak memory", "goal"])
    for name in rounds[0]:
        if name == ours or not any(found[name].ok and found[ours].ok for found in rounds):
            continue
        table.rows.append([
            name,
            spread(ratios(rounds, ours, name, lambda run: run.steady), 2),
            spread(ratios(rounds, ours, name, lambda run: run.whole), 2),
            spread(ratios(rounds, ours, name, lambda run: run.step_seconds), 2),
            spread(ratios(rounds, ours, name, lambda run: run.peak), 2),
            (goals or {}).get(name, ""),
        ])  # fmt: skip
    return table


def publish(name: str, tables: Sequence[Table], out: Path | None, raw: Any = None) -> None:
    """Prints the tables, and writes ``NAME.md`` and ``NAME.json`` into ``out``."""
    from rich.console import Console
    from rich.table import Table as Shown

    console = Console()
    console = console if console.is_terminal else Console(width=180)  # a file has no width to keep to
    for table in tables:
        shown = Shown(title=table.title, title_justify="left")
        for column in table.columns:
            shown.add_column(column)
        for row in table.rows:
            shown.add_row(*(str(cell) for cell in row))
        console.print(shown)
        for note in table.notes:
            console.print(f"  {note}", highlight=False, markup=False)
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.md").write_text("\n".join(table.markdown() for table in tables), encoding="utf-8")
    whole = {"machine": machine(), "tables": [table.__dict__ for table in tables], "raw": raw}
    (out / f"{name}.json").write_text(json.dumps(whole, indent=1, default=_plain, ensure_ascii=False), encoding="utf-8")
    console.print(f"written: {out / name}.md and .json", highlight=False)


def _plain(value: Any) -> Any:
    return value.__dict__ if hasattr(value, "__dict__") else str(value)
