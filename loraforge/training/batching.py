# SPDX-License-Identifier: Apache-2.0
"""How many steps a run takes, which examples each of them holds, and how a step is cut into batches. A function of (seed, epoch) alone."""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ..config.schema import RunConfig

T = TypeVar("T")


@dataclass(frozen=True)
class Schedule:
    """How many steps a run takes, and after which of them it saves."""

    examples: int
    per_step: int
    steps: int

    save_steps: int = field(default=0, compare=False)
    save_epochs: int = field(default=0, compare=False)

    @property
    def per_epoch(self) -> int:
        """Optimizer steps in one pass over the examples; the last one may be smaller."""
        return math.ceil(self.examples / self.per_step)

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is written after ``step``: a multiple of save_steps, the last step of every so many passes, or of all."""
        passes = self.save_epochs * self.per_epoch
        return step == self.steps or any(every and step % every == 0 for every in (self.save_steps, passes))

    @property
    def saved(self) -> int:
        """How many checkpoints are written in all."""
        return sum(1 for step in range(1, self.steps + 1) if self.saves(step))


def schedule(config: RunConfig, examples: int, processes: int = 1) -> Schedule:
    """The steps of a run over ``examples`` examples: those of its epochs; ``max_steps`` ends it earlier, and never makes it longer."""
    per_step = config.batch_size * config.gradient_accumulation * processes
    steps = max(1, round(config.epochs * math.ceil(examples / per_step)))
    steps = min(steps, config.max_steps) if config.max_steps else steps
    return Schedule(examples, per_step, steps, config.save_steps, config.save_epochs)


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
