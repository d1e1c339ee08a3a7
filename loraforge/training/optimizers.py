"""The optimizer and the schedule of the learning rate that a config names."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from ..config.schema import RunConfig


def make_optimizer(config: RunConfig, parameters: Sequence[Any]) -> torch.optim.Optimizer:
    """The optimizer that the config names, over the adapter's parameters, or over groups of them with learning rates of their own."""
    import torch

    made: torch.optim.Optimizer
    if config.optimizer == "adamw_8bit":
        import bitsandbytes

        made = bitsandbytes.optim.AdamW8bit(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
        return made
    if config.optimizer == "adafactor":
        from transformers.optimization import Adafactor

        made = Adafactor(
            parameters,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            scale_parameter=False,
            relative_step=False,
            warmup_init=False,
        )
        return made
    inside = [p for group in parameters for p in (group["params"] if isinstance(group, dict) else [group])]
    fused = {p.device.type for p in inside} <= {"cpu", "cuda"}  # one pass over the weights instead of ten
    return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused)


def make_scheduler(config: RunConfig, optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """The schedule of the learning rate, stepped once per optimizer step."""
    from transformers.optimization import get_scheduler

    warmup = math.ceil(config.warmup * steps) if config.warmup < 1 else round(config.warmup)
    name = "constant_with_warmup" if config.lr_scheduler == "constant" and warmup else config.lr_scheduler
    made = get_scheduler(name, optimizer, num_warmup_steps=min(warmup, steps), num_training_steps=steps + 1)
    with warnings.catch_warnings():
        # Its first rate is 0, which would waste a step: begin at the second. torch takes that for a mistake.
        warnings.simplefilter("ignore")
        made.step()
    return made  # type: ignore[no-any-return]
