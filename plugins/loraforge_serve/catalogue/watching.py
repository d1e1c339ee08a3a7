# SPDX-License-Identifier: Apache-2.0
"""A folder whose subfolders are served: what comes is added, what changes is exchanged, what goes is taken away."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from loraforge import LoraForgeError, RunError, speaker

from ..library import Library
from ..problems import RequestError
from ..versions import Version
from .source import Source

say = speaker(__name__)
log = logging.getLogger("loraforge.serve")

_Stamp = tuple[tuple[str, int, int], ...]
_FILES = ("manifest.json", "adapter_config.json", "adapter_model.safetensors", "export/peft/adapter_model.safetensors")


class Watcher:
    """Looks at the folder again and again in a thread of its own. What is copied into it is taken when it has not changed for a whole look,
    so that half a copy is not served; what cannot be served leaves the earlier version where it is.

    Args:
        folder: each of its subfolders is a run or an exported adapter, and its name the one to ask for.
        seconds: between two looks.
        changed: told of each version that came or went, with what was done.
    """

    def __init__(
        self, folder: Path, source: Source, library: Library, seconds: float, changed: Callable[[Version, str], None] | None = None
    ) -> None:
        self.folder, self._source, self._library, self._seconds = folder, source, library, seconds
        self._changed = changed or (lambda version, what: None)
        self._served: dict[str, tuple[_Stamp, Version | None]] = {}
        self._last: dict[str, _Stamp] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loraforge-watch", daemon=True)
        self.problems: dict[str, str] = {}

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            try:
                self.look()
            except OSError as error:  # what is served goes on; the next look may be luckier
                log.warning("%s", say("{folder} cannot be looked at: {error}.", folder=self.folder, error=error))
            except Exception:
                log.exception("watching %s", self.folder)

    def look(self, trusting: bool = False) -> None:
        """Compares the folder with what is served.

        Args:
            trusting: takes what is there as whole, for the first look, when the server begins.
        """
        now = _stamps(self.folder)
        for name, stamp in now.items():
            settled = trusting or self._last.get(name) == stamp
            if settled and self._served.get(name, ((), None))[0] != stamp:
                self._take(name, stamp)
        for name in [name for name in self._served if name not in now]:
            _, version = self._served.pop(name)
            self.problems.pop(name, None)
            # Somebody may have taken it away before, or put another in its place over HTTP.
            if version is not None and any(one.name == name and one.path == version.path for one in self._library.versions()):
                try:
                    self._library.take_away(version.name)
                    self._changed(version, "removed")
                except RequestError:  # just now
                    pass
        self._last = now

    def _take(self, name: str, stamp: _Stamp) -> None:
        before, place = self._served.get(name, ((), None))[1], self.folder / name
        try:
            other = next((one for one in self._library.versions() if one.name == name), None)
            if before is None and other is not None and other.path != place.absolute():
                raise RunError(
                    say("{path}: '{name}' is served already, from {other}. Rename one.", path=place, name=name, other=other.path)
                )
            version = self._source.read(place, name)
            self._library.put(version)
        except LoraForgeError as error:
            self._served[name] = (stamp, before)
            told = str(error) if str(place) in str(error) else f"{place}: {error}"
            self.problems[name] = told
            kept = say("The earlier version goes on.") if before is not None else ""
            log.warning("%s", f"{told} {kept}".strip())
            return
        self._served[name] = (stamp, version)
        self.problems.pop(name, None)
        self._changed(version, "replaced" if before is not None else "added")


def _stamps(folder: Path) -> dict[str, _Stamp]:
    """Sizes and times of what makes a subfolder an adapter, by the subfolder's name."""
    found: dict[str, _Stamp] = {}
    for place in sorted(folder.iterdir()):
        if place.name.startswith(".") or not place.is_dir():
            continue
        stamp = []
        for name in _FILES:
            try:
                told = (place / name).stat()
            except OSError:
                continue
            stamp.append((name, told.st_mtime_ns, told.st_size))
        if stamp:
            found[place.name] = tuple(stamp)
    return found
