# SPDX-License-Identifier: Apache-2.0
"""A first config for text, and what the data say of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from loraforge import ConfigLine, RunConfig, Seen, speaker

from ..records import Conversation

say = speaker(__name__)

BASE = "tiny-chat"
PROBE = {"max_seq_length": 1_000_000}
_STEPS = {True: (1000, 10, 60), False: (400, 3, 15)}  # of a base that is tiny or not: steps to aim for, fewest and most passes
_FEW = 40  # rows of which batches of 4 make too few steps


def first_lines(base: str) -> Sequence[ConfigLine]:
    """What a config for ``base`` says before any data are seen."""
    tiny = base == BASE
    chosen = say("a demonstration of a few megabytes; for real work Qwen/Qwen3-8B, say, or the folder of a model") if tiny else ""
    rate = usual_rate(base)
    why = say("tiny-chat needs this; real models 1e-4 to 3e-4, begin with 2e-4") if tiny else say("loss falls too slowly: 3e-4")
    epochs = say("tiny-chat needs many; real models 8 to 15") if tiny else say("passes over the examples")
    return [
        *([ConfigLine("base_model", base, chosen)] if tiny else []),
        ConfigLine("lora_rank", 16, say("16 for medicine and law, 8 for fixed formats")),
        *([ConfigLine("lora_dropout", 0.2, say("a very small base learns wordings by heart otherwise"))] if tiny else []),
        ConfigLine("batch_size", 4, say("examples in one step")),
        ConfigLine("epochs", 34 if tiny else 10, epochs),
        ConfigLine("learning_rate", rate, why),
        ConfigLine("max_seq_length", 512, say("the longest row in tokens; longer ones are never cut, they stop the run")),
        ConfigLine("save_steps", 100 if tiny else 50, say("a checkpoint, and the loss of held-out examples, every so many steps")),
    ]


def usual_rate(base: str) -> float:
    """The middle of the usual learning rates of a base, with one digit."""
    from ..base_files import TYPICAL_RANGES

    low, high = TYPICAL_RANGES.get(base, {}).get("learning_rate", (2e-4, 2e-4))
    return float(f"{math.sqrt(low * high):.0e}")


def suggest(seen: Seen[Conversation]) -> Sequence[ConfigLine]:
    """What the data say: the length of rows, the size of batches, the number of passes."""
    lines = []
    longest = int(seen.facts.get("longest_row") or 0)
    if longest:
        room = next(size for size in _SIZES if size >= longest or size == _SIZES[-1])
        lines.append(ConfigLine("max_seq_length", room, say("the longest row has {n} tokens", n=longest)))
    tiny = seen.config.base_model == BASE
    batch = 4 if seen.learned >= _FEW else 2
    if batch != RunConfig.model_fields["batch_size"].default:
        lines.append(ConfigLine("batch_size", batch, say("{n} examples: larger batches leave too few steps", n=seen.learned)))
    per_pass = math.ceil(seen.learned / batch)
    wanted, fewest, most = _STEPS[tiny]
    epochs = max(fewest, min(most, round(wanted / per_pass)))
    why = say("{n} examples in batches of {batch}: {steps} steps in all", n=seen.learned, batch=batch, steps=epochs * per_pass)
    return [*lines, ConfigLine("epochs", epochs, why), _saves(epochs * per_pass)]


def _saves(steps: int) -> ConfigLine:
    """A checkpoint about five times in a run."""
    every: Any = max(5, round(steps / 5, -1))
    return ConfigLine("save_steps", int(every), say("a checkpoint and the loss of held-out examples, about five times in the run"))


_SIZES = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 1_000_000)
