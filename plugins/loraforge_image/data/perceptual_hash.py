"""What one look at a picture file tells the run, its checks and its split. A process decodes each file once. Without torch."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from loraforge import DataError

from .looking import COLOURS, NEAR, shape_of, sharpness
from .pictures import content_hash, read_picture, read_whole

# Pixels of the longer side that hash and sharpness are made of; sharpness itself is measured at 512.
_ENOUGH = 640
_SIDES = 2 * 512
# What EXIF and Windows call those who made a picture, and the numbers by which a camera is known.
_OWNER = {0x013B: "Artist", 0x8298: "Copyright", 0x9C9D: "XPAuthor"}
_CAMERA = {0xA430: "CameraOwnerName", 0xA431: "BodySerialNumber", 0xA435: "LensSerialNumber"}


@dataclass(frozen=True)
class Glance:
    """What was seen of one picture file.

    Attributes:
        problem: why it cannot be used; the rest is empty then.
        width, height: in pixels, the right way up.
        shape: the perceptual hash, 64 bits.
        colours: 8 x 8 x 3 mean colours, 0 to 255.
        sharpness: see ``looking.sharpness``.
        placed: whether its EXIF says where it was taken.
        owner: the EXIF fields that name who made it, or with which camera.
    """

    problem: str = ""
    width: int = 0
    height: int = 0
    shape: int = 0
    colours: Any = field(default=None, repr=False)
    sharpness: float = 0.0
    placed: bool = False
    owner: tuple[str, ...] = ()

    def distance(self, other: Glance) -> int:
        """In how many of 64 bits the perceptual hashes differ."""
        return (self.shape ^ other.shape).bit_count()

    def resembles(self, other: Glance) -> bool:
        """Whether one is nearly a copy of the other, as ``loraforge prepare`` means it: by shape and by colour."""
        return self.distance(other) <= NEAR and float(abs(self.colours - other.colours).mean()) < COLOURS


def glance(path: str) -> Glance:
    """Looks at one file; what was seen is remembered until the file changes."""
    return _glance(path, *_state(path))


def glances(paths: Sequence[str]) -> list[Glance]:
    """Looks at many files, four at a time: Pillow decodes outside of Python's lock."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(glance, paths))


def same_pixels(one: str, other: str) -> bool:
    """Whether two files hold the very same picture, in whatever format."""
    try:
        return _pixels(one, *_state(one)) == _pixels(other, *_state(other))
    except DataError:
        return False


def bits(shape: int) -> frozenset[tuple[int, int]]:
    """A perceptual hash as 64 (place, bit) pairs: hashes that differ in at most 7 bits share 57 of at most 71, which is 0.8."""
    return frozenset((place, shape >> place & 1) for place in range(64))


def _state(path: str) -> tuple[int, int]:
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return 0, 0
    return found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=100_000)
def _glance(path: str, changed: int, size: int) -> Glance:
    try:
        image, (width, height), exif = read_whole(Path(path), _ENOUGH)
        # What is left of a large PNG is still twice the size that sharpness is measured at; hashing all of it would take longer.
        image = image.reduce(max(1, max(image.size) // _SIDES))
        shape, colours = shape_of(image)
        placed, owner = _private(exif)
        return Glance("", width, height, shape, colours, sharpness(image), placed, owner)
    except DataError as error:
        return Glance(str(error))


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
