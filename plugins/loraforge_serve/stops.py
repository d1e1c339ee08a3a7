# SPDX-License-Identifier: Apache-2.0
"""Texts that end an answer, and blanks around it, in an answer that comes piece by piece."""

from __future__ import annotations

from collections.abc import Sequence


class StopText:
    """Cuts an answer at the first of some texts, which is not part of it, and takes the blanks off its ends, as ``sample`` does.

    What may still turn out to be the beginning of such a text, or a blank at the end, is held back.
    """

    def __init__(self, stops: Sequence[str], strip: bool = True) -> None:
        self._stops, self._strip = tuple(stop for stop in stops if stop), strip
        self._held, self._begun, self.stopped = "", not strip, False

    def push(self, text: str) -> str:
        """What can be shown after ``text`` has come."""
        if self.stopped:
            return ""
        self._held += text
        places = [(place, stop) for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if places:
            self.stopped = True
            self._held = self._held[: min(places)[0]]
            return self._shown(self._held.rstrip() if self._strip else self._held)
        keep = max((n for stop in self._stops for n in range(1, len(stop)) if self._held.endswith(stop[:n])), default=0)
        ready = self._held[: len(self._held) - keep]
        return self._shown(ready.rstrip() if self._strip else ready)

    def rest(self) -> str:
        """What is shown at the end of the answer."""
        return "" if self.stopped else self._shown(self._held.rstrip() if self._strip else self._held)

    def _shown(self, ready: str) -> str:
        self._held = self._held[len(ready) :]
        if not self._begun:
            ready = ready.lstrip()
            self._begun = bool(ready)
        return ready
