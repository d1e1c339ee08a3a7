# SPDX-License-Identifier: Apache-2.0
"""Colours of every kind that pictures are kept in, as sRGB on white: profiles, transparency, 16 and 32 bits a channel. Without torch."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image, ImageCms

from loraforge import DataError, speaker

say = speaker(__name__)

_WHITE = (255, 255, 255, 255)
_GREYS = ("1", "L", "LA", "La")
# The share of a float picture's pixels that may be brighter than white or darker than black: resizing and highlights leave some, and
# where there are more, its numbers are not brightness from 0 to 1.
_BEYOND = 0.01


def to_srgb(image: Image.Image) -> tuple[Image.Image, bool]:
    """A picture that Pillow opened and loaded, as RGB of 8 bits in sRGB, with what is transparent on white.

    Colours are converted by the embedded ICC profile, perceptual intent; then they are put on white. What has no profile is sRGB; CMYK
    without one is converted as Pillow does it. Whole numbers are as bright as their depth says, so that a dark picture of 16 bits stays
    dark; floats are 0 (black) to 1 (white), of which up to 1 % may lie beyond and are cut.

    Returns:
        The picture without metadata, and whether it has a profile that cannot be used.

    Raises:
        DataError: if its numbers are of no known range of brightness.
    """
    source = _profile(image.info.get("icc_profile"))
    colours, used = _colours(image, source)
    alpha = opacity(image)
    if alpha is not None:
        colours.putalpha(alpha)
        colours = Image.alpha_composite(Image.new("RGBA", colours.size, _WHITE), colours).convert("RGB")
    colours.info = {}
    return colours, bool(image.info.get("icc_profile")) and not used


def opacity(image: Image.Image) -> Image.Image | None:
    """How opaque each pixel is (mode L, 255 is opaque), or None where the picture has no transparency."""
    if image.format == "TGA" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return None  # many programs write nothing into the fourth byte
    if image.format == "PSD" and image.mode == "RGBA" and _matted(image):
        return None
    key = image.info.get("transparency")
    if key is None or image.mode not in ("1", "L", "RGB", "I", "I;16", "I;16B"):
        return image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    import numpy as np

    values, depth = np.asarray(image), _depth(image)
    if image.mode == "RGB":
        wanted = [one >> 8 if depth == 16 else one for one in key]  # as Pillow shortens 16 bits
        there = (values == np.array(wanted)).all(axis=2)
    else:
        there = values == (key * 255 // (2**depth - 1) if image.mode == "L" else bool(key) if image.mode == "1" else key)
    return Image.fromarray(np.where(there, 0, 255).astype(np.uint8))


def _colours(image: Image.Image, source: Any) -> tuple[Image.Image, bool]:
    """The colours as RGB, transparent ones included, and whether the profile was used."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _grey(_deep(image), source)
    if image.mode in _GREYS:
        plain = image.convert("RGBA").getchannel("R") if image.mode == "La" else image.convert("L")
        return _grey(plain, source)
    if image.mode == "LAB":
        made = _converted(image, ImageCms.createProfile("LAB"), "Lab ")
        if made is None:
            raise DataError(say("its Lab colours cannot be converted; save it as RGB"))
        return made, True
    if image.mode == "CMYK":
        made = _converted(image, source, "CMYK")
    else:
        if image.mode != "RGB":
            image = image.convert("RGBA").convert("RGB") if image.has_transparency_data else image.convert("RGB")
        made = _converted(image, source, "RGB ")
    return (made, True) if made is not None else (image.convert("RGB"), False)


def _grey(plain: Image.Image, source: Any) -> tuple[Image.Image, bool]:
    """Greys of 8 or 16 bits as RGB. A profile for RGB is that of a picture which was made grey for saving."""
    if plain.mode != "I;16":
        made = _converted(plain, source, "GRAY")
        return (made, True) if made is not None else _colours(plain.convert("RGB"), source)
    import numpy as np

    values = np.asarray(plain)
    table = _converted(Image.fromarray(np.arange(65536, dtype=np.uint16).reshape(256, 256)), source, "GRAY")
    if table is not None:
        return Image.fromarray(np.asarray(table).reshape(-1, 3)[values]), True
    return _grey(Image.fromarray(np.rint(values / 257).astype(np.uint8)), source)


def _deep(image: Image.Image) -> Image.Image:
    """Greys of more than 8 bits, or of floats, as 16 bits (I;16).

    Raises:
        DataError: if they are of no known range.
    """
    import numpy as np

    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image).astype(np.float64)
    if image.mode == "F":
        # What is no number is neither at least black nor at most white.
        outside = float(np.mean(~((values >= -1e-6) & (values <= 1 + 1e-6)))) if values.size else 0.0
        if outside > _BEYOND:
            known = values[np.isfinite(values)]
            shown = f"{known.min():.3g} - {known.max():.3g}" if known.size else "NaN"
            raise DataError(
                say(
                    "its brightness is in the numbers {shown}, where 0 is black and 1 is white; save it with 8 or 16 bits a channel, "
                    "tone-mapped if it is brighter than white",
                    shown=shown,
                )
            )
        shares = np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0)
    else:
        bits, signed = _depth(image), tags.get(339, (1,))[0] == 2
        if bits == 32 and not signed:
            values = np.where(values < 0, values + 2.0**32, values)
        if values.min(initial=0) < 0:
            raise DataError(
                say("its brightness is in numbers below 0, and nothing says what is black; save it with 8 or 16 bits a channel")
            )
        shares = values / (2.0 ** (bits - signed) - 1)
    if tags.get(262) == 0:  # WhiteIsZero, which Pillow turns for 8 bits only
        shares = 1 - shares
    return Image.fromarray(np.rint(shares.clip(0, 1) * 65535).astype(np.uint16))


def _depth(image: Image.Image) -> int:
    """Bits of a channel in the file."""
    bits = getattr(image, "tag_v2", {}).get(258)
    if bits:
        return int(bits[0])
    return int(image.info.get("bits") or (16 if image.mode.startswith("I") else 1 if image.mode == "1" else 8))


def _matted(image: Image.Image) -> bool:
    """Whether the colours of a Photoshop file stand on white already, as Photoshop itself saves them."""
    import numpy as np

    pixels = np.asarray(image)
    clear = pixels[pixels[:, :, 3] == 0]
    return bool((clear[:, :3] == 255).all()) if clear.size else True


# --- profiles -------------------------------------------------------------------------------------------------------------------


def _profile(data: bytes | None) -> Any:
    """The profile, or None if it cannot be used."""
    if not data:
        return None
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(data))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _converted(image: Image.Image, source: Any, space: str) -> Image.Image | None:
    """The picture in sRGB; None if the profile is none, or not for such colours.

    Args:
        space: ICC's word for the colours of the picture.
    """
    if source is None:
        return None
    try:
        held = source if not isinstance(source, ImageCms.ImageCmsProfile) else source.profile
        if held.xcolor_space.ljust(4) != space:
            return None
        # Of 16 bits a small table is made otherwise, whose dark greys are ten steps of 255 off where the profile is linear.
        exact = ImageCms.Flags.NOOPTIMIZE if image.mode == "I;16" else ImageCms.Flags.NONE
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB", flags=exact)
    except (ImageCms.PyCMSError, OSError, ValueError, AttributeError):
        return None
