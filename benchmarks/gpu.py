# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks gpu``: text of 1.5B and 7B shapes beside TRL at its best, pictures of SD1.5 and SDXL beside a plain loop.

The measure of a text run is its share of the rate at which this GPU multiplies bf16 matrices of the same shapes, measured in the same
process. ``--small`` runs tiny shapes on the CPU: whether the script works, where there is no GPU.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from . import limit, sdbase
from .measuring import Contender, Run, interleave, middle, ratios
from .reporting import Table, machine, publish, spread
from .text import prepared, spec_of
from .workload import TINY, Size, cache_folder

_COMMON: dict[str, Any] = {"mean": 512, "lengths": "even", "held_out": 0.0, "dtype": "bfloat16", "intermediate": 8960}
SHAPES = {
    "1.5b": Size(hidden=1536, layers=28, heads=12, kv_heads=2, vocabulary=151_936, **_COMMON),
    "7b": Size(hidden=3584, layers=28, heads=28, kv_heads=4, vocabulary=152_064, tied=False, **{**_COMMON, "intermediate": 18_944}),
}
SMALL = replace(TINY, lengths="even", held_out=0.0)
PICTURE_CONTENDERS = (
    Contender("loraforge", "product"),
    Contender("loraforge checkpointing", "product", {"checkpointing": True}),
    Contender("diffusers loop", "plain_diffusers"),
    Contender("diffusers loop checkpointing", "plain_diffusers", {"checkpointing": True}),
)
SMALL_PICTURES = (("sd15", 64), ("sdxl", 64))
PICTURES = (("sd15", 512), ("sd15", 1024), ("sdxl", 512), ("sdxl", 1024))


def has(python: str, *packages: str) -> bool:
    """Whether an interpreter finds all these packages."""
    code = f"import importlib.util as u, sys; sys.exit(not all(u.find_spec(p) for p in {packages!r}))"
    return subprocess.run([python, "-c", code], capture_output=True).returncode == 0


def text_contenders(trl_python: str) -> list[Contender]:
    """LoRAForge, and TRL with everything that its environment offers: flash attention with padding-free batches, Liger kernels."""
    missing = None if has(trl_python, "trl") else f"skipped: {trl_python} has no trl"
    made = [
        Contender("loraforge", "product"),
        Contender("loraforge checkpointing", "product", {"checkpointing": True}),
        Contender("trl", "trl_sft", {}, trl_python, missing),
        Contender("trl checkpointing", "trl_sft", {"checkpointing": True}, trl_python, missing),
    ]
    best: dict[str, Any] = {}
    if missing is None and has(trl_python, "flash_attn"):
        best |= {"attention": "flash_attention_2", "padding_free": True}
    if missing is None and has(trl_python, "liger_kernel"):
        best |= {"liger": True}
    no = missing or (None if best else "skipped: neither flash_attn nor liger_kernel beside trl")
    made.append(Contender("trl flash/liger", "trl_sft", best, trl_python, no))
    made.append(Contender("trl flash/liger checkpointing", "trl_sft", {**best, "checkpointing": True}, trl_python, no))
    return made


def table(title: str, rounds: Sequence[Mapping[str, Run]], unit: str, flops: float, facts: Mapping[str, Any]) -> Table:
    """Speed, memory of the GPU, and share of the matrix rate."""
    columns = ["contender", f"{unit}/s", "GPU peak MB", "host peak MB", "share of matrix rate", "TFLOP/s measured", "against loraforge"]
    made = Table(title, columns, facts=dict(facts))
    for name in rounds[0]:
        runs = [found[name] for found in rounds if found[name].ok]
        made.notes += sorted({f"{name}: {found[name].reason}" for found in rounds if not found[name].ok})
        if not runs:
            made.rows.append([name, "-", "-", "-", "-", "-", "-"])
            continue
        made.rows.append([
            name,
            spread(middle([run.steady for run in runs]), 2),
            spread(middle([float(run.more.get("gpu_peak", 0.0)) for run in runs])),
            spread(middle([run.peak for run in runs])),
            spread(middle([run.steady * flops / run.rate if run.rate and flops else float("nan") for run in runs]), 2),
            spread(middle([run.rate / 1e12 if run.rate else float("nan") for run in runs]), 2),
            spread(ratios(rounds, "loraforge", name, lambda run: run.steady), 2) + " x",
        ])  # fmt: skip
    return made


def text(name: str, size: Size, work: Path, rounds: int, batch: int, device: str, trl_python: str) -> Table:
    """One shape of base."""
    made = prepared(size, work)
    spec = {**spec_of(made, "attention", batch_size=batch), "device": device, "dtype": size.dtype}
    folder = work / "runs" / f"gpu-text-{size.key()}"
    found = interleave(text_contenders(trl_python), spec, folder, rounds, lambda text: click.echo(text, err=True))
    facts = {**made.facts(), "batch": batch, "device": device, "rounds": rounds}
    return table(f"Text, {name}", found, "tokens", spec["flops_per_token"], facts)


def images(family: str, side: int, work: Path, rounds: int, count: int, batch: int, device: str, small: bool) -> Table:
    """One family at one resolution."""
    divide, rank = (16, 4) if small else (1, 8)
    bench = sdbase.prepared(work, family, divide, count, side, batch, rank, limit.DIFFUSERS)
    flops, edge = bench.work[limit.DIFFUSERS].flops / batch, 64 if small else 4096
    dtype = "float32" if device == "cpu" else "bfloat16"
    spec: dict[str, Any] = {
        "task": "image", "base": str(bench.base), "pictures": str(bench.pictures), "resolution": side, "batch_size": batch, "epochs": 1,
        "rank": rank, "alpha": rank, "learning_rate": 1e-4, "seed": 42, "device": device, "dtype": dtype,
        "gemms": [[edge, edge, edge, True, 1]], "lora_target": list(limit.ATTENTION),
    }  # fmt: skip
    chosen = [one for one in PICTURE_CONTENDERS if not small or "checkpointing" not in one.name]
    folder = work / "runs" / f"gpu-image-{family}-{side}-{divide}"
    found = interleave(chosen, spec, folder, rounds, lambda text: click.echo(text, err=True))
    facts = {"pictures": count, "batch": batch, "device": device, "widths": f"1/{divide}", "rounds": rounds}
    return table(f"Pictures, {family} at {side}", found, "pictures", flops, {**facts, "GFLOP/picture": round(flops / 1e9, 1)})


@click.command()
@click.option("--what", type=click.Choice(["text", "image", "both"]), default="both", show_default=True)
@click.option("--shape", "shapes", multiple=True, type=click.Choice(list(SHAPES)), help="By default both.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--rows", default=160, show_default=True, help="Rows of 512 tokens.")
@click.option("--batch-size", default=8, show_default=True)
@click.option("--pictures", "count", default=48, show_default=True)
@click.option("--trl-python", default=sys.executable, help="The interpreter of an environment with TRL; by default this one.")
@click.option("--work", type=click.Path(path_type=Path), help="Where bases, rows and runs are kept; by default the user's cache.")
@click.option("--out", type=click.Path(path_type=Path), help="Write gpu.md and gpu.json there.")
@click.option("--small", is_flag=True, help="Tiny shapes on the CPU.")
def command(
    what: str,
    shapes: Sequence[str],
    rounds: int,
    rows: int,
    batch_size: int,
    count: int,
    trl_python: str,
    work: Path | None,
    out: Path | None,
    small: bool,
) -> None:
    """A GPU: text against TRL at its best, pictures against a plain diffusers loop, both against the matrix rate."""
    kept = work or cache_folder()
    device = "cpu" if small else "cuda"
    if small:
        rounds, count, batch_size = 1, 4, 2
    tables = []
    if what in ("text", "both"):
        chosen = {"small": SMALL} if small else {name: SHAPES[name] for name in shapes or SHAPES}
        for name, size in chosen.items():
            tables.append(text(name, replace(size, rows=12 if small else rows), kept, rounds, batch_size, device, trl_python))
    if what in ("image", "both"):
        for family, side in SMALL_PICTURES if small else PICTURES:
            tables.append(images(family, side, kept, rounds, count, batch_size if small else 4, device, small))
    publish("gpu", tables, out, {"machine": machine()})
