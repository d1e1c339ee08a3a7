# SPDX-License-Identifier: Apache-2.0
"""One adapter as it is served, and the base alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loraforge import ChatFormat

BASE = "base"  # the name of the base alone


@dataclass(frozen=True, eq=False)
class Version:
    """One adapter as it is served. An answer comes from exactly one.

    Attributes:
        name: what clients ask for.
        key: what the backend knows it by; no two versions have the same.
        path: the run or the adapter's folder, as it was given.
        folder: where the adapter's files lie.
        chat: how it is spoken with; None for what makes pictures.
        told: what /v1/models says of it under ``loraforge``.
        seal: the run's seal; None where there is none.
        created: seconds since 1970.
    """

    name: str
    key: str
    path: Path
    folder: Path
    chat: ChatFormat | None
    told: Mapping[str, Any]
    seal: str | None = None
    created: int = 0

    @property
    def fingerprint(self) -> str:
        """What an answer says of the version that it comes from."""
        return f"{self.key}-{self.seal[:16]}" if self.seal else self.key
