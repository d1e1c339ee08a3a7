# SPDX-License-Identifier: Apache-2.0
"""What the losses of a training say when its steps are made: sentences and pictures for the user, and the learning rate to try next."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..charts import name_of
from ..config.optimizers.profiles import PROFILES, usual_rates
from ..config.schema import RunConfig
from ..data.dataset import Data
from ..diagnosis import curves, diagnose
from ..plan import Plan
from ..runs.checkpoints import checkpoint_rows, entries
from ..runs.folder import RunFolder
from ..runs.records import CHECKPOINTS
from .manifest import RunState


def read_losses(plan: Plan, data: Data, folder: RunFolder, state: RunState, per_epoch: int) -> float | None:
    """Reads the run's log, notes in ``state`` what it says, and draws ``diagnosis.png`` and ``checkpoints.png``.

    Args:
        per_epoch: steps in one pass over the examples.

    Returns:
        the learning rate to try next, if another one suits better.
    """
    learned = data.pick(False)
    words = plan.task.evaluation.compare is None  # pictures have captions, which may well be alike
    usual = plan.task.usual.get("learning_rate", ())[:2] or RunConfig.typical_range("learning_rate")
    adamw = plan.family.typical_ranges(plan.config.base_model).get("learning_rate") or usual
    if not folder.log_file.is_file():
        return None  # the observer that writes the log was left out: there is nothing to judge by
    history = diagnose.history_from_log(
        folder.log_file,
        per_epoch=per_epoch,
        learning_rate=plan.config.learning_rate,
        usual=usual_rates(plan.config.optimizer, (adamw[0], adamw[1])),
        finds_rate=PROFILES[plan.config.optimizer].finds_rate,
        rows=len(learned),
        questions=len({data.split.questions[i] for i in learned}) if words else 0,
        answers=len({plan.task.answer(data.records[i]) for i in learned}) if words else 0,
        pictures=not words,
        kept=state.chosen["step"],
        before=state.advice["from"] if state.advice else None,
    )
    state.diagnoses = tuple(diagnose.diagnose(history))
    curves.draw_diagnosis(history, state.diagnoses, folder.path / "diagnosis.png", name_of(folder.path))
    show_checkpoints(folder, state.chosen, folder.path / CHECKPOINTS)
    return diagnose.advised_rate(state.diagnoses, history)


def show_checkpoints(folder: RunFolder, chosen: Mapping[str, Any], path: Path) -> None:
    """Draws the run's checkpoints into ``path``, the chosen one marked."""
    rows = checkpoint_rows(folder, {"chosen": chosen})
    began = next((entry["time"] for entry in entries(folder) if isinstance(entry.get("time"), int | float)), None)
    curves.draw_checkpoints(rows, chosen["step"], path, name_of(folder.path), began)
