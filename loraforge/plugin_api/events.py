# SPDX-License-Identifier: Apache-2.0
"""What happened during a run. Plugins are told through the hook ``loraforge_event``; the built-in observers hear nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Event:
    """The base of all events. ``name`` is what ``log.jsonl`` calls it."""

    @property
    def name(self) -> str:
        """The class name: ``StepFinished``."""
        return type(self).__name__


@dataclass(frozen=True)
class StageStarted(Event):
    """A stage of the pipeline began: tokenizer, data, LoRA injection, training, checkpoint, export."""

    stage: str
    detail: str = ""


@dataclass(frozen=True)
class RunStarted(Event):
    """Everything is loaded; the first step is next.

    Attributes:
        folder: the run's folder.
        steps: optimizer steps in all.
        first_step: the steps already done before a resume; 0 for a fresh run.
        facts: base, examples, trainable parameters, template ...: what the summary shows.
    """

    folder: Path
    task: str
    steps: int
    first_step: int
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MemoryRanOut(Event):
    """The device had too little memory for a pass; the run goes on with smaller ones.

    Attributes:
        step: the step that is made again.
        rows: examples in one forward pass from now on, half as many as before.
        passes: forward passes in one optimizer step from now on.
    """

    step: int
    rows: int
    passes: int


@dataclass(frozen=True)
class StepFinished(Event):
    """One optimizer step was made.

    Attributes:
        step: counted from 1.
        epoch: passes over the data so far, as a fraction.
        loss: the mean over what was learned in this step.
        weight: what the loss was averaged over: learned tokens, or pictures.
        units: what was processed in all: tokens with the prompt, or pictures.
        seconds: how long the step took.
        learning_rate: that the step was made with; where the optimizer finds it (prodigy), what it had found.
        grad_norm: L2 norm of the gradient before clipping.
        rates: the rates of parameters that have another one (LoRA+'s B, a text encoder), by what they are.
    """

    step: int
    steps: int
    epoch: float
    loss: float
    learning_rate: float
    weight: float
    units: float
    seconds: float
    grad_norm: float
    rates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluated(Event):
    """The loss on the held-out examples was measured; ``step`` 0 is the base model."""

    step: int
    loss: float
    examples: int


@dataclass(frozen=True)
class StoppedEarly(Event):
    """The held-out loss had no new best for as long as ``patience`` allows; the best was measured after ``best_step``."""

    step: int
    best_step: int


@dataclass(frozen=True)
class Compared(Event):
    """The comparison of base and adapter at the end of a run goes on: ``done`` of ``total`` are there, first ``of`` "losses" and then of
    "answers"; 0 before the first."""

    done: int
    total: int
    of: str = "answers"


@dataclass(frozen=True)
class SamplesDrawn(Event):
    """``path`` is a picture of what the model makes after each of the steps so far; ``step`` 0 is the base model."""

    step: int
    path: Path


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """A whole checkpoint lies in ``path``."""

    step: int
    path: Path


@dataclass(frozen=True)
class Exported(Event):
    """An exporter wrote ``path``."""

    exporter: str
    path: Path


@dataclass(frozen=True)
class RunFinished(Event):
    """The adapter is saved and exported."""

    folder: Path
    seconds: float
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFailed(Event):
    """The run ended with an error or was interrupted; what was saved stays."""

    folder: Path
    error: str
