# SPDX-License-Identifier: Apache-2.0
"""Says how long a slow way over many rows will take, while it takes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from ..messages import speaker
from ..runs.observers import duration

say = speaker(__name__)

T = TypeVar("T")

_SILENCE = 15.0  # seconds between two sentences, and before the first
_LONG = 180.0  # seconds from which on the first sentence says more


def patiently(rows: Sequence[T], tell: Callable[[str], None] | None) -> Iterator[T]:
    """The rows one by one; ``tell`` hears how far they are, if they take their time.

    Args:
        tell: called with a sentence now and then, and not at all if all are done within seconds.
    """
    start = last = time.monotonic()
    for done, row in enumerate(rows):
        now = time.monotonic()
        if tell is not None and done and now - last >= _SILENCE:
            each = (now - start) / done
            left = each * (len(rows) - done)
            if last == start and left > _LONG:
                tell(
                    say(
                        "the template takes {each:.1f} s for each row, about {time} for all {n}, before anything is trained. "
                        "Ctrl-C stops; a well-known prompt_template or fewer rows take less.",
                        each=each,
                        time=duration(each * len(rows)),
                        n=len(rows),
                    )
                )
            tell(say("{done} of {all} rows are rendered, about {time} left", done=done, all=len(rows), time=duration(left)))
            last = now
        yield row
