# SPDX-License-Identifier: Apache-2.0
"""What a run looked like, in numbers; read from its ``log.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..files import LONGEST_LOG, read_text


@dataclass(frozen=True)
class History:
    """What a run looked like.

    Attributes:
        losses: (step, training loss) of every step, earlier parts of a resumed run included.
        heldout: (step, held-out loss); step 0 is before training. Empty if nothing was held out.
        per_epoch: steps in one pass over the rows.
        learning_rate: the peak.
        usual: the base's usual range of learning_rate.
        rows: rows learned; 0 if unknown, like the next two.
        questions: different questions among them, near-identical ones counted once; 0 where rows have none.
        answers: different answers among them.
        rates: (step, learning rate) of every step; empty means that it was constant.
        before: the rate of the run whose advice led to this one.
        kept: the step that the adapter was taken from.
        pictures: whether nothing is answered in words.
        finds_rate: whether the optimizer finds the rate by itself, so that ``learning_rate`` is a factor of it, and 1.
        began: when the run began, in seconds since 1970; None if unknown.
        resumed: the steps after which it was taken up again.
    """

    losses: Sequence[tuple[int, float]]
    heldout: Sequence[tuple[int, float]]
    per_epoch: int
    learning_rate: float
    usual: tuple[float, float] = (1e-4, 3e-4)
    rows: int = 0
    questions: int = 0
    answers: int = 0
    rates: Sequence[tuple[int, float]] = field(default=(), repr=False)
    before: float | None = None
    kept: int | None = None
    pictures: bool = False
    finds_rate: bool = False
    began: float | None = None
    resumed: Sequence[int] = ()


def history_from_log(log: Path, **known: Any) -> History:
    """The history that a run's ``log.jsonl`` tells; ``known`` gives, or replaces, what stands in no log (``usual``, ``questions`` ...).

    Where a resumed run repeated steps, the last repetition counts; a torn line is passed over.
    """
    train: dict[int, float] = {}
    held: dict[int, float] = {}
    rates: dict[int, float] = {}
    resumed: set[int] = set()
    told: dict[str, Any] = {"per_epoch": 1, "learning_rate": 0.0}
    for line in read_text(log, LONGEST_LOG, errors="replace").split("\n"):
        try:
            entry = json.loads(line)
            kind, step = entry["event"], entry.get("step", 0)
            if isinstance(entry.get("time"), int | float):
                told.setdefault("began", entry["time"])
            if kind == "RunStarted":
                resumed = {s for s in {*resumed, entry["first_step"]} if 0 < s <= entry["first_step"]}
                for known_steps in (train, held, rates):
                    for late in [s for s in known_steps if s > entry["first_step"] or not entry["first_step"]]:
                        del known_steps[late]
                told["rows"] = int(entry.get("facts", {}).get("examples", 0))
            elif kind == "StepFinished":
                train[step], rates[step] = float(entry["loss"]), float(entry["learning_rate"])
                told["per_epoch"] = max(1, round(step / entry["epoch"]))
            elif kind == "Evaluated":
                held[step] = float(entry["loss"])
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # the last line of a killed run may be torn
    told["learning_rate"] = max(rates.values(), default=0.0)
    told["resumed"] = sorted(resumed)
    return History(sorted(train.items()), sorted(held.items()), rates=sorted(rates.items()), **{**told, **known})
