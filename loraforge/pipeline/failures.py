"""Why a training had to stop, and what usually helps: for the person at the keyboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config.schema import RunConfig
from ..messages import speaker

say = speaker(__name__)


def not_finite(error: Any, where: Sequence[str], checkpoints: Sequence[Path]) -> list[str]:
    """A loss or gradient that is no number (``loop.NotFinite``).

    Args:
        where: the rows that are learned, in the order of the loop's examples.
    """
    return [
        say("step {step}: the {what} is not a number. Nothing was changed by this step.", step=error.step, what=say(error.what)),
        say("The rows of the step: {rows}", rows="; ".join(where[i] for i in error.rows)),
        say("What usually helps: a lower learning_rate; precision: bf16 or fp32 instead of fp16; a look at these rows."),
        say("The last checkpoint: {path}", path=checkpoints[-1] if checkpoints else say("none")),
    ]


def base_not_finite(precision: str) -> str:
    """The loss before the first step is no number: neither the rows nor the rate are to blame."""
    return say(
        "the base model's own loss is not a number, before anything is learned: its weights hold values that are no numbers, or are too "
        "large for precision: {precision}. Fetch the base again, or set precision: fp32.",
        precision=precision,
    )


def out_of_memory(error: Any, config: RunConfig, longest: str, checkpoints: Sequence[Path]) -> list[str]:
    """Too little memory even for one example at a time (``loop.OutOfMemory``).

    Args:
        longest: the key that bounds the size of one example: ``max_seq_length``, ``resolution``.
    """
    helps = [] if config.gradient_checkpointing else ["gradient_checkpointing: true"]
    helps += [] if config.precision in ("4bit", "auto") else ["precision: 4bit"]
    helps += [longest] if longest else []
    return [
        say("step {step}: the memory does not suffice ({reason}).", step=error.step, reason=error.reason),
        say("What usually helps: {settings}, a smaller lora_rank, a smaller base model.", settings=", ".join(helps)),
        say("`loraforge check` says how much memory a config needs, and which settings fit (--gpu 24GB for a graphics card)."),
        say("The last checkpoint: {path}", path=checkpoints[-1] if checkpoints else say("none")),
    ]


def memory_ran_out(rows: int, passes: int) -> str:
    """The same with fewer examples in a pass (``MemoryRanOut``)."""
    return say(
        "too little for a pass; from now on {rows} examples in each and {passes} passes in a step. The result is the same.",
        rows=rows,
        passes=passes,
    )
