# SPDX-License-Identifier: Apache-2.0
"""Contenders in fresh processes, rounds interleaved, everything that fails kept as a row with its reason.

A contender is ``INTERPRETER -m benchmarks.contender SPEC RESULT``. The interpreter is ours or a peer's; the module imports nothing but the
standard library before it knows what to run. The rounds go A B C, B C A, C A B ...: what the machine does in one minute hits all alike,
and ratios are taken inside one round.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SKIPPED_STEPS = 3  # the first steps pay for warming up


@dataclass(frozen=True)
class Contender:
    """One row of a table.

    Attributes:
        name: what the table calls it.
        kind: the module in ``benchmarks.contenders`` that runs it.
        options: what it adds to the spec of the workload.
        python: the interpreter; None if it was not given.
        missing: why it cannot be run, if it cannot.
    """

    name: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    python: str | None = sys.executable
    missing: str | None = None

    @property
    def absent(self) -> str | None:
        """Why this contender is skipped, or None."""
        if self.missing:
            return self.missing
        if self.python is None or not Path(self.python).exists():
            return f"skipped: no interpreter at {self.python}" if self.python else "skipped: no interpreter was given"
        return None


@dataclass(frozen=True)
class Run:
    """What one process did.

    Attributes:
        wall: seconds from the start of the process to the saved adapter.
        peak: VmHWM of the process at that moment, in MB (2**20).
        steps: (seconds since 1970, tokens or pictures so far) at the end of every optimizer step.
        rate: operations per second of the machine, measured in the process on the workload's shapes; 0 if it was not measured.
        best_rate: the same by the faster one of torch's libraries.
    """

    contender: str
    reason: str | None = None
    started: float = 0.0
    wall: float = 0.0
    peak: float = 0.0
    steps: Sequence[Sequence[float]] = ()
    rate: float = 0.0
    best_rate: float = 0.0
    adapter: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether it ran to its end."""
        return self.reason is None

    @property
    def units(self) -> float:
        """All that was processed."""
        return float(self.steps[-1][1]) if self.steps else 0.0

    @property
    def steady(self) -> float:
        """Units per second after the first few steps; nan if there are no such steps."""
        return steady(self.steps)

    @property
    def step_seconds(self) -> float:
        """The median length of the steady steps."""
        times = [float(step[0]) for step in self.steps]
        skip = min(SKIPPED_STEPS, max(0, len(times) - 2))
        gaps = [b - a for a, b in zip(times[skip:], times[skip + 1 :], strict=False)]
        return statistics.median(gaps) if gaps else float("nan")

    def share(self, operations: float, best: bool = False) -> float:
        """Of the machine's limit, at so many operations for each unit: ideal time over steady time; nan where it was not measured."""
        rate = self.best_rate if best else self.rate
        return self.steady * operations / rate if rate else float("nan")

    @property
    def whole(self) -> float:
        """Units per second of the whole process, loading and saving included."""
        return self.units / self.wall if self.wall else float("nan")

    @property
    def first_step(self) -> float:
        """Seconds from the start of the process to the end of its first step."""
        return float(self.steps[0][0]) - self.started if self.steps else float("nan")


def steady(steps: Sequence[Sequence[float]]) -> float:
    """Units per second between the end of the first few steps and the end of the last."""
    skip = min(SKIPPED_STEPS, max(1, len(steps) - 1))
    if len(steps) <= skip:
        return float("nan")
    first, last = steps[skip - 1], steps[-1]
    return (last[1] - first[1]) / (last[0] - first[0]) if last[0] > first[0] else float("nan")


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment(threads: int | None = None) -> dict[str, str]:
    """The environment of every contender: offline, all cores, no telemetry, UTF-8; and as many threads for every one of them."""
    count = str(threads or os.environ.get("OMP_NUM_THREADS") or cores())
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTEST_XDIST_WORKER", "LORAFORGE_BLOCK", "LD_PRELOAD")}
    return {
        **inherited,
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "WANDB_DISABLED": "true",
        "LORAFORGE_LANG": "en",
        "PYTHONUTF8": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


def run_contender(contender: Contender, spec: Mapping[str, Any], folder: Path, timeout: float = 7200) -> Run:
    """One contender in a process of its own, in a fresh ``folder``."""
    absent = contender.absent
    if absent:
        return Run(contender.name, absent)
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier call: its runs and caches would be found again
    folder.mkdir(parents=True, exist_ok=True)
    given, result, log = folder / "spec.json", folder / "result.json", folder / "output.txt"
    given.write_text(json.dumps({**spec, **contender.options, "kind": contender.kind, "folder": str(folder)}), encoding="utf-8")
    command = [str(contender.python), "-m", "benchmarks.contender", str(given), str(result)]
    started = time.time()
    with log.open("w", encoding="utf-8") as out:
        try:
            code = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, env=environment(), cwd=folder, timeout=timeout).returncode
        except subprocess.TimeoutExpired:
            return Run(contender.name, f"failed: longer than {timeout:.0f} s")
    if not result.is_file():
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return Run(contender.name, f"failed: exit code {code}: {lines[-1][:200] if lines else 'it said nothing'}")
    found = json.loads(result.read_text(encoding="utf-8"))
    if found.get("reason"):
        return Run(contender.name, f"failed: {found['reason'][:300]}")
    known = ("wall", "finished", "peak", "steps", "rate", "best_rate", "adapter")
    return Run(
        contender.name,
        None,
        started,
        found["finished"] - started,
        found["peak"],
        found["steps"],
        found.get("rate", 0.0),
        found.get("best_rate", 0.0),
        found.get("adapter"),
        {key: value for key, value in found.items() if key not in known},
    )


def interleave(
    contenders: Sequence[Contender],
    spec: Mapping[str, Any],
    folder: Path,
    rounds: int,
    note: Callable[[str], None] = lambda text: None,
    timeout: float = 7200,
) -> list[dict[str, Run]]:
    """Every contender once in each round; each round begins with the next one. What cannot run is not tried twice."""
    done: list[dict[str, Run]] = []
    for number in range(rounds):
        start = number % max(1, len(contenders))
        found: dict[str, Run] = {}
        for contender in [*contenders[start:], *contenders[:start]]:
            before = done[-1].get(contender.name) if done else None
            if before is not None and not before.ok:
                found[contender.name] = before
                continue
            run = run_contender(
                contender, spec, folder / f"round-{number + 1}" / contender.name.replace(" ", "-").replace("/", "-"), timeout
            )
            found[contender.name] = run
            what = run.reason or f"{run.wall:.1f} s, steady {run.steady:.1f} units/s, {run.peak:.0f} MB"
            note(f"round {number + 1}/{rounds}: {contender.name}: {what}")
        done.append({contender.name: found[contender.name] for contender in contenders})
    return done


def middle(values: Sequence[float]) -> tuple[float, float, float]:
    """(median, lowest, highest); nan where there is nothing."""
    real = [value for value in values if value == value]
    return (statistics.median(real), min(real), max(real)) if real else (float("nan"),) * 3


def ratios(rounds: Sequence[Mapping[str, Run]], ours: str, theirs: str, figure: Callable[[Run], float]) -> tuple[float, float, float]:
    """Ours over theirs, taken inside each round: (median, lowest, highest)."""
    pairs = [(found[ours], found[theirs]) for found in rounds if ours in found and theirs in found]
    return middle([figure(a) / figure(b) for a, b in pairs if a.ok and b.ok and figure(b)])


def vmhwm() -> float:
    """The most memory that this process has held, in MB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0
