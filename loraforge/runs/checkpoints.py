# SPDX-License-Identifier: Apache-2.0
"""The checkpoints of a run, compared: step, losses, and whether they are still there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ..files import LONGEST_LOG, read_text
from .folder import RunFolder


def entries(run: RunFolder) -> Iterator[dict[str, Any]]:
    """The events of ``log.jsonl``; a line that a killed run left torn is passed over."""
    if not run.log_file.is_file():
        return
    for line in read_text(run.log_file, LONGEST_LOG, errors="replace").split("\n"):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            yield entry


def checkpoint_rows(run: RunFolder, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row for every step whose held-out loss was measured, or whose checkpoint is there: ``step``, ``epoch``, ``train_loss`` (the mean
    since the row before), ``held_out_loss``, ``kept``, ``chosen``. Steps that were made again after a resume count once."""
    steps: dict[int, tuple[float, float | None]] = {}
    heldout: dict[int, float] = {}
    for entry in entries(run):
        step, loss = entry.get("step"), _number(entry.get("loss"))
        if not isinstance(step, int) or loss is None:
            continue  # another event, or nothing that LoRAForge wrote
        if entry.get("event") == "StepFinished":
            steps[step] = (loss, _number(entry.get("epoch")))
        elif entry.get("event") == "Evaluated":
            heldout[step] = loss
    kept = {int(path.name.removeprefix("step-")) for path in run.checkpoints()}
    choice = manifest.get("chosen")
    chosen = choice.get("step") if isinstance(choice, Mapping) else None
    rows, before = [], 0
    for step in sorted({s for s in heldout if s} | kept):
        since = [loss for s, (loss, _) in steps.items() if before < s <= step]
        rows.append({
            "step": step,
            "epoch": steps[step][1] if step in steps else None,
            "train_loss": sum(since) / len(since) if since else None,
            "held_out_loss": heldout.get(step),
            "kept": step in kept,
            "chosen": step == chosen,
        })  # fmt: skip
        before = step
    return rows


def _number(value: object) -> float | None:
    """A number as such; None for anything else that a log may hold."""
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:
        return None
