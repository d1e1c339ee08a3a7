# SPDX-License-Identifier: Apache-2.0
"""All that one running server consists of; routes are given it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .access.audit_log import AuditLog
    from .access.tokens import RateLimit, Tokens
    from .admission import Admission
    from .catalogue.source import Source
    from .catalogue.watching import Watcher
    from .images import Painter
    from .library import Library
    from .metrics import Metrics


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may take.

    Attributes:
        waiting: answers that are being given or waited for, at most; more are told to come again.
        seconds: for one answer, waiting included.
        tokens: the longest answer.
        body: bytes of a request.
        per_minute: requests of one client in a minute; 0: any number.
    """

    waiting: int = 64
    seconds: float = 300.0
    tokens: int = 2048
    body: int = 2_000_000
    per_minute: int = 0


@dataclass
class Server:
    """
    Attributes:
        library: what is served.
        source: reads adapters for the library; None: nothing can be added while it runs.
        tokens: who may ask; None: everybody who reaches it.
        rate: counts the requests of each client.
        hosts: the names under which it may be addressed; empty: any.
        origins: the pages of other servers that may ask it from a browser.
        audit: writes who asked what; None: nobody does.
        painter: makes pictures; None where no image run is served.
        watcher: looks after a folder of adapters; None: there is none.
        feedback: the file for what people say of answers; None: it is not asked for.
        page: whether the chat page is there.
    """

    library: Library
    admission: Admission
    metrics: Metrics
    limits: Limits = field(default_factory=Limits)
    source: Source | None = None
    tokens: Tokens | None = None
    rate: RateLimit | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    audit: AuditLog | None = None
    painter: Painter | None = None
    watcher: Watcher | None = None
    feedback: Path | None = None
    page: bool = True
