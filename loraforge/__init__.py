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
        Evaluated,
        Event,
        Exported,
        RunFailed,
        RunFinished,
        RunStarted,
        SamplesDrawn,
        StageStarted,
        StepFinished,
    )
    from .hub import fetch_base
    from .interfaces import Component, Examination, Exporter, Loader, ModelFamily, Responder, Task, Template, Trainee
    from .messages import speaker
    from .opened import OpenRun, open_run
    from .provenance import hash_file
    from .rundir import aside, write_text
    from .types import Adapter, Batch, Example, File, Record, Span, prompt_of

__version__ = "0.1.0"

_HOMES = {
    "config": ("Keys", "KeySet", "NoKeys", "RunConfig"),
    "errors": ("ConfigError", "DataError", "ExportError", "LoraForgeError", "ModelError", "PluginError", "RunError", "TrainingError"),
    "events": (
        "CheckpointSaved",
        "Evaluated",
        "Event",
        "Exported",
        "RunFailed",
        "RunFinished",
        "RunStarted",
        "SamplesDrawn",
        "StageStarted",
        "StepFinished",
    ),
    "hub": ("fetch_base",),
    "interfaces": ("Component", "Examination", "Exporter", "Loader", "ModelFamily", "Responder", "Task", "Template", "Trainee"),
    "messages": ("speaker",),
    "opened": ("OpenRun", "open_run"),
    "provenance": ("hash_file",),
    "rundir": ("aside", "write_text"),
    "types": ("Adapter", "Batch", "Example", "File", "Record", "Span", "prompt_of"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Adapter", "Batch", "CheckpointSaved", "Component", "ConfigError", "DataError", "Evaluated", "Event", "Examination", "Example",
    "ExportError", "Exported", "Exporter", "File", "KeySet", "Keys", "Loader", "LoraForgeError", "ModelError", "ModelFamily", "NoKeys",
    "OpenRun", "PluginError", "Record", "Responder", "RunConfig", "RunError", "RunFailed", "RunFinished", "RunStarted", "SamplesDrawn",
    "Span", "StageStarted", "StepFinished", "Task", "Template", "Trainee", "TrainingError", "__version__", "aside", "fetch_base",
    "hash_file", "hookimpl", "open_run", "prompt_of", "speaker", "write_text",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module 'loraforge' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
