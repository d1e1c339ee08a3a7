# SPDX-License-Identifier: Apache-2.0
"""The built-in image plugin: folders of pictures, Stable Diffusion. This file is its table of contents."""

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
    from .inspect.command import inspect
    from .lora_tools.command import lora
    from .prepare.command import prepare

    return [inspect, lora, prepare]


@hookimpl
def loraforge_tasks() -> Iterable[Task]:
    from .task import IMAGE

    return [IMAGE]


@hookimpl
def loraforge_data_loaders() -> Iterable[Loader]:
    from .data.picture_loader import PictureLoader

    return [PictureLoader()]


@hookimpl
def loraforge_templates() -> Iterable[Template]:
    from .data.captions import CaptionTemplate

    return [CaptionTemplate()]


@hookimpl
def loraforge_checks() -> Iterable[Check]:
    from .checks import checks

    return checks()


@hookimpl
def loraforge_model_families() -> Iterable[ModelFamily]:
    from .families import dit, stable_diffusion

    return [*stable_diffusion.families(), *dit.families()]


@hookimpl
def loraforge_exporters() -> Iterable[Exporter]:
    from .export.diffusers import DiffusersExporter, MergedExporter
    from .export.webui import WebuiExporter

    return [WebuiExporter(), DiffusersExporter(), MergedExporter()]
