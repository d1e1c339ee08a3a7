# SPDX-License-Identifier: Apache-2.0
"""The built-in text plugin: question-and-answer data, language models. This file is its table of contents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from loraforge import hookimpl

if TYPE_CHECKING:
    import click

    from loraforge import Check, Exporter, Loader, ModelFamily, Task, Template

# Each import is inside its hook, so that ``loraforge --help`` stays quick.


@hookimpl
def loraforge_commands() -> Iterable[click.Command]:
    from .cli.chat import chat
    from .cli.golden import golden
    from .cli.metadata import metadata

    return [chat, golden, metadata]


@hookimpl
def loraforge_tasks() -> Iterable[Task]:
    from .task import TEXT

    return [TEXT]


@hookimpl
def loraforge_data_loaders() -> Iterable[Loader]:
    from .data.table_loader import TableLoader

    return [TableLoader()]


@hookimpl
def loraforge_templates() -> Iterable[Template]:
    from .templates.builtin import templates

    return templates()


@hookimpl
def loraforge_checks() -> Iterable[Check]:
    from .checks import checks

    return checks()


@hookimpl
def loraforge_model_families() -> Iterable[ModelFamily]:
    from .families.causal_lm import CausalLM

    return [CausalLM()]


@hookimpl
def loraforge_exporters() -> Iterable[Exporter]:
    from .export.exporters import MergedExporter, PeftExporter
    from .export.gguf_merged import GgufMergedExporter
    from .export.llama_cpp import GgufExporter
    from .export.ollama import OllamaExporter

    return [PeftExporter(), MergedExporter(), GgufExporter(), GgufMergedExporter(), OllamaExporter()]
