# SPDX-License-Identifier: Apache-2.0
"""When an answer only repeats itself, told by its tokens: exact, and so late that tables, lists and refrains are left alone."""

from __future__ import annotations

from collections.abc import Sequence

# A table has ten equal rows at times, a form a line of eighty underscores, a song its refrain three times in a row.
REPEATED = 200  # tokens that one piece must have filled, again and again
TIMES = 4  # and how often it must stand there, however long it is
_LONGEST = 128  # tokens; an answer that repeats a longer piece is left to its longest length


def repeats(tokens: Sequence[int]) -> bool:
    """Whether the last ``REPEATED`` tokens or more are one piece of at most 128 tokens, at least ``TIMES`` in a row."""
    for period in range(1, _LONGEST + 1):
        span = max(REPEATED, TIMES * period)
        if span > len(tokens):
            return False  # longer pieces need more still
        tail = tokens[-span:]
        if tail[period:] == tail[:-period]:
            return True
    return False
