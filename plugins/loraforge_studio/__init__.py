# SPDX-License-Identifier: Apache-2.0
"""The built-in studio plugin: the whole work in a browser. This file is its table of contents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from loraforge import hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def loraforge_commands() -> Iterable[click.Command]:
    from .command import studio

    return [studio]
