# SPDX-License-Identifier: Apache-2.0
"""Who asked which adapter, with which seal: one line of JSON each, appended and never changed."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from loraforge import ConfigError, speaker

from ..versions import Version

say = speaker(__name__)


class AuditLog:
    """Appends to a file; each line names the hash of the one before it, so that a line that was changed or left out shows.

    Args:
        prompts: whether questions are written too; only if somebody asked for that.

    Raises:
        ConfigError: if the file cannot be written.
    """

    def __init__(self, file: Path, prompts: bool = False) -> None:
        self.file, self.prompts = file, prompts
        self._lock = threading.Lock()
        try:
            self._before = _last_hash(file)
            self._handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigError(say("--audit-log {file} cannot be written: {error}.", file=file, error=error)) from None

    def answered(self, client: str, version: Version, usage: Mapping[str, int], whole: bool, asked: Mapping[str, Any]) -> None:
        """An answer that was given, or that the client did not wait for."""
        told = {key: asked[key] for key in ("messages", "prompt") if key in asked} if self.prompts else {}
        self._write("answer", client, version, {"tokens": dict(usage), "complete": whole, **told})

    def changed(self, client: str, version: Version, what: str) -> None:
        """An adapter that was added, exchanged, rolled back or taken away."""
        self._write(what, client, version, {})

    def _write(self, what: str, client: str, version: Version, more: Mapping[str, Any]) -> None:
        with self._lock:
            line = json.dumps(
                {
                    "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
                    "what": what,
                    "who": client,
                    "model": version.name,
                    "version": version.key,
                    "seal": version.seal,
                    **more,
                    "before": self._before,
                },
                ensure_ascii=True,
            )
            os.write(self._handle, line.encode("ascii") + b"\n")
            self._before = hashlib.sha256(line.encode("ascii")).hexdigest()

    def close(self) -> None:
        os.close(self._handle)


def _last_hash(file: Path) -> str | None:
    """Of the last line of a log that is continued; None for a new one."""
    if not file.exists():
        return None
    last = b""
    with file.open("rb") as stream:
        for line in stream:
            last = line if line.strip() else last
    return hashlib.sha256(last.rstrip(b"\n")).hexdigest() if last else None
