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
    from .chat import chat
    from .golden_command import golden
    from .metadata import metadata

    return [chat, golden, metadata]


@hookimpl
def loraforge_tasks() -> Iterable[Task]:
    from .task import TEXT

    return [TEXT]


@hookimpl
def loraforge_data_loaders() -> Iterable[Loader]:
    from .loaders import TableLoader

    return [TableLoader()]


@hookimpl
def loraforge_templates() -> Iterable[Template]:
    from .templates import templates

    return templates()


@hookimpl
def loraforge_checks() -> Iterable[Check]:
    from .checks import checks

    return checks()


@hookimpl
def loraforge_model_families() -> Iterable[ModelFamily]:
    from .causal_lm import CausalLM

    return [CausalLM()]


@hookimpl
def loraforge_exporters() -> Iterable[Exporter]:
    from .exporters import MergedExporter, PeftExporter

    return [PeftExporter(), MergedExporter()]
