"""How many steps a run takes, which examples each of them holds, and how a step is cut into batches. A function of (seed, epoch) alone."""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ..config.schema import RunConfig

T = TypeVar("T")


@dataclass(frozen=True)
class Schedule:
    """How many steps a run takes."""

    examples: int
    per_step: int
    steps: int

    @property
    def per_epoch(self) -> int:
        """Optimizer steps in one pass over the examples; the last one may be smaller."""
        return math.ceil(self.examples / self.per_step)


def schedule(config: RunConfig, examples: int, processes: int = 1) -> Schedule:
    """The steps of a run over ``examples`` examples: those of its epochs; ``max_steps`` ends it earlier, and never makes it longer."""
    per_step = config.batch_size * config.gradient_accumulation * processes
    steps = max(1, round(config.epochs * math.ceil(examples / per_step)))
    return Schedule(examples, per_step, min(steps, config.max_steps) if config.max_steps else steps)


def epoch_steps(groups: Sequence[Hashable], per_step: int, seed: int, epoch: int) -> list[list[int]]:
    """The examples of every step of one epoch, by index.

    Steps hold one group where possible; what is left over of the groups shares the remaining steps, so that an epoch never has more than
    ceil(examples / per_step) steps. Independent of how a step is cut into batches.
    """
    rng = random.Random(f"{seed}/{epoch}")
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    steps: list[list[int]] = []
    rest: list[int] = []
    for indices in members.values():
        rng.shuffle(indices)
        whole = len(indices) - len(indices) % per_step
        steps += [indices[i : i + per_step] for i in range(0, whole, per_step)]
        rest += indices[whole:]
    rng.shuffle(rest)
    steps += [rest[i : i + per_step] for i in range(0, len(rest), per_step)]
    # The short step, if there is one, takes its place at random too.
    rng.shuffle(steps)
    return steps


def split_batches(indices: Sequence[int], groups: Sequence[Hashable], batch_size: int) -> list[list[int]]:
    """One step's examples as batches of at most ``batch_size`` of one group each."""
    members: dict[Hashable, list[int]] = {}
    for index in indices:
        members.setdefault(groups[index], []).append(index)
    return [part[i : i + batch_size] for part in members.values() for i in range(0, len(part), batch_size)]


def shard(batches: Sequence[T], process: int, processes: int) -> list[tuple[T, bool]]:
    """This process's batches, each with whether it counts: whole batches are repeated, uncounted, to a multiple of the processes."""
    padded = [(batch, True) for batch in batches]
    while len(padded) % processes:
        padded.append((batches[len(padded) % len(batches)], False))
    return padded[process::processes]
