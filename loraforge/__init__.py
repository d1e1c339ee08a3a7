"""LoRAForge: one command from a folder of examples to a LoRA adapter.

This is the public API: all that a plugin needs, and nothing else. Names are imported when they are first used, so that
``loraforge --help`` stays quick; heavy libraries (torch) are imported by nobody until a run trains.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from .hookspecs import hookimpl

if TYPE_CHECKING:
    from .config import Keys, KeySet, NoKeys, RunConfig
    from .errors import ConfigError, DataError, ExportError, LoraForgeError, ModelError, PluginError, RunError, TrainingError
    from .events import (
        CheckpointSaved,
        Compared,
        Evaluated,
        Event,
        Exported,
        MemoryRanOut,
        RunFailed,
        RunFinished,
        RunStarted,
        SamplesDrawn,
        StageStarted,
        StepFinished,
        StoppedEarly,
    )
    from .hub import fetch_base
    from .interfaces import (
        Check,
        Component,
        Examination,
        Exporter,
        Finding,
        Footprint,
        Loader,
        ModelFamily,
        Quiz,
        Responder,
        Severity,
        Task,
        Template,
        Trainee,
    )
    from .likeness import character_pairs, fold, near_pairs
    from .messages import speaker
    from .opened import OpenRun, open_run
    from .provenance import hash_file
    from .reviewing import REVIEW_COLUMNS, decides, match_columns, read_review
    from .rundir import aside, write_text
    from .targets import match_layers
    from .types import Adapter, Answer, Batch, Example, File, Record, Review, Sketch, Span, prompt_of

__version__ = "0.1.0"

_HOMES = {
    "config": ("Keys", "KeySet", "NoKeys", "RunConfig"),
    "errors": ("ConfigError", "DataError", "ExportError", "LoraForgeError", "ModelError", "PluginError", "RunError", "TrainingError"),
    "events": (
        "CheckpointSaved",
        "Compared",
        "Evaluated",
        "Event",
        "Exported",
        "MemoryRanOut",
        "RunFailed",
        "RunFinished",
        "RunStarted",
        "SamplesDrawn",
        "StageStarted",
        "StepFinished",
        "StoppedEarly",
    ),
    "hub": ("fetch_base",),
    "interfaces": (
        "Check",
        "Component",
        "Examination",
        "Exporter",
        "Finding",
        "Footprint",
        "Loader",
        "ModelFamily",
        "Quiz",
        "Responder",
        "Severity",
        "Task",
        "Template",
        "Trainee",
    ),
    "likeness": ("character_pairs", "fold", "near_pairs"),
    "messages": ("speaker",),
    "opened": ("OpenRun", "open_run"),
    "provenance": ("hash_file",),
    "reviewing": ("REVIEW_COLUMNS", "decides", "match_columns", "read_review"),
    "rundir": ("aside", "write_text"),
    "targets": ("match_layers",),
    "types": ("Adapter", "Answer", "Batch", "Example", "File", "Record", "Review", "Sketch", "Span", "prompt_of"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "REVIEW_COLUMNS",
    "Adapter",
    "Answer",
    "Batch",
    "Check",
    "CheckpointSaved",
    "Compared",
    "Component",
    "ConfigError",
    "DataError",
    "Evaluated",
    "Event",
    "Examination",
    "Example",
    "ExportError",
    "Exported",
    "Exporter",
    "File",
    "Finding",
    "Footprint",
    "KeySet",
    "Keys",
    "Loader",
    "LoraForgeError",
    "MemoryRanOut",
    "ModelError",
    "ModelFamily",
    "NoKeys",
    "OpenRun",
    "PluginError",
    "Quiz",
    "Record",
    "Responder",
    "Review",
    "RunConfig",
    "RunError",
    "RunFailed",
    "RunFinished",
    "RunStarted",
    "SamplesDrawn",
    "Severity",
    "Sketch",
    "Span",
    "StageStarted",
    "StepFinished",
    "StoppedEarly",
    "Task",
    "Template",
    "Trainee",
    "TrainingError",
    "__version__",
    "aside",
    "character_pairs",
    "decides",
    "fetch_base",
    "fold",
    "hash_file",
    "hookimpl",
    "match_columns",
    "match_layers",
    "near_pairs",
    "open_run",
    "prompt_of",
    "read_review",
    "speaker",
    "write_text",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module 'loraforge' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
