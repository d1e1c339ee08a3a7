# SPDX-License-Identifier: Apache-2.0
"""The built-in serve plugin: adapters and their base over OpenAI's HTTP interface. This file is its table of contents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from loraforge import hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def loraforge_commands() -> Iterable[click.Command]:
    from .cli.command import serve

    return [serve]
