# SPDX-License-Identifier: Apache-2.0
"""Why a training had to stop, and what usually helps: for the person at the keyboard."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.schema import RunConfig
from ..errors import StoppedOnRequest, TrainingError
from ..messages import speaker

if TYPE_CHECKING:
    from ..data.dataset import Data
    from ..plan import Plan
    from ..runs.folder import RunFolder

say = speaker(__name__)


@contextlib.contextmanager
def explained(plan: Plan, data: Data, config: RunConfig, folder: RunFolder) -> Iterator[None]:
    """What the loop raises inside becomes a message.

    Args:
        config: the plan's, with ``precision`` decided.

    Raises:
        TrainingError: where training cannot go on.
        StoppedOnRequest: where somebody asked it to stop, and it did.
    """
    from ..training.loop import NotFinite, OutOfMemory, Stopped

    try:
        yield
    except NotFinite as error:
        learned = [data.records[i].where for i in data.learned()]
        raise TrainingError(not_finite(error, learned, folder.checkpoints())) from None
    except OutOfMemory as error:
        raise TrainingError(out_of_memory(error, config, _longest(plan), folder.checkpoints())) from None
    except Stopped as error:
        raise StoppedOnRequest(
            say("Stopped after step {step}, as asked; everything is saved. --resume goes on from there.", step=error.step)
        ) from None


@contextlib.contextmanager
def loading(plan: Plan, config: RunConfig) -> Iterator[None]:
    """The base is loaded and the examples are encoded inside.

    Raises:
        TrainingError: if the memory does not suffice for that.
    """
    from ..training.loop import ran_out_of_memory

    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        reason = str(error).strip().split("\n")[0] or type(error).__name__
    else:
        return
    # Out of the handler: the error holds the frames, and with them the tensors, of what did not fit.
    raise TrainingError(
        [
            say("the memory does not suffice to load {base} and to encode the examples ({reason}).", base=config.base_model, reason=reason),
            say("What usually helps: {settings}, a smaller lora_rank, a smaller base model.", settings=_helps(config, _longest(plan))),
            say("`loraforge check` says how much memory a config needs, and which settings fit (--gpu 24GB for a graphics card)."),
        ]
    )


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
    return [
        say("step {step}: the memory does not suffice ({reason}).", step=error.step, reason=error.reason),
        say("What usually helps: {settings}, a smaller lora_rank, a smaller base model.", settings=_helps(config, longest)),
        say("`loraforge check` says how much memory a config needs, and which settings fit (--gpu 24GB for a graphics card)."),
        say("The last checkpoint: {path}", path=checkpoints[-1] if checkpoints else say("none")),
    ]


def _longest(plan: Plan) -> str:
    """The key that bounds the size of one example."""
    return next((key for key in ("max_seq_length", "resolution") if key in plan.keys.flat()), "")


def _helps(config: RunConfig, longest: str) -> str:
    """Settings that need less memory."""
    helps = [] if config.gradient_checkpointing else ["gradient_checkpointing: true"]
    helps += [longest] if longest else []
    # What bounds an example is its length in tokens for language models, which are not kept in 8 bits, and its pixels for pictures.
    fewer = {"max_seq_length": "4bit", "resolution": "fp8"}.get(longest)
    helps += [f"precision: {fewer}"] if fewer and config.precision not in ("fp8", "4bit", "auto") else []
    return ", ".join(helps or ["batch_size: 1"])


def memory_ran_out(rows: int, passes: int) -> str:
    """The same with fewer examples in a pass (``MemoryRanOut``)."""
    return say(
        "too little for a pass; from now on {rows} examples in each and {passes} passes in a step. The result is the same.",
        rows=rows,
        passes=passes,
    )
