# SPDX-License-Identifier: Apache-2.0
"""ICC profiles and picture files written by hand, byte by byte, so that no library decides what they mean."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

# Chromaticities (x, y) of red, green, blue; white is D65 (SMPTE EG 432-1, ITU-R BT.709).
DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
_D65, _D50 = (0.95047, 1.0, 1.08883), (0.9642, 1.0, 0.8249)


def to_xyz(primaries) -> list[list[float]]:
    """The matrix from linear RGB to XYZ under D50, by Bradford's adaptation (ICC.1 annex E)."""
    import numpy as np

    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    matrix = columns * np.linalg.solve(columns, np.array(_D65))
    cone = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    adapt = np.linalg.inv(cone) @ np.diag((cone @ _D50) / (cone @ _D65)) @ cone
    return (adapt @ matrix).tolist()


def _number(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _curve(gamma: float | None) -> bytes:
    """A gamma, or sRGB's own curve (parametric, type 3)."""
    if gamma is None:
        return b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + b"".join(map(_number, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)))
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def _profile(space: bytes, tags: Sequence[tuple[bytes, bytes]], kind: bytes = b"mntr", between: bytes = b"XYZ ") -> bytes:
    text = "for a test".encode("utf-16-be")
    tags = [*tags, (b"desc", b"mluc\0\0\0\0" + struct.pack(">IIHHII", 1, 12, 0x656E, 0x5553, len(text), 28) + text)]
    tags += [(b"cprt", tags[-1][1]), (b"wtpt", b"XYZ \0\0\0\0" + b"".join(map(_number, _D50)))]
    table, data, start = b"", b"", 132 + 12 * len(tags)
    for name, value in tags:
        value += b"\0" * (-len(value) % 4)
        table += name + struct.pack(">II", start + len(data), len(value))
        data += value
    head = struct.pack(">I4sI4s4s4s", start + len(data), b"\0\0\0\0", 0x04300000, kind, space, between) + b"\0" * 12 + b"acsp"
    head += b"\0" * 28 + b"".join(map(_number, _D50)) + b"\0" * 48
    return head + struct.pack(">I", len(tags)) + table + data


def rgb_profile(primaries=DISPLAY_P3, gamma: float | None = None, order: str = "rgb") -> bytes:
    """``order`` "bgr": what is called red is blue."""
    columns = dict(zip(order, zip(*to_xyz(primaries), strict=True), strict=True))
    tags = [(f"{name}XYZ".encode(), b"XYZ \0\0\0\0" + b"".join(map(_number, columns[name]))) for name in "rgb"]
    return _profile(b"RGB ", [*tags, *((f"{name}TRC".encode(), _curve(gamma)) for name in "rgb")])


def grey_profile(gamma: float) -> bytes:
    return _profile(b"GRAY", [(b"kTRC", _curve(gamma))])


def cmyk_profile(lab) -> bytes:
    """A table of two points a channel: ``lab(c, m, y, k)`` with 0 or 1 each gives (L, a, b)."""
    head = b"mft1\0\0\0\0" + struct.pack(">BBBB", 4, 3, 2, 0) + b"".join(map(_number, (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    line = bytes(range(256))
    points = b"".join(
        bytes([round(L * 2.55), round(a) + 128, round(b) + 128])
        for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1) for L, a, b in [lab(c, m, y, k)]
    )  # fmt: skip
    return _profile(b"CMYK", [(b"A2B0", head + line * 4 + points + line * 3)], b"prtr", b"Lab ")


def png(width: int, height: int, depth: int, kind: int, rows: bytes, **chunks: bytes) -> bytes:
    """A PNG; ``rows`` begin with the filter byte each, ``chunks`` (PLTE, tRNS ...) stand before them."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    profile = [chunk(b"iCCP", b"icc\0\0" + zlib.compress(chunks.pop("icc")))] if "icc" in chunks else []
    between = b"".join([*profile, *(chunk(name.encode(), data) for name, data in chunks.items())])
    return b"\x89PNG\r\n\x1a\n" + head + between + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(width: int, height: int, bits: int, photometric: int, data: bytes, *, channels: int = 1, kind: int = 1, icc: bytes = b"") -> bytes:
    """An uncompressed little-endian TIFF; ``kind`` 1 unsigned, 2 signed, 3 floats; ``photometric`` 0 white is zero, 1 black is, 2 RGB."""
    entries: list[tuple[int, str, list[int] | bytes]] = [
        (256, "H", [width]), (257, "H", [height]), (258, "H", [bits] * channels), (259, "H", [1]), (262, "H", [photometric]),
        (273, "I", [0]), (277, "H", [channels]), (278, "H", [height]), (279, "I", [len(data)]), (339, "H", [kind] * channels),
        *([(34675, "B", icc)] if icc else []),
    ]  # fmt: skip
    place = 8 + 2 + 12 * len(entries) + 4
    packed = [(tag, code, len(values), struct.pack(f"<{len(values)}{code}", *values)) for tag, code, values in entries]
    start = place + sum(len(value) + len(value) % 2 for *_, value in packed if len(value) > 4)
    listed, beside = b"", b""
    for tag, code, count, value in packed:
        value = struct.pack("<I", start) if tag == 273 else value
        listed += struct.pack("<HHI", tag, {"B": 7, "H": 3, "I": 4}[code], count)
        listed += value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", place + len(beside))
        beside += value + b"\0" * (len(value) % 2) if len(value) > 4 else b""
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + listed + b"\0\0\0\0" + beside + data


def psd(
    planes: Sequence[bytes], width: int, height: int, *, mode: int = 3, bits: int = 8, icc: bytes = b"", merged: bool | None = None
) -> bytes:
    """A Photoshop file without layers; ``merged`` False says that the picture beside them is none."""
    held = [(1039, icc)] if icc else []
    held += [] if merged is None else [(1057, struct.pack(">IB", 1, merged) + b"\0" * 12)]
    resources = b"".join(b"8BIM" + struct.pack(">HHI", name, 0, len(data)) + data + b"\0" * (len(data) % 2) for name, data in held)
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, len(planes), height, width, bits, mode)
    return head + struct.pack(">II", 0, len(resources)) + resources + struct.pack(">IH", 0, 0) + b"".join(planes)
