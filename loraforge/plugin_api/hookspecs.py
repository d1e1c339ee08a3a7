# SPDX-License-Identifier: Apache-2.0
"""Every seam of the project, in the order in which a run reaches them.

A hook returns what a plugin adds, or is told what happened; it never registers anything. Implement one in your own module with

    from loraforge import hookimpl

    @hookimpl
    def loraforge_templates():
        return [MyTemplate()]

There is no ``firstresult`` hook and no wrapper: results are listed, and two plugins that claim one name are an error that names both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click

    from .components import Check, Exporter, Loader, ModelFamily, Template
    from .events import Event
    from .task import Task

hookspec = pluggy.HookspecMarker("loraforge")
hookimpl = pluggy.HookimplMarker("loraforge")
"""Marks a function as a hook: ``@hookimpl`` above ``def loraforge_checks(): ...``. An unmarked one is not called, and that is an error."""


@hookspec
def loraforge_commands() -> Iterable[click.Command]:  # type: ignore[empty-body]
    """Commands to add to the CLI. Called for ``--help``: import heavy libraries inside the command."""


@hookspec
def loraforge_tasks() -> Iterable[Task]:  # type: ignore[empty-body]
    """What may follow ``loraforge train``."""


@hookspec
def loraforge_data_loaders() -> Iterable[Loader]:  # type: ignore[empty-body]
    """Each reads one layout of data into its task's records."""


@hookspec
def loraforge_templates() -> Iterable[Template]:  # type: ignore[empty-body]
    """Each turns one record into the text that a model sees."""


@hookspec
def loraforge_checks() -> Iterable[Check]:  # type: ignore[empty-body]
    """Each looks at all rows before they are trained on and says what somebody should look at."""


@hookspec
def loraforge_model_families() -> Iterable[ModelFamily]:  # type: ignore[empty-body]
    """Each loads a base model, puts a LoRA on it, and knows its loss."""


@hookspec
def loraforge_exporters() -> Iterable[Exporter]:  # type: ignore[empty-body]
    """Each writes an adapter in the format that some program reads."""


@hookspec
def loraforge_event(event: Event) -> None:
    """Told of each event of a run. What it raises is logged, never fatal."""
