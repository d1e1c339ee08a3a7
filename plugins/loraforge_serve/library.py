# SPDX-License-Identifier: Apache-2.0
"""What is served under which name: adapters come, are exchanged and go while the server answers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loraforge import RunError, speaker

from .problems import RequestError
from .versions import BASE, Version

if TYPE_CHECKING:
    from .backends import Backend

say = speaker(__name__)


@dataclass
class _Slot:
    current: Version
    before: Version | None = None


@dataclass
class Library:
    """The versions by name.

    Attributes:
        base: the base as it is served alone; None where only pictures are made.
        backend: answers text; None where only pictures are made.
    """

    base: Version | None
    backend: Backend | None
    _slots: dict[str, _Slot] = field(default_factory=dict)
    _asked: dict[Version, int] = field(default_factory=dict)
    _leaving: set[Version] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _changing: threading.Lock = field(default_factory=threading.Lock)

    def versions(self) -> list[Version]:
        """What is served, the base first."""
        with self._lock:
            return [*([self.base] if self.base else []), *(slot.current for slot in self._slots.values())]

    def names(self) -> list[str]:
        """What clients may ask for."""
        return [version.name for version in self.versions()]

    def before(self, name: str) -> Version | None:
        """The version that a name would go back to."""
        with self._lock:
            return self._slots[name].before if name in self._slots else None

    @contextlib.contextmanager
    def lent(self, name: str) -> Iterator[Version]:
        """The version that answers to a name now. It stays loaded until the block ends, whatever happens to the name meanwhile.

        Raises:
            RequestError: if there is none (404).
        """
        with self._lock:
            slot = self._slots.get(name)
            version = slot.current if slot else self.base if name == BASE else None
            if version is None:
                names = ", ".join([*([BASE] if self.base else []), *self._slots])
                text = say("there is no model called '{name}' here. There are: {names}.", name=name, names=names or "-")
                raise RequestError(404, text, "model_not_found")
            self._asked[version] = self._asked.get(version, 0) + 1
        try:
            yield version
        finally:
            with self._lock:
                self._asked[version] -= 1
                if not self._asked[version]:
                    del self._asked[version]
            self._let_go()

    def put(self, version: Version) -> None:
        """Serves a version under its name, in place of the one that had it, which stays loaded for ``roll_back``.

        Raises:
            LoraForgeError: if it cannot be loaded; what was served goes on.
        """
        with self._changing:
            if version.chat is not None:
                if self.backend is None:
                    raise RunError(say("{path} answers with text; this server was started for pictures alone.", path=version.path))
                self.backend.add(version)
            with self._lock:
                slot = self._slots.get(version.name)
                if slot is None:
                    self._slots[version.name] = _Slot(version)
                else:
                    if slot.before is not None:
                        self._leaving.add(slot.before)
                    slot.before, slot.current = slot.current, version
        self._let_go()

    def roll_back(self, name: str) -> Version:
        """Serves the version before again; the two change places.

        Raises:
            RequestError: if there is no such name, or none before it.
        """
        with self._changing, self._lock:
            slot = self._slot(name)
            if slot.before is None:
                raise RequestError(409, say("'{name}' has no earlier version to go back to.", name=name), "no_earlier_version")
            slot.current, slot.before = slot.before, slot.current
            return slot.current

    def take_away(self, name: str) -> None:
        """Serves a name no more. Answers that are being given are given to their end.

        Raises:
            RequestError: if there is no such name.
        """
        if name == BASE:
            raise RequestError(400, say("the base is what all adapters stand on; it stays."), "base_stays")
        with self._changing, self._lock:
            slot = self._slot(name)
            del self._slots[name]
            self._leaving |= {slot.current, *([slot.before] if slot.before else [])}
        self._let_go()

    def _slot(self, name: str) -> _Slot:
        if name not in self._slots:
            raise RequestError(404, say("no adapter called '{name}' is served.", name=name), "model_not_found")
        return self._slots[name]

    def _let_go(self) -> None:
        """Unloads the versions that have left and that nobody is being answered by."""
        with self._lock:
            free = {version for version in self._leaving if version not in self._asked}
            self._leaving -= free
        for version in free:
            if self.backend is not None and version.chat is not None:
                self.backend.remove(version)
