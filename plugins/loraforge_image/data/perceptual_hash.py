"""The perceptual hash of a picture, and what else one decoding of its file tells: a process decodes each file once. Without torch."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from loraforge import DataError

from .pictures import content_hash, read_picture, read_whole
from .vision import sharpness

# Bits of 64 by which the perceptual hashes of two copies may differ: recompressed and resized copies differ by 0 to 4.
NEAR = 6
# Mean difference of the colours (0 to 255) on an 8 x 8 grid: the hash sees no colour, and a character in two dresses is no copy.
COLOURS = 16.0

# Pixels of the longer side that hash and sharpness are made of; sharpness itself is measured at 512.
_ENOUGH = 640
_SIDES = 2 * 512
# What EXIF and Windows call those who made a picture, and the numbers by which a camera is known.
_OWNER = {0x013B: "Artist", 0x8298: "Copyright", 0x9C9D: "XPAuthor"}
_CAMERA = {0xA430: "CameraOwnerName", 0xA431: "BodySerialNumber", 0xA435: "LensSerialNumber"}


@dataclass(frozen=True)
class PictureInfo:
    """What was seen of one picture file.

    Attributes:
        problem: why it cannot be used; the rest is empty then.
        width, height: in pixels, the right way up.
        phash: the perceptual hash, 64 bits.
        mirrored: that of the mirror image.
        colours: 8 x 8 x 3 mean colours, 0 to 255.
        sharpness: see ``vision.sharpness``.
        placed: whether its EXIF says where it was taken.
        owner: the EXIF fields that name who made it, or with which camera.
        unprofiled: whether its colour profile cannot be used.
    """

    problem: str = ""
    width: int = 0
    height: int = 0
    phash: int = 0
    mirrored: int = 0
    colours: Any = field(default=None, repr=False)
    sharpness: float = 0.0
    placed: bool = False
    owner: tuple[str, ...] = ()
    unprofiled: bool = False

    def distance(self, other: PictureInfo) -> int:
        """In how many of 64 bits the perceptual hashes differ."""
        return (self.phash ^ other.phash).bit_count()

    def resembles(self, other: PictureInfo) -> bool:
        """Whether one is nearly a copy of the other, as ``loraforge prepare`` means it: by shape and by colour."""
        return self.distance(other) <= NEAR and float(abs(self.colours - other.colours).mean()) < COLOURS

    def mirror(self) -> PictureInfo:
        """What would be seen of the mirror image."""
        return replace(self, phash=self.mirrored, mirrored=self.phash, colours=self.colours[:, ::-1])


def perceptual_hash(image: Image.Image) -> tuple[int, Any]:
    """The perceptual hash (64 bits, of which 32 are set) and the mean colours on an 8 x 8 grid (8, 8, 3), 0 to 255."""
    import imagehash
    import numpy as np

    bits = np.asarray(imagehash.phash(image).hash, dtype=np.uint8).reshape(-1)
    small = image.resize((8, 8), Image.Resampling.BOX)
    return int.from_bytes(np.packbits(bits).tobytes(), "big"), np.asarray(small, dtype=np.float64)


def picture_info(path: str) -> PictureInfo:
    """Looks at one file; what was seen is remembered until the file changes."""
    return _picture_info(path, *_state(path))


def picture_infos(paths: Sequence[str]) -> list[PictureInfo]:
    """Looks at many files, four at a time: Pillow decodes outside of Python's lock."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(picture_info, paths))


def same_pixels(one: str, other: str) -> bool:
    """Whether two files hold the very same picture, in whatever format."""
    try:
        return _pixels(one, *_state(one)) == _pixels(other, *_state(other))
    except DataError:
        return False


def bits(phash: int) -> frozenset[tuple[int, int]]:
    """A perceptual hash as 64 (place, bit) pairs: hashes that differ in at most 7 bits share 57 of at most 71, which is 0.8."""
    return frozenset((place, phash >> place & 1) for place in range(64))


def _state(path: str) -> tuple[int, int]:
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return 0, 0
    return found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=100_000)
def _picture_info(path: str, changed: int, size: int) -> PictureInfo:
    try:
        image, (width, height), exif = read_whole(Path(path), _ENOUGH)
        # What is left of a large PNG is still twice the size that sharpness is measured at; hashing all of it would take longer.
        image = image.reduce(max(1, max(image.size) // _SIDES))
        phash, colours = perceptual_hash(image)
        mirrored, _ = perceptual_hash(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
        placed, owner = _private(exif)
        unprofiled = bool(image.info.get("unused_profile"))
        return PictureInfo("", width, height, phash, mirrored, colours, sharpness(image), placed, owner, unprofiled)
    except DataError as error:
        return PictureInfo(str(error))


@functools.lru_cache(maxsize=10_000)
def _pixels(path: str, changed: int, size: int) -> str:
    return content_hash(read_picture(Path(path)))


def _private(exif: Image.Exif) -> tuple[bool, tuple[str, ...]]:
    """Whether the place is given, and the names of the fields that tell whose the picture is."""
    try:
        place, camera = exif.get_ifd(0x8825), exif.get_ifd(0x8769)
        values = {**{name: exif.get(tag) for tag, name in _OWNER.items()}, **{name: camera.get(tag) for tag, name in _CAMERA.items()}}
    except Exception:  # EXIF of broken writers
        return False, ()
    owner = tuple(name for name, value in values.items() if value and str(value).strip("\0 "))
    return bool(place.get(2) and place.get(4)), owner
