# SPDX-License-Identifier: Apache-2.0
"""How many answers are given or waited for at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from loraforge import speaker

from .problems import RequestError

say = speaker(__name__)


class Admission:
    """Lets a limited number of answers in. For one event loop.

    Args:
        most: how many at once, those that wait for their turn included.
    """

    def __init__(self, most: int) -> None:
        self.most, self.inside = most, 0

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """One answer.

        Raises:
            RequestError: if too many are inside already (429).
        """
        if self.inside >= self.most:
            text = say("{n} questions are being answered or wait already. Ask again in a moment.", n=self.inside)
            raise RequestError(429, text, "queue_full", {"Retry-After": "2"})
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
