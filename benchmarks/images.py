# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks image``: LoRAForge beside a plain diffusers loop and the scripts of diffusers and kohya, on a quartered SD1.5.

The base has Stable Diffusion 1.5's topology with every width quartered and random weights. All train the U-Net's LoRA on the same
pictures, as often, in fp32.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from . import limit, picturescoring, sdbase
from .measuring import Contender, Run, interleave, middle, ratios, run_contender
from .reporting import Table, machine, publish, spread
from .workload import cache_folder

OURS, OURS_KOHYA, WARM = "loraforge", "loraforge kohya targets", "loraforge warm cache"
PLAIN, SCRIPT, KOHYA = "plain-diffusers", "diffusers script", "kohya script"
_CHECKPOINTING = " checkpointing"


def contenders(
    bench: sdbase.Bench,
    cache: Path,
    diffusers_checkout: str | None = None,
    diffusers_python: str | None = None,
    kohya_checkout: str | None = None,
    kohya_python: str | None = None,
    plain_init: str = "gaussian",
) -> list[Contender]:
    """Every row of the table, in its order.

    Args:
        cache: where the run with a warm cache finds what an earlier one encoded.
    """

    def of(kind: str, **more: Any) -> dict[str, Any]:
        work = bench.work[kind]
        measured = {"gemms": work.gemms, "convolutions": work.convolutions, "flops": work.flops}
        return {"lora_target": list(limit.ATTENTION) if kind == limit.DIFFUSERS else "all-linear", **measured, **more}

    attention, linear = of(limit.DIFFUSERS), of(limit.KOHYA)
    return [
        Contender(OURS, "product", attention),
        Contender(OURS + _CHECKPOINTING, "product", {**attention, "checkpointing": True}),
        Contender(WARM, "product", {**attention, "cache": str(cache)}),
        Contender(OURS_KOHYA, "product", linear),
        Contender(OURS_KOHYA + _CHECKPOINTING, "product", {**linear, "checkpointing": True}),
        Contender(PLAIN, "plain_diffusers", {**attention, "init": plain_init}),
        _peer(SCRIPT, "diffusers_script", attention, "diffusers", diffusers_checkout, diffusers_python),
        _peer(KOHYA, "kohya_script", linear, "kohya", kohya_checkout, kohya_python),
    ]


def _peer(name: str, kind: str, options: Mapping[str, Any], option: str, checkout: str | None, python: str | None) -> Contender:
    """A script out of a checkout, or a row that says why there is none."""
    lacking = [f"--{option}-{what}" for what, value in (("checkout", checkout), ("python", python)) if not value]
    said = f"skipped: {' and '.join(lacking)} {'was' if len(lacking) == 1 else 'were'} not given" if lacking else None
    return Contender(name, kind, {**options, "checkout": str(Path(checkout or "").absolute())}, python, said)


def spec_of(bench: sdbase.Bench, rank: int, epochs: int, rate_seconds: float = 4.0) -> dict[str, Any]:
    """What every contender is told."""
    return {
        "task": "image",
        "base": str(bench.base),
        "pictures": str(bench.pictures),
        "resolution": bench.side,
        "batch_size": bench.batch,
        "epochs": epochs,
        "units": bench.count * epochs,
        "rank": rank,
        "alpha": rank,
        "learning_rate": 1e-4,
        "seed": 42,
        "rate_seconds": rate_seconds,
    }


def over_ideal(run: Run, flops: float, best: bool = False) -> float:
    """A steady step's time over the time that its operations need at the measured rate, or at that of the faster library."""
    rate = run.best_rate if best else run.rate
    return run.step_seconds * rate / flops if rate else float("nan")


def table(
    rounds: Sequence[Mapping[str, Run]],
    chosen: Sequence[Contender],
    losses: Mapping[str, float],
    facts: Mapping[str, Any],
) -> Table:
    """One row per contender: medians over the rounds, with their ranges."""
    columns = [
        "contender", "whole run pictures/s", "wall s", "steady step s", "end of first step s", "peak MB", "step / ideal", "share of limit",
        "machine GFLOP/s", "step / ideal of the faster library", "loss of the adapter",
    ]  # fmt: skip
    made = Table("Pictures, SD1.5 with quartered widths", columns, facts=facts)
    for one in chosen:
        runs = [found[one.name] for found in rounds if found[one.name].ok]
        reasons = sorted({str(found[one.name].reason) for found in rounds if not found[one.name].ok})
        made.notes += [f"{one.name}: {reason}" for reason in reasons]
        if not runs:
            made.rows.append([one.name, reasons[0].split(":")[0], *["-"] * (len(columns) - 2)])
            continue
        ideal = [over_ideal(run, one.options["flops"]) for run in runs]
        made.rows.append([
            one.name,
            spread(middle([run.whole for run in runs]), 2),
            spread(middle([run.wall for run in runs]), 1),
            spread(middle([run.step_seconds for run in runs]), 2),
            spread(middle([run.first_step for run in runs]), 1),
            spread(middle([run.peak for run in runs])),
            spread(middle(ideal), 2),
            spread(middle([1 / value for value in ideal]), 2),
            spread(middle([run.rate / 1e9 if run.rate else float("nan") for run in runs])),
            spread(middle([over_ideal(run, one.options["flops"], best=True) for run in runs]), 2),
            f"{losses[one.name]:.5f}" if one.name in losses else "-",
        ])  # fmt: skip
    if any(one.options.get("init") == "gaussian" for one in chosen):
        made.notes.append(
            "plain-diffusers begins with a normal A of deviation 1/rank, as diffusers' script does; LoRAForge and kohya with PEFT's "
            "smaller one, so that their first steps move less. --plain-init peft begins alike."
        )
    if "base" in losses:
        made.notes.append(f"loss of the base without an adapter: {losses['base']:.5f}")
    return made


def _wanted() -> list[tuple[str, str, str, Callable[[Run], float], str]]:
    """(figure, ours, theirs, what is compared, goal)."""

    def whole(run: Run) -> float:
        return run.whole

    def step(run: Run) -> float:
        return run.step_seconds

    def peak(run: Run) -> float:
        return run.peak

    def first(run: Run) -> float:
        return run.first_step

    rows: list[tuple[str, str, str, Callable[[Run], float], str]] = []
    for theirs, goal in ((PLAIN, "(>= 2.0 is the goal against the script)"), (SCRIPT, ">= 2.0")):
        rows.append(("pictures/s of a whole run", OURS, theirs, whole, goal))
        rows.append(("pictures/s of a whole run", WARM, theirs, whole, ""))
    rows.append(("pictures/s of a whole run", OURS_KOHYA, KOHYA, whole, ">= 1.5"))
    rows += [("steady step", OURS, theirs, step, "") for theirs in (PLAIN, SCRIPT)]
    rows.append(("steady step", OURS_KOHYA, KOHYA, step, "<= 0.85"))
    for theirs, hint in ((PLAIN, True), (SCRIPT, False)):
        rows.append(("peak memory", OURS, theirs, peak, "(<= 0.75 against the script)" if hint else "<= 0.75"))
        rows.append(("peak memory", OURS + _CHECKPOINTING, theirs, peak, "(<= 0.6 against the script)" if hint else "<= 0.6"))
    rows.append(("peak memory", OURS_KOHYA, KOHYA, peak, ""))
    rows += [("end of the first step", OURS, theirs, first, "") for theirs in (PLAIN, SCRIPT)]
    rows.append(("end of the first step", OURS_KOHYA, KOHYA, first, "<= 0.4"))
    return rows


def goals(rounds: Sequence[Mapping[str, Run]], chosen: Sequence[Contender], losses: Mapping[str, float]) -> Table:
    """The issue's goals; ratios are taken inside each round."""
    made = Table("Ratios inside each round", ["figure", "ours", "against", "ratio", "goal"])
    flops = {one.name: float(one.options["flops"]) for one in chosen}
    ran = {name for found in rounds for name, run in found.items() if run.ok}
    for figure, ours, theirs, value, goal in _wanted():
        if {ours, theirs} <= ran:
            made.rows.append([figure, ours, theirs, spread(ratios(rounds, ours, theirs, value), 2), goal])
    for ours in (OURS, OURS_KOHYA):
        if ours in ran:
            ideal = middle([over_ideal(found[ours], flops[ours]) for found in rounds if found[ours].ok])
            made.rows.append(["steady step", ours, "the ideal", spread(ideal, 2), "<= 1.5"])
    for ours, theirs in ((OURS, PLAIN), (OURS, SCRIPT), (OURS_KOHYA, KOHYA)):
        if ours in losses and theirs in losses:
            made.rows.append(["loss of the adapter", ours, theirs, f"{losses[ours] / losses[theirs]:.4f}", "<= 1.01"])
            fell = [losses["base"] - losses[name] for name in (ours, theirs)]
            made.rows.append(["how far the loss fell", ours, theirs, f"{fell[0] / fell[1]:.2f}" if fell[1] else "-", ""])
    return made


def warmed(spec: Mapping[str, Any], chosen: Sequence[Contender], folder: Path) -> None:
    """Fills the cache of the run with a warm one, by an uncounted run."""
    for one in chosen:
        if one.name == WARM:
            run = run_contender(one, {**spec, "gemms": []}, folder / "warming")
            click.echo(f"warming the cache: {run.reason or f'{run.wall:.1f} s'}", err=True)


def adapters_of(rounds: Sequence[Mapping[str, Run]]) -> dict[str, str]:
    """Each contender's last adapter."""
    return {name: run.adapter for found in rounds for name, run in found.items() if run.ok and run.adapter}


@click.command()
@click.option("--pictures", "count", default=24, show_default=True)
@click.option("--epochs", default=4, show_default=True)
@click.option("--rounds", default=3, show_default=True, help="Every contender runs once in each.")
@click.option("--only", multiple=True, help="Names of contenders, also with stars ('loraforge*'); by default all.")
@click.option("--diffusers-checkout", type=click.Path(exists=True, file_okay=False), help="A checkout of diffusers, for its script.")
@click.option("--diffusers-python", help="The interpreter of an environment with diffusers and its script's requirements.")
@click.option("--kohya-checkout", type=click.Path(exists=True, file_okay=False), help="A checkout of kohya's sd-scripts.")
@click.option("--kohya-python", help="The interpreter of an environment with its requirements.")
@click.option(
    "--plain-init",
    type=click.Choice(["gaussian", "peft"]),
    default="gaussian",
    show_default=True,
    help="How the plain loop's LoRA begins: as diffusers' script has it, or as PEFT, kohya and LoRAForge do.",
)
@click.option("--work", type=click.Path(path_type=Path), help="Where bases, pictures and runs are kept; by default the user's cache.")
@click.option("--out", type=click.Path(path_type=Path), help="Write image.md and image.json there.")
@click.option("--name", default="image", show_default=True, help="The name of those files.")
@click.option("--tiny", is_flag=True, help="A sixteenth of the widths, 4 pictures of 64x64: whether all works, not how fast it is.")
def command(
    count: int,
    epochs: int,
    rounds: int,
    only: Sequence[str],
    diffusers_checkout: str | None,
    diffusers_python: str | None,
    kohya_checkout: str | None,
    kohya_python: str | None,
    plain_init: str,
    work: Path | None,
    out: Path | None,
    name: str,
    tiny: bool,
) -> None:
    """Pictures: pictures/s, peak memory, share of the machine's limit and the adapter's loss of every trainer, on the same pictures."""
    kept = (work or cache_folder()).absolute()
    divide, count, side, batch, rank = (16, min(count, 4), 64, 2, 4) if tiny else (4, count, 256, 4, 8)
    if count % batch:
        raise click.BadParameter(f"a multiple of {batch}, so that all count the same steps", param_hint="--pictures")
    bench = sdbase.prepared(kept, "sd15", divide, count, side, batch, rank, limit.DIFFUSERS, limit.KOHYA)
    folder = kept / "runs" / f"{name}-{divide}-{count}"
    folder.mkdir(parents=True, exist_ok=True)
    cache = folder / "warming" / "cache"
    chosen = contenders(bench, cache, diffusers_checkout, diffusers_python, kohya_checkout, kohya_python, plain_init)
    if only:
        chosen = [one for one in chosen if any(fnmatch.fnmatchcase(one.name, word) for word in only)]
    if not chosen:
        raise click.BadParameter("no contender has such a name", param_hint="--only")
    spec = spec_of(bench, rank, epochs, 0.2 if tiny else 4.0)
    warmed(spec, chosen, folder)
    found = interleave(chosen, spec, folder, rounds, lambda text: click.echo(text, err=True))
    adapters = adapters_of(found)
    losses = picturescoring.score(spec, adapters, folder) if adapters else {}
    work_ = {kind: f"{one.flops / 1e9:.1f}" for kind, one in bench.work.items()}
    facts = {
        **machine(), "U-Net parameters": bench.work[limit.DIFFUSERS].parameters, "pictures": count, "size": f"{side}x{side}",
        "batch": batch, "rank": rank, "steps": count // batch * epochs, "rounds": rounds,
        **{f"GFLOP/step ({kind} targets)": figure for kind, figure in work_.items()},
    }  # fmt: skip
    tables = [table(found, chosen, losses, facts)]
    compared = goals(found, chosen, losses)
    if compared.rows:
        tables.append(compared)
    raw = {"rounds": [{key: run.__dict__ for key, run in one.items()} for one in found], "losses": losses}
    publish(name, tables, out, raw)
