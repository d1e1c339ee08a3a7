# SPDX-License-Identifier: Apache-2.0
"""A quiz of a few questions: what a comparison of tiny models needs of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from loraforge.evaluation.general_knowledge import GeneralKnowledge

_MOST = 6


@contextmanager
def short_quiz() -> Iterator[None]:
    """Of the sixty questions about general knowledge six are asked, which are half of the time that a comparison takes otherwise."""
    whole = GeneralKnowledge.that_fit

    def some(self: GeneralKnowledge, scorer) -> GeneralKnowledge:
        found = whole(self, scorer)
        every = max(1, len(found.rows) // _MOST)
        return GeneralKnowledge(found.rows[::every], found.groups[::every])

    GeneralKnowledge.that_fit = some
    try:
        yield
    finally:
        GeneralKnowledge.that_fit = whole
