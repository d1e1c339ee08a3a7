# SPDX-License-Identifier: Apache-2.0
"""LoRAForge: one command from a folder of examples to a LoRA adapter.

This is the public API: all that a plugin needs, and nothing else. Names are imported when they are first used, so that
``loraforge --help`` stays quick; heavy libraries (torch) are imported by nobody until a run trains.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from .plugin_api.hookspecs import hookimpl

if TYPE_CHECKING:
    from .adapters.targets import match_layers, scanned_layers
    from .bars import Bar
    from .cli.options import FiniteRange
    from .config.adapter_size import adapter_size, dropout_noise, weight_copies
    from .config.block_ranks import apply_block_ranks
    from .config.schema import Keys, KeySet, NoKeys, RunConfig
    from .data.condensing import condense
    from .data.encodings import decode_text
    from .data.review import REVIEW_COLUMNS, decides, fold_name, match_columns, read_review
    from .data.short_texts import decode_texts
    from .data.similarity import character_pairs, fold, near_pairs, near_records
    from .data.wording import FLOOR, bare_question, lesson, simplified
    from .errors import (
        ConfigError,
        DataError,
        ExportError,
        LoraForgeError,
        MachineError,
        ModelError,
        PluginError,
        RunError,
        TrainingError,
        printable,
    )
    from .files import LARGEST, cache_folder, open_file, read_file, read_text, require_file, require_files, unpacked_size
    from .fonts import font_files
    from .hub import explain_base, fetch_base, licence_of
    from .messages import language, out_of_something, panics_as_errors, refuse_machines_fault, speaker, why
    from .plugin_api.components import Check, Component, Exporter, Finding, Loader, ModelFamily, Severity, Template
    from .plugin_api.events import (
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
    from .plugin_api.models import ChatFormat, Decoder, Examination, InferenceModel, MemoryEstimate, TrainableModel
    from .plugin_api.start import ConfigLine, Given, OtherTrainer, Seen, Start, Translation
    from .plugin_api.task import ChoiceQuestion, Evaluation, Sampling, Task, TrainedRun
    from .plugin_api.types import (
        Adapter,
        Answer,
        Batch,
        Example,
        File,
        Fingerprint,
        Lesson,
        Looks,
        Record,
        Review,
        Span,
        TrainableLora,
        prompt_of,
    )
    from .runs.disk import usual_rights
    from .runs.folder import atomic_dir, write_text
    from .runs.opened import LoadedRun, load_run
    from .runs.provenance import hash_file
    from .terminal import UNSEEN, command, console, first_few, quoted, show

    __version__: str
    """The version that was installed: the tag in git that it was built from, or what came after it."""

_HOMES = {
    "adapters.targets": ("match_layers", "scanned_layers"),
    "cli.options": ("FiniteRange",),
    "config.adapter_size": ("adapter_size", "dropout_noise", "weight_copies"),
    "config.block_ranks": ("apply_block_ranks",),
    "config.schema": ("Keys", "KeySet", "NoKeys", "RunConfig"),
    "data.condensing": ("condense",),
    "data.encodings": ("decode_text",),
    "data.review": ("REVIEW_COLUMNS", "decides", "fold_name", "match_columns", "read_review"),
    "data.short_texts": ("decode_texts",),
    "data.similarity": ("character_pairs", "fold", "near_pairs", "near_records"),
    "data.wording": ("FLOOR", "bare_question", "lesson", "simplified"),
    "errors": (
        *("ConfigError", "DataError", "ExportError", "LoraForgeError", "ModelError", "PluginError", "RunError", "TrainingError"),
        *("MachineError", "printable"),
    ),
    "files": ("LARGEST", "cache_folder", "open_file", "read_file", "read_text", "require_file", "require_files", "unpacked_size"),
    "fonts": ("font_files",),
    "hub": ("explain_base", "fetch_base", "licence_of"),
    "messages": ("language", "out_of_something", "panics_as_errors", "refuse_machines_fault", "speaker", "why"),
    "plugin_api.components": ("Check", "Component", "Exporter", "Finding", "Loader", "ModelFamily", "Severity", "Template"),
    "plugin_api.events": (
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
    "plugin_api.models": ("ChatFormat", "Decoder", "Examination", "InferenceModel", "MemoryEstimate", "TrainableModel"),
    "plugin_api.start": ("ConfigLine", "Given", "OtherTrainer", "Seen", "Start", "Translation"),
    "plugin_api.task": ("ChoiceQuestion", "Evaluation", "Sampling", "Task", "TrainedRun"),
    "plugin_api.types": (
        "Adapter",
        "Answer",
        "Bar",
        "Batch",
        "Example",
        "File",
        "Fingerprint",
        "Lesson",
        "Looks",
        "Record",
        "Review",
        "Span",
        "TrainableLora",
        "prompt_of",
    ),
    "runs.disk": ("usual_rights",),
    "runs.folder": ("atomic_dir", "write_text"),
    "runs.opened": ("LoadedRun", "load_run"),
    "runs.provenance": ("hash_file",),
    "bars": ("Bar",),
    "terminal": ("UNSEEN", "command", "console", "first_few", "quoted", "show"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "FLOOR",
    "LARGEST",
    "REVIEW_COLUMNS",
    "UNSEEN",
    "Adapter",
    "Answer",
    "Bar",
    "Batch",
    "ChatFormat",
    "Check",
    "CheckpointSaved",
    "ChoiceQuestion",
    "Compared",
    "Component",
    "ConfigError",
    "ConfigLine",
    "DataError",
    "Decoder",
    "Evaluated",
    "Evaluation",
    "Event",
    "Examination",
    "Example",
    "ExportError",
    "Exported",
    "Exporter",
    "File",
    "Finding",
    "Fingerprint",
    "FiniteRange",
    "Given",
    "InferenceModel",
    "KeySet",
    "Keys",
    "Lesson",
    "LoadedRun",
    "Loader",
    "Looks",
    "LoraForgeError",
    "MachineError",
    "MemoryEstimate",
    "MemoryRanOut",
    "ModelError",
    "ModelFamily",
    "NoKeys",
    "OtherTrainer",
    "PluginError",
    "Record",
    "Review",
    "RunConfig",
    "RunError",
    "RunFailed",
    "RunFinished",
    "RunStarted",
    "SamplesDrawn",
    "Sampling",
    "Seen",
    "Severity",
    "Span",
    "StageStarted",
    "Start",
    "StepFinished",
    "StoppedEarly",
    "Task",
    "Template",
    "TrainableLora",
    "TrainableModel",
    "TrainedRun",
    "TrainingError",
    "Translation",
    "__version__",
    "adapter_size",
    "apply_block_ranks",
    "atomic_dir",
    "bare_question",
    "cache_folder",
    "character_pairs",
    "command",
    "condense",
    "console",
    "decides",
    "decode_text",
    "decode_texts",
    "dropout_noise",
    "explain_base",
    "fetch_base",
    "first_few",
    "fold",
    "fold_name",
    "font_files",
    "hash_file",
    "hookimpl",
    "language",
    "lesson",
    "licence_of",
    "load_run",
    "match_columns",
    "match_layers",
    "near_pairs",
    "near_records",
    "open_file",
    "out_of_something",
    "panics_as_errors",
    "printable",
    "prompt_of",
    "quoted",
    "read_file",
    "read_review",
    "read_text",
    "refuse_machines_fault",
    "require_file",
    "require_files",
    "scanned_layers",
    "show",
    "simplified",
    "speaker",
    "unpacked_size",
    "usual_rights",
    "weight_copies",
    "why",
    "write_text",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _version()
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module 'loraforge' has no attribute {name!r}")


def _version() -> str:
    """The version that was installed, which is the tag in git that it was built from."""
    from importlib import metadata

    try:
        return metadata.version("loraforge")
    except metadata.PackageNotFoundError:  # run from its folder, without an installation
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted(__all__)
