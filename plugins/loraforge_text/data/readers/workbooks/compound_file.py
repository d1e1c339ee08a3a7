# SPDX-License-Identifier: Apache-2.0
"""Compound files, in which .xls lie: streams of sectors, each of which says which is the next one.

Source: [MS-CFB] 2.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Sequence

from loraforge import speaker

say = speaker(__name__)

_END = 0xFFFFFFFA  # and above: no sector


class Endless(ValueError):
    """Sectors that lead back to themselves: whoever follows them without counting fills the memory."""


class CompoundFile:
    """The streams of a compound file.

    Raises:
        ValueError, struct.error: if it is none.
        Endless: if its sectors lead back to themselves.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._size, self._small = 1 << struct.unpack_from("<H", data, 30)[0], 1 << struct.unpack_from("<H", data, 32)[0]
        if self._size not in (512, 4096) or self._small >= self._size:
            raise ValueError("sectors of another size")
        directory, _, self._cutoff, small_fat, _, more, _ = struct.unpack_from("<7I", data, 48)
        tables = list(struct.unpack_from("<109I", data, 76))
        seen: set[int] = set()
        while more < _END:
            if more in seen:
                raise Endless(say("its sectors lead back to themselves"))
            seen.add(more)
            *rest, more = self._numbers(more)
            tables += rest
        self._fat = [entry for table in tables if table < _END for entry in self._numbers(table)]
        self._links = [entry for number in _chain(small_fat, self._fat) for entry in self._numbers(number)]
        entries = self._stream(directory)
        # By name in lower case: (the first sector, bytes).
        self._parts: dict[str, tuple[int, int]] = {}
        root = _END
        for at in range(0, len(entries) - 127, 128):
            length, kind = struct.unpack_from("<HB", entries, at + 64)
            start, count = struct.unpack_from("<II", entries, at + 116)
            if kind == 5:
                root = start
            elif kind == 2:
                self._parts.setdefault(entries[at : at + max(0, length - 2)].decode("utf-16-le", "replace").lower(), (start, count))
        self._inner = self._stream(root)

    def read(self, name: str) -> bytes:
        """A stream by its name in lower case.

        Raises:
            KeyError: if there is none.
        """
        start, count = self._parts[name]
        if count >= self._cutoff:
            return self._stream(start)[:count]
        small = self._small
        return b"".join(self._inner[number * small : (number + 1) * small] for number in _chain(start, self._links))[:count]

    @property
    def names(self) -> Sequence[str]:
        """Of the streams, in lower case."""
        return tuple(self._parts)

    def _sector(self, number: int) -> bytes:
        return self._data[(number + 1) * self._size : (number + 2) * self._size]

    def _numbers(self, sector: int) -> tuple[int, ...]:
        """What a sector of links holds; where the file ends before it does, there is nothing."""
        return struct.unpack(f"<{self._size // 4}I", self._sector(sector).ljust(self._size, b"\xff"))

    def _stream(self, start: int) -> bytes:
        return b"".join(self._sector(number) for number in _chain(start, self._fat))


def refuse_endless(data: bytes) -> None:
    """Raises:
    Endless: if a library that reads the file would not come to an end. What else is wrong with it, the library says.
    """
    with contextlib.suppress(struct.error):
        try:
            file = CompoundFile(data)
            for name in file.names:
                file.read(name)
        except Endless:
            raise
        except ValueError:
            pass


def _chain(start: int, links: Sequence[int]) -> Iterator[int]:
    """The sectors of a stream.

    Raises:
        Endless: if there are more than sectors.
    """
    for _ in range(len(links) + 1):
        if start >= _END:
            return
        yield start
        if start >= len(links):
            return
        start = links[start]
    raise Endless(say("its sectors lead back to themselves"))
