# SPDX-License-Identifier: Apache-2.0
"""Libraries that only some need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from loraforge import DataError, speaker

say = speaker(__name__)


@contextlib.contextmanager
def needed(extra: str, kinds: str) -> Iterator[None]:
    """Around an import.

    Raises:
        DataError: naming the extra that brings the library, if it is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise DataError(
            say(
                "files of the kinds {kinds} need a library that is not installed ({name}): pip install 'loraforge[{extra}]'",
                kinds=kinds,
                name=error.name,
                extra=extra,
            )
        ) from None
