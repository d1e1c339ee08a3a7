# SPDX-License-Identifier: Apache-2.0
"""Reads masks: pictures that are white where something is learned, and the transparency that a picture has of its own. Without torch."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps

from loraforge import DataError, refuse_machines_fault, speaker, why

from .formats.colours import opacity
from .pictures import open_picture, read_picture

say = speaker(__name__)

_SHAPE = 0.02  # by which the shapes of a picture and its mask may differ: programs round the sides of small copies


def read_mask(path: Path, size: tuple[int, int]) -> Image.Image:
    """A mask in the size (width, height) of its picture; mode L, 0 to 255.

    Raises:
        DataError: if it is no picture, or one of another shape.
    """
    try:
        mask = read_picture(path).convert("L")
    except DataError as error:
        raise DataError(say("its mask {name} cannot be used: {reason}", name=path.name, reason="; ".join(error.problems))) from None
    check_shape(path, mask.size, size)
    return mask if mask.size == size else mask.resize(size, Image.Resampling.BOX)


def check_shape(path: Path, mask: tuple[int, int], size: tuple[int, int]) -> None:
    """Raises:
    DataError: if a mask of that size (width, height) does not belong to a picture of ``size``.
    """
    if abs(mask[0] * size[1] / (mask[1] * size[0]) - 1) > _SHAPE:
        raise DataError(
            say(
                "its mask {name} has another shape than the picture: {a}x{b} and {width}x{height}",
                name=path.name,
                a=mask[0],
                b=mask[1],
                width=size[0],
                height=size[1],
            )
        )


def has_alpha(path: Path) -> bool:
    """Whether a picture has transparency, by its header where that tells; False if it cannot be read."""
    try:
        with open_picture(path) as image:
            if image.format != "TGA" or not _transparent(image):
                return _transparent(image)
        return read_alpha(path) is not None  # many Targa files leave it empty
    except DataError:
        return False


def read_alpha(path: Path) -> Image.Image | None:
    """The opacity of a picture, the right way up: mode L, 255 where nothing shines through; None if it has none.

    Raises:
        DataError: if it is damaged, or no picture.
    """
    with open_picture(path) as image:
        if not _transparent(image):
            return None
        try:
            image.seek(0)
            image.load()
            alpha = opacity(image)
            if alpha is None:
                return None
            alpha.getexif()[0x0112] = image.getexif().get(0x0112, 1)
            return ImageOps.exif_transpose(alpha)
        except Exception as error:  # Pillow raises many kinds for damaged files
            refuse_machines_fault(error)
            raise DataError(say("the picture is damaged: {reason}", reason=why(error))) from None


def _transparent(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
