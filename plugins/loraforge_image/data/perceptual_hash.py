# SPDX-License-Identifier: Apache-2.0
"""What one decoding of a picture's file tells: how it looks, how sharp it is. A process decodes each file once. Without torch."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from loraforge import DataError

from .near_copies import Look, look, near_copies
from .pictures import content_hash, read_picture, read_whole
from .vision import sharpness

# Pixels of the longer side that hash and sharpness are made of; sharpness itself is measured at 512.
_ENOUGH = 640
_SIDES = 2 * 512
# What EXIF and Windows call those who made a picture, and the numbers by which a camera is known.
_OWNER = {0x013B: "Artist", 0x8298: "Copyright", 0x9C9D: "XPAuthor"}
_CAMERA = {0xA430: "CameraOwnerName", 0xA431: "BodySerialNumber", 0xA435: "LensSerialNumber"}


@dataclass(frozen=True)
class PictureInfo(Look):
    """What was seen of one picture file.

    Attributes:
        problem: why it cannot be used; the rest is empty then.
        sharpness: see ``vision.sharpness``.
        placed: whether its EXIF says where it was taken.
        owner: the EXIF fields that name who made it, or with which camera.
        unprofiled: whether its colour profile cannot be used.
    """

    problem: str = ""
    sharpness: float = 0.0
    placed: bool = False
    owner: tuple[str, ...] = ()
    unprofiled: bool = False


@dataclass(frozen=True)
class PictureLooks:
    """How the hold-out tells near-copies among pictures (``loraforge.Looks``).

    Attributes:
        look: what the picture looks like.
        mirrored: whether it is learned mirrored too.
    """

    look: Look
    mirrored: bool = False

    def earlier(self, all: Sequence[Any]) -> Iterator[list[int]]:
        """For every one of ``all`` in turn, the earlier ones of which it is nearly a copy, or the mirror image where either is mirrored."""
        seen = [one.look if one is not None else None for one in all]
        turned = [one.look.mirror() if one is not None else None for one in all]
        flipped = near_copies(seen, turned) if any(one is not None and one.mirrored for one in all) else ([] for _ in all)
        for row, (near, mirrored) in enumerate(zip(near_copies(seen), flipped, strict=True)):
            yield [*near, *(other for other in mirrored if other not in near and (all[row].mirrored or all[other].mirrored))]


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
        seen = vars(look(image, (width, height)))
        placed, owner = _private(exif)
        unprofiled = bool(image.info.get("unused_profile"))
        return PictureInfo(**seen, sharpness=sharpness(image), placed=placed, owner=owner, unprofiled=unprofiled)
    except DataError as error:
        return PictureInfo(problem=str(error))


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
