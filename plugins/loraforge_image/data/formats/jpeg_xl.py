# SPDX-License-Identifier: Apache-2.0
"""The size of a JPEG XL picture, from its first bytes: its package decodes all of it to tell."""

from __future__ import annotations

from fractions import Fraction

# What the width is of the height, by the three bits that say so (ISO/IEC 18181-1, SizeHeader).
_RATIOS = (None, Fraction(1), Fraction(12, 10), Fraction(4, 3), Fraction(3, 2), Fraction(16, 9), Fraction(5, 4), Fraction(2))
_LENGTHS = (9, 13, 18, 30)


def jxl_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) as they are coded, from the start of a file; None where they do not stand there."""
    start = _codestream(data)
    if not data.startswith(b"\xff\x0a", start):
        return None
    bits = int.from_bytes(data[start + 2 : start + 14].ljust(12, b"\0"), "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    small = take(1)

    def side() -> int:
        return (take(5) + 1) * 8 if small else take(_LENGTHS[take(2)]) + 1

    height = side()
    ratio = _RATIOS[take(3)]
    return (int(height * ratio) if ratio else side()), height


def _codestream(data: bytes) -> int:
    """Where the picture begins: at once, or in a box of the container."""
    if not data.startswith(b"\0\0\0\x0cJXL "):
        return 0
    place = 12
    while place + 8 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        head = 16 if length == 1 else 8
        if kind in (b"jxlc", b"jxlp"):
            return place + head + (4 if kind == b"jxlp" else 0)
        length = int.from_bytes(data[place + 8 : place + 16], "big") if length == 1 else length
        if length < head:
            break
        place += length
    return len(data)
