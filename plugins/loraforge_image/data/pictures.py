"""Reads whatever picture an illustrator has, as RGB and the right way up. Without torch."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import warnings
from pathlib import Path
from typing import Any

from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from loraforge import DataError, refuse_machines_fault, require_file, speaker

say = speaker(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif")
# 24 000 x 24 000; beyond lies nobody's artwork, but many a file made to fill a machine's memory.
LARGEST = 576_000_000
# So does what is large and unpacks to more than this many pixels a byte: drawings in flat colours have 30, one colour alone 1000.
_UNPACKED, _PLENTY = 200, 64_000_000
# Pillow knows fifty kinds and goes by the content, not the name: PostScript that is called a.png would be handed to Ghostscript.
_KINDS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "TIFF", "GIF", "AVIF")


def read_size(path: Path) -> tuple[int, int]:
    """(width, height) the right way up, from the file's header.

    Raises:
        DataError: if it is no picture.
    """
    with open_picture(path) as image:
        try:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        except Exception as error:  # Pillow raises many kinds for damaged files
            refuse_machines_fault(error)
            raise DataError(_damaged(path, error)) from None
        return (image.height, image.width) if turned else image.size


def read_picture(path: Path) -> Image.Image:
    """The picture as RGB: turned as EXIF says, its first frame, transparency on white, CMYK and 16 bits converted, profiles to sRGB.

    Raises:
        DataError: if it is damaged, or no picture.
    """
    return read_whole(path)[0]


def read_whole(path: Path, least: int = 0) -> tuple[Image.Image, tuple[int, int], Image.Exif]:
    """The picture as ``read_picture`` gives it, its size (width, height) the right way up, and its EXIF data.

    Args:
        least: so many pixels of the longer side are enough: a JPEG is decoded at half, a quarter or an eighth of its size, which takes a
            fraction of the time. The size that is returned is that of the file.

    Raises:
        DataError: if it is damaged, or no picture.
    """
    with open_picture(path) as image:
        try:
            image.seek(0)
            size = image.size
            if least:
                shrunk = least / max(size)
                image.draft(None, (max(1, round(size[0] * shrunk)), max(1, round(size[1] * shrunk))))
            image.load()
            exif = image.getexif()
            with contextlib.suppress(Exception):  # EXIF of broken writers
                exif.get_ifd(0x8825), exif.get_ifd(0x8769)  # place and camera: read now, while the file is open
            profile = image.info.get("icc_profile")
            turned = ImageOps.exif_transpose(image) or image
            return _to_rgb(turned, profile), (size[::-1] if exif.get(0x0112, 1) in (5, 6, 7, 8) else size), exif
        except Exception as error:  # as above
            refuse_machines_fault(error)
            raise DataError(_damaged(path, error)) from None


def content_hash(image: Image.Image) -> str:
    """SHA-256 (hex) of size and pixels."""
    return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).hexdigest()


def open_picture(path: Path) -> Any:
    """Opens a picture and reads its header.

    Raises:
        DataError: if it is none.
    """
    try:
        size = require_file(path).st_size
        if size == 0:
            raise DataError(say("the picture file is empty (0 bytes)"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own bound is below
            Image.MAX_IMAGE_PIXELS = None
            image = Image.open(path, formats=_kinds())
    except FileNotFoundError:
        raise DataError(say("there is no such file")) from None
    except UnidentifiedImageError:
        raise DataError(say("it is no picture that can be read; save it as PNG, JPEG or WebP")) from None
    except DataError:
        raise
    except Exception as error:  # as above
        refuse_machines_fault(error)
        raise DataError(_damaged(path, error)) from None
    pixels, shown = image.width * image.height, f"{image.width}x{image.height}"
    if pixels > LARGEST:
        image.close()
        raise DataError(say("it is {size} pixels large, more than can be meant; make it smaller", size=shown))
    if pixels > max(_PLENTY, size * _UNPACKED):
        image.close()
        raise DataError(
            say("it is {size} pixels large in {bytes} bytes, as files made to fill the memory are; make it smaller", size=shown, bytes=size)
        )
    return image


@functools.cache
def _kinds() -> tuple[str, ...]:
    Image.init()
    return tuple(kind for kind in _KINDS if kind in Image.OPEN)


def is_written_by(path: Path, program: str) -> bool:
    """Whether a PNG says that this program wrote it."""
    try:
        require_file(path)
        with Image.open(path, formats=("PNG",)) as image:
            return image.info.get("Software") == program
    except Exception:  # as above
        return False


def _damaged(path: Path, error: BaseException) -> str:
    reason = str(error) or type(error).__name__
    return say("the picture is damaged: {reason}", reason=reason.replace(str(path), path.name))


def _to_rgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits a channel: Pillow's own conversion would clip, not scale
        import numpy as np

        values = np.asarray(image).astype(np.float64)
        top = 65535.0 if image.mode.startswith("I") and values.max(initial=0) > 255 else max(255.0, float(values.max(initial=0)))
        return Image.fromarray((values * (255.0 / top)).clip(0, 255).astype(np.uint8)).convert("RGB")
    if profile and image.mode in ("RGB", "CMYK", "L"):
        try:
            import io

            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a profile that cannot be used is as good as none
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
