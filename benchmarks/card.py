# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks card CONFIG --gpu 24GB``: the peak memory of a card in every setting that makes a base fit, beside what
``loraforge check --gpu`` says beforehand.

CONFIG is a config for pictures with a real base; each setting trains a few steps of it in a process of its own. Needs a GPU: the figures of
docs/train-image.md that are called estimates have not been measured with this yet.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from .measuring import environment
from .reporting import Table, publish

SETTINGS: Mapping[str, tuple[str, ...]] = {
    "bf16": ("precision=bf16",),
    "bf16, encoders wait": ("precision=bf16", "offload=encoders"),
    "fp8": ("precision=fp8",),
    "4bit": ("precision=4bit",),
    "fp8, half of the blocks wait": ("precision=fp8", "offload=blocks", "offload_share=0.5"),
    "bf16, all blocks wait": ("precision=bf16", "offload=blocks"),
    "4bit, all blocks wait": ("precision=4bit", "offload=blocks"),
}
_CONTEXT = 0.75e9  # what CUDA and its libraries take beside torch's own memory, as the estimate has it

# What a process of its own runs: a few steps, and what torch had reserved of the card at the worst moment.
_CHILD = """
import json, sys, time, torch
from loraforge.pipeline.run import run_training
from loraforge.plan import make_plan
from loraforge.plugin_api.host import PluginHost
host = PluginHost()
plan = make_plan(host, "image", sys.argv[1], sys.argv[2:])
started = time.time()
done = run_training(plan, host)
print(json.dumps({"peak": torch.cuda.max_memory_reserved(), "seconds": time.time() - started, "loss": done.metrics.get("train_loss")}))
"""


def foreseen(config: Path, gpu: str, changes: tuple[str, ...]) -> float | None:
    """Bytes that ``check --gpu`` says; None if it says none."""
    sets = [word for change in changes for word in ("--set", change)]
    command = [sys.executable, "-m", "loraforge", "check", "image", str(config), "--json", "--gpu", gpu, *sets]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    try:
        return float((json.loads(done.stdout).get("fit") or {})["memory_bytes"])
    except (ValueError, KeyError):
        return None


def measured(config: Path, changes: tuple[str, ...]) -> dict[str, Any]:
    """``peak`` in bytes, ``seconds`` and ``loss`` of a short run; ``reason`` if it failed."""
    done = subprocess.run([sys.executable, "-c", _CHILD, str(config), *changes], env=environment(), capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    try:
        found: dict[str, Any] = json.loads(lines[-1])
        return found
    except (ValueError, IndexError):
        return {"reason": (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:200]}


def table(results: Mapping[str, tuple[Mapping[str, Any], float | None]]) -> Table:
    """Measured beside foreseen, in GB."""
    made = Table("Peak memory of a card", ["setting", "measured GB", "foreseen GB", "foreseen / measured", "seconds", "loss"])
    for name, (run, guess) in results.items():
        if "peak" not in run:
            made.notes.append(f"{name}: {run['reason']}")
        peak = (run["peak"] + _CONTEXT) / 2**30 if "peak" in run else None
        share = f"{guess / 2**30 / peak:.2f}" if guess and peak else "-"
        shown = [f"{peak:.2f}" if peak else "-", f"{guess / 2**30:.2f}" if guess else "-", share]
        made.rows.append([name, *shown, f"{run['seconds']:.0f}" if peak else "-", f"{run['loss']:.4f}" if run.get("loss") else "-"])
    return made


@click.command()
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--gpu", default="24GB", show_default=True, help="The card's memory, as `check --gpu` takes it.")
@click.option("--steps", default=3, show_default=True, help="Steps of each run.")
@click.option("--setting", "chosen", type=click.Choice(list(SETTINGS)), multiple=True, help="Only these.")
@click.option("--out", type=click.Path(path_type=Path), help="Write card.md and card.json there.")
def command(config: Path, gpu: str, steps: int, chosen: tuple[str, ...], out: Path | None) -> None:
    """Peak memory of a card in every setting, beside the estimate."""
    import torch

    if not torch.cuda.is_available():
        raise click.ClickException("this measures a GPU's memory, and there is none that torch can use")
    results = {}
    for name in chosen or SETTINGS:
        with tempfile.TemporaryDirectory() as place:
            short = (f"max_steps={steps}", f"output_dir={place}/run", "save_steps=0", "eval_ratio=0", "export=[]", "sample_prompts=[a cat]")
            changes = (*SETTINGS[name], *short)
            results[name] = measured(config, changes), foreseen(config, gpu, changes)
    publish("card", [table(results)], out, {name: [dict(run), guess] for name, (run, guess) in results.items()})
