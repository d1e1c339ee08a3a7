# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks text``: LoRAForge beside Trainer + PEFT, TRL, LLaMA-Factory and a bare loop, on the same ids and masks."""

from __future__ import annotations

import fnmatch
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from . import limit, scoring
from .measuring import Contender, Run, environment, interleave
from .reporting import machine, of_ratios, of_runs, publish
from .workload import TINY, Size, Workload, cache_folder, prepare

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ALL_LINEAR = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
TARGETS = {"attention": ATTENTION, "all-linear": ALL_LINEAR}
OURS = "loraforge"


def contenders(trl_python: str | None = None, llamafactory_python: str | None = None) -> list[Contender]:
    """Every row of the table, in its order."""
    trl = {"kind": "trl_sft", "python": trl_python, "missing": None if trl_python else "skipped: --trl-python was not given"}
    factory = {
        "kind": "llamafactory",
        "python": llamafactory_python,
        "missing": None if llamafactory_python else "skipped: --llamafactory-python was not given",
    }
    return [
        Contender(OURS, "product"),
        Contender("loraforge checkpointing", "product", {"checkpointing": True}),
        Contender("bare-loop", "bare_loop"),
        Contender("bare-loop checkpointing", "bare_loop", {"checkpointing": True}),
        Contender("trainer-peft", "trainer_peft"),
        Contender("trainer-peft checkpointing", "trainer_peft", {"checkpointing": True}),
        Contender("trl", options={}, **trl),
        Contender("trl padding-free", options={"padding_free": True}, **trl),
        Contender("trl packing", options={"packing": True}, **trl),
        Contender("trl checkpointing", options={"checkpointing": True}, **trl),
        Contender("llamafactory", options={"checkpointing": True}, **factory),
        Contender("llamafactory no checkpointing", options={"checkpointing": False}, **factory),
    ]


def spec_of(
    work: Workload, target: str, *, rank: int = 16, batch_size: int = 4, epochs: int = 1, learning_rate: float = 2e-4, dropout: float = 0.1
) -> dict[str, Any]:
    """What every contender is told."""
    targets = TARGETS[target]
    config = json.loads((work.base / "config.json").read_text(encoding="utf-8"))
    shape = limit.shape_of(config, rank, targets)
    rows = len(work.train)
    return {
        "rate_seconds": 0.2 if shape.hidden < 128 else 2.0,
        "base": str(work.base),
        "data": str(work.folder / "data"),
        "rows": str(work.folder / "rows.json"),
        "tokens": work.tokens,
        "epochs": epochs,
        "batch_size": batch_size,
        "rank": rank,
        "alpha": 2 * rank,
        "targets": list(targets),
        "learning_rate": learning_rate,
        "dropout": dropout,
        "seed": 42,
        "max_length": max(max(work.lengths), 32),
        "gemms": limit.gemms(shape, round(work.tokens / rows * batch_size), round(work.learned / rows * batch_size)),
        "flops_per_token": limit.step_flops(shape, work.lengths, work.learned) / work.tokens,
    }


def prepared(size: Size, work: Path) -> Workload:
    """The workload, made in a process of its own: what this process holds would count in its children's memory."""
    command = [sys.executable, "-m", "benchmarks.workload", json.dumps(size.__dict__), str(work)]
    subprocess.run(command, env=environment(), check=True, capture_output=True)
    return prepare(size, work)


def heldout_losses(work: Workload, rounds: Sequence[dict[str, Run]], folder: Path) -> dict[str, float]:
    """The common scorer's loss for each contender's last adapter, and the base's."""
    last = {name: run.adapter for found in rounds for name, run in found.items() if run.ok and run.adapter}
    return scoring.score(work.base, work.folder / "rows.json", last, folder) if work.held else {}


def measure(
    work: Workload, target: str, chosen: Sequence[Contender], rounds: int, folder: Path, **settings: Any
) -> tuple[list[dict[str, Run]], dict[str, Any], dict[str, float]]:
    """(runs by round, the spec, held-out losses)."""
    spec = spec_of(work, target, **settings)
    found = interleave(chosen, spec, folder, rounds, lambda text: click.echo(text, err=True))
    return found, spec, heldout_losses(work, found, folder)


_GOALS = {
    "trainer-peft": "rate >= 1.75 (151k: >= 2.3); memory <= 0.55 (151k: <= 0.38)",
    "trl": "rate >= 2.0 at TRL's fastest",
    "trl padding-free": "rate >= 2.0 at TRL's fastest",
    "trl packing": "rate >= 2.0 at TRL's fastest",
    "llamafactory": "rate >= 2.0",
}


@click.command()
@click.option("--rows", default=600, show_default=True, help="Rows in all; a tenth of them is held out.")
@click.option("--vocabulary", default=32_000, show_default=True, help="Of the base; Qwen's is 151936.")
@click.option("--target", type=click.Choice(list(TARGETS)), default="attention", show_default=True, help="Where the adapters sit.")
@click.option("--epochs", default=1, show_default=True)
@click.option("--dropout", default=0.1, show_default=True, help="Of every contender's LoRA; 0.1 is what PEFT's documentation writes.")
@click.option("--rounds", default=3, show_default=True, help="Every contender runs once in each.")
@click.option("--only", multiple=True, help="Names of contenders, also with stars ('trl*'); by default all.")
@click.option("--trl-python", help="The interpreter of an environment with TRL.")
@click.option("--llamafactory-python", help="The interpreter of an environment with LLaMA-Factory.")
@click.option("--work", type=click.Path(path_type=Path), help="Where bases, rows and runs are kept; by default the user's cache.")
@click.option("--out", type=click.Path(path_type=Path), help="Write text.md and text.json there.")
@click.option("--name", default="text", show_default=True, help="The name of those files.")
@click.option("--tiny", is_flag=True, help="A base of 64 units and 24 rows: whether everything works, not how fast it is.")
def command(
    rows: int,
    vocabulary: int,
    target: str,
    epochs: int,
    dropout: float,
    rounds: int,
    only: Sequence[str],
    trl_python: str | None,
    llamafactory_python: str | None,
    work: Path | None,
    out: Path | None,
    name: str,
    tiny: bool,
) -> None:
    """Text: tokens/s, peak memory, share of the machine's limit and held-out loss of every trainer, on the same rows."""
    size = replace(TINY, rows=min(rows, TINY.rows)) if tiny else Size(rows=rows, vocabulary=vocabulary)
    kept = work or cache_folder()
    made = prepared(size, kept)
    chosen = contenders(trl_python, llamafactory_python)
    if only:
        chosen = [one for one in chosen if any(fnmatch.fnmatchcase(one.name, word) for word in only)]
    folder = kept / "runs" / f"{name}-{size.key()}-{target}"
    settings: dict[str, Any] = {"epochs": epochs, "dropout": dropout, **({"rank": 4} if tiny else {})}
    found, spec, losses = measure(made, target, chosen, rounds, folder, **settings)
    flops = spec["flops_per_token"]
    facts = {
        **machine(),
        **made.facts(),
        "target": target,
        "epochs": epochs,
        "dropout": dropout,
        "rounds": rounds,
        "MFLOP/token": round(flops / 1e6, 1),
    }
    tables = [of_runs(f"Text, {target}, vocabulary {size.vocabulary}", found, "tokens", flops, losses, facts)]
    for ours, goals in ((OURS, _GOALS), ("loraforge checkpointing", {"llamafactory": "rate >= 1.5"})):
        if any(run.ok for one in found for key, run in one.items() if key == ours):
            tables.append(of_ratios(f"{ours} against the others, inside each round", found, ours, goals))
    publish(name, tables, out, {"rounds": [{key: run.__dict__ for key, run in one.items()} for one in found], "losses": losses})
