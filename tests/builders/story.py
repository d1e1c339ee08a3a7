# SPDX-License-Identifier: Apache-2.0
"""The events of a run, without the run."""

from __future__ import annotations

from loraforge import Evaluated, RunFailed, RunFinished, RunStarted, StageStarted, StepFinished

FACTS = {"base_model": "b", "device": "CPU", "precision": "fp32", "examples": 4, "held_out": 1, "epochs": 2.0, "estimated_seconds": 75.0}


def story(folder, first: int = 0, last: int = 4):
    yield StageStarted("data", "metadata.csv")
    yield RunStarted(folder, "text", 4, first, FACTS)
    for step in range(first + 1, last + 1):
        yield StepFinished(step, 4, step / 2, 2.0 / step, 1e-4, 10.0, 100.0, 0.5, 1.0)
    yield Evaluated(last, 0.7, 1)
    yield RunFinished(folder, 3.0, {"loss": 0.5}) if last == 4 else RunFailed(folder, "stopped")
