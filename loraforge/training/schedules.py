# SPDX-License-Identifier: Apache-2.0
"""The schedule of the learning rate that a config names."""

from __future__ import annotations

import functools
import math
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from ..config.schema import RunConfig


def make_scheduler(config: RunConfig, optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """The schedule of the learning rate, stepped once per optimizer step.

    What falls would reach 0 one step after the last. The curves are transformers', but for REX (Chen, Wolfe and Kyrillidis 2021).
    """
    warmup = min(_count(config.warmup, steps), steps)
    with warnings.catch_warnings():
        # Its first rate is 0, which would waste a step: begin at the second. torch takes that for a mistake.
        warnings.simplefilter("ignore")
        made = _made(config, optimizer, warmup, steps + 1)
        made.step()
    return made


def _made(config: RunConfig, optimizer: torch.optim.Optimizer, warmup: int, end: int) -> torch.optim.lr_scheduler.LRScheduler:
    """The schedule as its library has it.

    Args:
        end: the step at which what falls is 0.
    """
    name = config.lr_scheduler
    if name == "rex":
        import torch

        return torch.optim.lr_scheduler.LambdaLR(optimizer, functools.partial(_rex, warmup=warmup, end=end))
    from transformers.optimization import get_scheduler

    special: dict[str, Any] = {}
    if name == "cosine_with_restarts":
        special = {"num_cycles": config.lr_scheduler_cycles}
    elif name == "polynomial":
        special = {"power": config.lr_scheduler_power, "lr_end": 0.0}
    elif name == "warmup_stable_decay":
        special = {"num_decay_steps": min(max(1, _count(config.lr_scheduler_decay, end - 1)), end - warmup)}
    kind = "constant_with_warmup" if name == "constant" and warmup else name
    made = get_scheduler(kind, optimizer, num_warmup_steps=warmup, num_training_steps=end, scheduler_specific_kwargs=special or None)
    return made  # type: ignore[no-any-return]


def _count(value: float, steps: int) -> int:
    """Steps from a share of all of them (below 1) or a number."""
    return math.ceil(value * steps) if value < 1 else round(value)


def _rex(step: int, *, warmup: int, end: int) -> float:
    """The factor of the rate: (1 - z) / (1/2 + (1 - z) / 2), where z of the steps after the warm-up are made."""
    if step < warmup:
        return step / warmup
    left = max(0.0, (end - step) / max(1, end - warmup))
    return left / (0.5 + 0.5 * left)
