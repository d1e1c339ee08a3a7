# SPDX-License-Identifier: Apache-2.0
"""What ``loraforge check`` says of a work: asked again only when the config or the data have changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...problems import Refused
from ..asking import Said
from ..folders import Work, replace_text
from .places import files_below, values_of

SHOWN = 12
"""Rows that are shown as they are learned."""


class Checked:
    """Asks, and keeps the last answer of every work in ``.studio/check.json``.

    Args:
        ask: carries a command out in a work.
    """

    def __init__(self, ask: Callable[[Sequence[object], Work], Said]) -> None:
        self._ask = ask
        self._locks: dict[Path, threading.Lock] = defaultdict(threading.Lock)

    def of(self, work: Work, task: str, language: str) -> dict[str, Any]:
        """``told``: the JSON of the command, None if the data can't be read; ``problems``: why; ``command``; ``seconds`` that it took."""
        with self._locks[work.folder]:
            state = state_of(work, language)
            kept = work.hidden / "check.json"
            try:
                found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
                if found["state"] == state:
                    return found
            except (OSError, ValueError, KeyError, TypeError):
                pass
            began = time.monotonic()
            # Where findings would stop a run they are told as well, not instead.
            said = self._ask(["check", task, work.config.name, "--show", SHOWN, "--set", "stop_on=never", "--json"], work)
            good = said.code == 0 and isinstance(said.value, dict)
            found = {
                "state": state, "told": said.value if good else None, "problems": [] if good else said.problems,
                "command": said.command, "seconds": time.monotonic() - began,
            }  # fmt: skip
            if good:  # why it failed may be gone the next time
                with contextlib.suppress(Refused):  # a full disk: it is asked again
                    replace_text(kept, json.dumps(found, ensure_ascii=False))
            return found


def state_of(work: Work, language: str) -> str:
    """A mark of all that the answer depends on: the config, and names, sizes and times of the data's files."""
    mark = hashlib.sha256(language.encode())
    try:
        mark.update(work.config.read_bytes())
    except OSError:
        mark.update(b"none")
    values = values_of(work)
    for key in ("train_data_dir", "metadata_path", "waivers", "mask_dir", "word_list", "prior_data_dir"):
        if not values.get(key):
            continue
        place = work.folder / values[key]
        if place.is_file():
            mark.update(f"{key}{place.stat().st_mtime_ns}:{place.stat().st_size}".encode())
            continue
        for one in files_below(place):
            found = one.stat()
            mark.update(f"{one.path}\0{found.st_mtime_ns}:{found.st_size}\0".encode(errors="surrogatepass"))
    return mark.hexdigest()
