"""What is wrong with the pictures of a folder, and the contact sheet that shows it. Without torch."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from loraforge import DataError, speaker

from .pictures import content_hash, is_written_by, read_picture

say = speaker(__name__)

# Measured with ``sharpness``: sharp drawings in flat colours give 47 to 54, noise with the spectra of photographs (amplitude 1/f to
# 1/f^1.6) 40 to 100, at every size and contrast; blurred over 3 pixels of 512, all give 13 or less. The customary variance of the
# Laplacian (blurred below 100) gave 3 to 27 for sharp drawings of little contrast. Soft styles (watercolour, mist) may lie below the
# bound too, so it never leaves a picture out.
BLURRED = 12.0
# Bits of 64 by which the perceptual hashes of two copies may differ: recompressed and resized copies differ by 0 to 4.
NEAR = 6
# Mean difference of the colours (0 to 255) on an 8 x 8 grid: the hash sees no colour, and a character in two dresses is no copy.
COLOURS = 16.0

_THUMBNAIL = 160
_MOST = 2000  # cells; a sheet of more is larger than viewers open
_MARK = "LoRAForge contact sheet"
_RED, _ORANGE, _GREY = (200, 30, 30), (230, 140, 0), (205, 205, 205)
# Fonts with Chinese characters on Windows, macOS and Linux; Pillow's own has none.
_FONTS = ("msyh.ttc", "simhei.ttf", "PingFang.ttc", "STHeiti Medium.ttc", "NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "wqy-zenhei.ttc")


@dataclass(frozen=True)
class Finding:
    """Something to know about one picture.

    Attributes:
        kind: a word for programs: damaged, outside, small, blurred, duplicate, near_duplicate, no_caption, caption_unreadable, left_out.
        message: the sentence for people.
        drops: whether it is proposed to leave the picture out.
    """

    kind: str
    message: str
    drops: bool = False


@dataclass
class Look:
    """One picture file and all that was found out about it.

    Attributes:
        path: the file; ``name`` is the same relative to the folder, with forward slashes.
        width, height: in pixels, the right way up; 0 if it cannot be read.
        digest: SHA-256 of the pixels.
        shape: the perceptual hash, 64 bits.
        colours: 8 x 8 x 3 mean colours, 0 to 255.
        thumbnail: at most 160 x 160 pixels.
        caption: as it was found; ``text`` is what the metadata will say.
        repeats: how often one pass shows it, where the folder's name or the metadata says so.
        review: what the metadata says of who looked at it, as it stands there, by our own column names.
    """

    path: Path
    name: str
    width: int = 0
    height: int = 0
    digest: str = ""
    shape: int = 0
    colours: Any = field(default=None, repr=False)
    thumbnail: Image.Image | None = field(default=None, repr=False)
    caption: str = ""
    text: str = ""
    repeats: int | None = None
    review: Mapping[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def keep(self) -> bool:
        """Whether it is proposed to train on it."""
        return not any(finding.drops for finding in self.findings)

    @property
    def why(self) -> str:
        """All findings, those first that leave it out."""
        return "; ".join(finding.message for finding in sorted(self.findings, key=lambda f: not f.drops))


def look(path: Path, name: str, min_size: int) -> Look:
    """Reads one picture and says what can be seen of it alone.

    Args:
        min_size: the shorter side, in pixels, below which it is small.
    """
    seen = Look(path, name)
    try:
        image = read_picture(path)
    except DataError as error:
        seen.findings.append(Finding("damaged", str(error), drops=True))
        return seen
    seen.width, seen.height = image.size
    seen.digest = content_hash(image)
    seen.shape, seen.colours = shape_of(image)
    if min(image.size) < min_size:
        message = say("small: {width}x{height}, the shorter side is below {least} pixels", width=image.width, height=image.height,
                      least=min_size)  # fmt: skip
        seen.findings.append(Finding("small", message))
    value = sharpness(image)
    if value < BLURRED:
        message = say("maybe blurred: sharpness {value}, usual is {bound} or more", value=round(value), bound=round(BLURRED))
        seen.findings.append(Finding("blurred", message))
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    seen.thumbnail = image
    return seen


def sharpness(image: Image.Image) -> float:
    """How sharp the edges of a picture are, whatever their number and contrast, after shrinking the longest side to 512 pixels at most.

    It is the mean square of the Laplacian over that of the gradient, of the luminance after a Gaussian of one pixel, times 100: about
    50 / (1 + s^2) for edges that are blurred over s pixels. The Gaussian keeps the grain of cameras and JPEG from looking like edges.
    """
    import numpy as np
    from scipy.ndimage import gaussian_gradient_magnitude, gaussian_laplace

    grey = image.convert("L")
    grey.thumbnail((512, 512))
    values = np.asarray(grey, dtype=np.float64)
    slopes = float(np.square(gaussian_gradient_magnitude(values, 1.0)).mean())
    return 100 * float(np.square(gaussian_laplace(values, 1.0)).mean()) / slopes if slopes > 1e-9 else 0.0


def shape_of(image: Image.Image) -> tuple[int, Any]:
    """The perceptual hash (64 bits, of which 32 are set) and the mean colours on an 8 x 8 grid (8, 8, 3), 0 to 255."""
    import imagehash
    import numpy as np

    bits = np.asarray(imagehash.phash(image).hash, dtype=np.uint8).reshape(-1)
    small = image.resize((8, 8), Image.Resampling.BOX)
    return int.from_bytes(np.packbits(bits).tobytes(), "big"), np.asarray(small, dtype=np.float64)


def mark_copies(looks: Sequence[Look]) -> None:
    """Adds the findings ``duplicate`` (equal pixels; the first stays) and ``near_duplicate`` (the largest of a group stays)."""
    first: dict[str, Look] = {}
    for seen in looks:
        if seen.digest and seen.keep:
            same = first.setdefault(seen.digest, seen)
            if same is not seen:
                seen.findings.append(Finding("duplicate", say("the same picture as {other}", other=same.name), drops=True))
    # Each is compared with those that stay, not with those that go: a chain of small changes would join what has little in common.
    staying: list[Look] = []
    for seen in sorted((s for s in first.values() if s.keep), key=lambda s: -s.width * s.height):
        near = next((s for s in staying if _alike(s, seen)), None)
        if near is None:
            staying.append(seen)
        else:
            message = say("almost the same picture as {other}, which stays", other=near.name)
            seen.findings.append(Finding("near_duplicate", message, drops=True))


def _alike(a: Look, b: Look) -> bool:
    return (a.shape ^ b.shape).bit_count() <= NEAR and float(abs(a.colours - b.colours).mean()) < COLOURS


# --- the contact sheet ---------------------------------------------------------------------------------------------------------


def is_sheet(path: Path) -> bool:
    """Whether a file is a contact sheet that ``write_sheet`` wrote, and not a picture that is called so."""
    return is_written_by(path, _MARK)


def write_sheet(looks: Sequence[Look], path: Path) -> None:
    """Draws all pictures with name, size, caption and findings as a PNG: red frames are left out, orange ones have findings.

    Of more than 2000 pictures those that are left out or have findings come first, and the rest is cut.
    """
    shown = looks if len(looks) <= _MOST else sorted(looks, key=lambda s: (s.keep, not s.findings))[:_MOST]
    font = _font("".join(f"{seen.name}{seen.text}{seen.why}" for seen in shown))
    columns = max(1, min(16, len(shown), round((len(shown) * 1.6) ** 0.5)))
    rows = -(-len(shown) // columns)
    wide, high = _THUMBNAIL + 28, _THUMBNAIL + 98
    sheet = Image.new("RGB", (max(1, columns) * wide, max(1, rows) * high), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for i, seen in enumerate(shown):
        _cell(sheet, draw, font, seen, (i % columns * wide, i // columns * high, wide, high))
    info = PngInfo()
    info.add_text("Software", _MARK)
    sheet.save(path, format="PNG", pnginfo=info)


def _cell(sheet: Image.Image, draw: ImageDraw.ImageDraw, font: Any, seen: Look, box: tuple[int, int, int, int]) -> None:
    x, y, wide, high = box
    # With a trigger word, a picture needs no caption.
    noted = [finding for finding in seen.findings if finding.kind != "no_caption" or not seen.text]
    colour = _RED if not seen.keep else _ORANGE if noted else _GREY
    draw.rectangle((x + 4, y + 4, x + wide - 5, y + high - 5), outline=colour, width=1 if colour == _GREY else 4)
    if seen.thumbnail is not None:
        sheet.paste(seen.thumbnail, (x + (wide - seen.thumbnail.width) // 2, y + 12 + (_THUMBNAIL - seen.thumbnail.height) // 2))
    size = f"{seen.width} x {seen.height}" if seen.width else "?"
    kinds = ", ".join(finding.kind for finding in seen.findings)
    lines = [
        (_cut(seen.name, font, draw, wide - 24, end=False), (0, 0, 0)),
        (size, (90, 90, 90)),
        (_cut(seen.text, font, draw, wide - 24), (40, 40, 120)),
        *((line, colour) for line in _folded(_readable(seen.why, kinds, font), font, draw, wide - 24)),
    ]
    for number, (line, ink) in enumerate(lines):
        draw.text((x + 12, y + _THUMBNAIL + 16 + 15 * number), line, fill=ink, font=font)


def _font(text: str) -> Any:
    """A font for ``text``: Pillow's own, or one of the system's where that lacks more of its characters."""
    own = ImageFont.load_default(size=11)
    if text.isascii() or not _lacking(text, own):
        return own
    best = own
    for name in _FONTS:
        try:
            font = ImageFont.truetype(name, 11)
        except OSError:
            continue
        if _lacking(text, font) < _lacking(text, best):
            best = font
    return best


def _lacking(text: str, font: Any) -> int:
    return sum(not _drawn(character, font) for character in set(text))


@functools.lru_cache(maxsize=4096)
def _drawn(character: str, font: Any) -> bool:
    """Whether the font has this character: what it lacks looks like what no font has."""
    if character.isascii():
        return character.isprintable()
    try:
        glyph, nothing = font.getmask(character), font.getmask("\uffff")
    except (UnicodeError, OSError, ValueError):
        return False
    return (glyph.size, bytes(glyph)) != (nothing.size, bytes(nothing))


def _readable(text: str, instead: str, font: Any) -> str:
    """``text``, or ``instead`` if the font lacks so much of it that nothing could be read."""
    return text if sum(not _drawn(c, font) for c in text) * 4 <= len(text) else instead


def _cut(text: str, font: Any, draw: ImageDraw.ImageDraw, wide: int, *, end: bool = True) -> str:
    """One line of ``text`` that is no wider than ``wide`` pixels, cut at its end or its beginning."""
    line = "".join(c if _drawn(c, font) else "?" for c in (text[:200] if end else text[-200:]))
    if draw.textlength(line, font=font) <= wide:
        return line
    while line and draw.textlength(line + "...", font=font) > wide:
        line = line[:-1] if end else line[1:]
    return line + "..." if end else "..." + line


def _folded(text: str, font: Any, draw: ImageDraw.ImageDraw, wide: int) -> list[str]:
    """At most two lines of ``text``."""
    head = _cut(text, font, draw, wide)
    if not head.endswith("...") or text.endswith("..."):
        return [head] if head else []
    place = head.removesuffix("...")
    space = place.rfind(" ")
    place = place[:space] if space > len(place) // 2 else place
    return [place, _cut(text[len(place) :].lstrip(), font, draw, wide)]
