# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks startup``: how long a command takes to answer, and a run to its first step."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from .measuring import Contender, Run, environment, interleave, middle
from .reporting import Table, machine, publish, spread
from .text import prepared, spec_of
from .workload import TINY, Size, cache_folder

_BARE = """
import sys, time
import torch, transformers, peft, accelerate
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
"""
# With what the wheels on the package index break taken away; as the program itself starts otherwise.
_LLAMAFACTORY = """
from benchmarks.contenders.llamafactory import hide_broken
hide_broken()
from llamafactory.cli import main
main()
"""
_NO_TORCH = """
import sys
from loraforge.cli.main import main
try:
    main(["check", "text", sys.argv[1]])
except SystemExit as ended:
    assert not ended.code, ended.code
assert "torch" not in sys.modules
print("also:", ", ".join(sorted({"transformers", "peft", "accelerate", "diffusers"} & set(sys.modules))) or "none of them")
"""


@dataclass(frozen=True)
class Command:
    """One command line that is timed; None where its interpreter was not given.

    Attributes:
        instead: the line for a machine on which the first fails.
    """

    name: str
    line: Sequence[str] | None
    instead: Sequence[str] | None = None


def commands(config: Path, base: Path, trl_python: str | None, llamafactory_python: str | None) -> list[Command]:
    """What is timed, in the order of the table."""
    ours = [sys.executable, "-m", "loraforge"]
    script = Path(sys.executable).with_name("loraforge")  # what people type
    front = [str(script)] if script.exists() else ours
    return [
        Command('python -c "import click"', [sys.executable, "-c", "import click"]),
        Command("loraforge --help", [*front, "--help"]),
        Command("loraforge check", [*front, "check", "text", str(config)]),
        Command("trl --help", _beside(trl_python, "trl", "--help")),
        Command(
            "llamafactory-cli version",
            _beside(llamafactory_python, "llamafactory-cli", "version"),
            [str(llamafactory_python), "-c", _LLAMAFACTORY, "version"],
        ),
        Command("bare imports and model load", [sys.executable, "-c", _BARE, str(base)]),
    ]


def _beside(python: str | None, program: str, argument: str) -> list[str] | None:
    """A program that lies beside an interpreter."""
    if python is None or not Path(python).with_name(program).exists():
        return None
    return [str(Path(python).with_name(program)), argument]


def timed(line: Sequence[str]) -> float:
    """Seconds of one call.

    Raises:
        RuntimeError: if it fails.
    """
    started = time.perf_counter()
    done = subprocess.run(line, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=tempfile.gettempdir())
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {' '.join(done.stderr.split())[-200:]}")
    return seconds


def rounds_of(
    listed: Sequence[Command], rounds: int, note: Callable[[str], None], warming: bool = True
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """(seconds by command, reasons of those that cannot be timed); one uncounted call of each warms the disk's cache."""
    times: dict[str, list[float]] = {}
    reasons = {one.name: "skipped: its interpreter was not given" for one in listed if one.line is None}
    lines = {one.name: one.line for one in listed if one.line is not None}
    for number in range(0 if warming else 1, rounds + 1):
        start = number % len(listed)
        for one in [*listed[start:], *listed[:start]]:
            if one.name in reasons:
                continue
            try:
                seconds = timed(lines[one.name])
            except RuntimeError as error:
                if one.instead is None or lines[one.name] is one.instead:
                    reasons[one.name] = f"failed: {error}"
                    continue
                lines[one.name] = one.instead
                try:
                    seconds = timed(one.instead)
                except RuntimeError as again:
                    reasons[one.name] = f"failed: {error}; and without torchvision and torchaudio: {again}"
                    continue
            if number:
                times.setdefault(one.name, []).append(seconds)
        note(f"round {number}/{rounds}")
    return times, reasons


def without_torch(config: Path) -> str:
    """Whether ``loraforge check`` stays without torch, in words."""
    done = subprocess.run([sys.executable, "-c", _NO_TORCH, str(config)], env=environment(), capture_output=True, text=True)
    if done.returncode:
        return f"FAILED: {done.stderr.strip().splitlines()[-1]}"
    others = done.stdout.strip().splitlines()[-1].removeprefix("also: ")
    return f"torch is not imported (of transformers, peft, accelerate and diffusers: {others})"


def table(times: Mapping[str, Sequence[float]], reasons: Mapping[str, str], listed: Sequence[Command], runs: Sequence[Run]) -> Table:
    """Medians, and what the goals compare them with."""
    made = Table("Start-up", ["command", "seconds", "beside", "goal"], facts=machine())
    half = {name: statistics.median(values) for name, values in times.items()}
    click_s = half.get(listed[0].name)
    bare = half.get("bare imports and model load")
    own = half.get("loraforge --help")
    for one in listed:
        if one.name in reasons:
            made.rows.append([one.name, reasons[one.name].split(":")[0], "", ""])
            made.notes.append(f"{one.name}: {reasons[one.name]}")
            continue
        beside, goal = "", ""
        if one.name == "loraforge --help" and click_s:
            beside, goal = f"{half[one.name] - 1.5 * click_s:+.2f} s over 1.5 x click", "<= +0.10 s"
        elif one.name in ("trl --help", "llamafactory-cli version") and own:
            beside, goal = f"{half[one.name] / own:.1f} x loraforge --help", ">= 10 x"
        made.rows.append([one.name, spread(middle(times[one.name]), 2), beside, goal])
    good = [run for run in runs if run.ok]
    made.notes += sorted({f"loraforge train: {run.reason}" for run in runs if not run.ok})
    for name, values in (
        ("loraforge train text: start of the first step", [_first_step_start(run) for run in good]),
        ("loraforge train text: end of the first step", [run.first_step for run in good]),
    ):
        beside = f"{statistics.median(values) / bare:.2f} x bare" if values and bare else ""
        made.rows.append([name, spread(middle(values), 2), beside, "<= 1.3 x" if "start" in name else ""])
    return made


def _first_step_start(run: Run) -> float:
    """Seconds to the first step: everything is loaded, the pass that estimates the run's length is made, the first step is next."""
    return float(run.more["began"]) - run.started


@click.command()
@click.option("--rounds", default=10, show_default=True, help="Interleaved calls of each command.")
@click.option("--warm/--cold", default=True, show_default=True, help="One uncounted call of each command first.")
@click.option("--train-rounds", default=3, show_default=True, help="Runs of `loraforge train`.")
@click.option("--trl-python", help="The interpreter of an environment with TRL.")
@click.option("--llamafactory-python", help="The interpreter of an environment with LLaMA-Factory.")
@click.option("--work", type=click.Path(path_type=Path), help="Where bases, rows and runs are kept; by default the user's cache.")
@click.option("--out", type=click.Path(path_type=Path), help="Write startup.md and startup.json there.")
@click.option("--tiny", is_flag=True, help="A base of 64 units: whether everything works, not how fast it is.")
def command(
    rounds: int,
    warm: bool,
    train_rounds: int,
    trl_python: str | None,
    llamafactory_python: str | None,
    work: Path | None,
    out: Path | None,
    tiny: bool,
) -> None:
    """Start-up: --help, check, and the time from `loraforge train` to its first step."""
    from .contenders.product import config_of

    kept = work or cache_folder()
    made = prepared(TINY if tiny else replace(Size(), rows=24, held_out=0.0), kept)
    folder = kept / "runs" / f"startup-{made.size.key()}"
    folder.mkdir(parents=True, exist_ok=True)
    spec = {**spec_of(made, "attention"), "gemms": []}
    config = folder / "config.json"  # YAML reads JSON
    config.write_text(json.dumps(config_of({**spec, "folder": str(folder / "unused")})), encoding="utf-8")
    listed = commands(config, made.base, trl_python, llamafactory_python)
    times, reasons = rounds_of(listed, rounds, lambda text: click.echo(text, err=True), warm)
    found = interleave([Contender("loraforge", "product")], spec, folder, train_rounds, lambda text: click.echo(text, err=True))
    result = table(times, reasons, listed, [one["loraforge"] for one in found])
    result.notes.append(f"loraforge check: {without_torch(config)}")
    publish("startup", [result], out, {"times": times, "reasons": reasons})
