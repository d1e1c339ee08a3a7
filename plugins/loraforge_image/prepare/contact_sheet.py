"""The contact sheet: all pictures of a folder in one, with what was found out about each. Without torch."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from ..data.pictures import is_written_by
from .inspection import THUMBNAIL, InspectedPicture

_MOST = 2000  # cells; a sheet of more is larger than viewers open
_MARK = "LoRAForge contact sheet"
_RED, _ORANGE, _GREY = (200, 30, 30), (230, 140, 0), (205, 205, 205)
# Fonts with Chinese characters on Windows, macOS and Linux; Pillow's own has none.
_FONTS = ("msyh.ttc", "simhei.ttf", "PingFang.ttc", "STHeiti Medium.ttc", "NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "wqy-zenhei.ttc")


def is_sheet(path: Path) -> bool:
    """Whether a file is a contact sheet that ``write_sheet`` wrote, and not a picture that is called so."""
    return is_written_by(path, _MARK)


def write_sheet(pictures: Sequence[InspectedPicture], path: Path) -> None:
    """Draws all pictures with name, size, caption and findings as a PNG: red frames are left out, orange ones have findings.

    Of more than 2000 pictures those that are left out or have findings come first, and the rest is cut.
    """
    shown = pictures if len(pictures) <= _MOST else sorted(pictures, key=lambda s: (s.keep, not s.findings))[:_MOST]
    font = _font("".join(f"{seen.name}{seen.text}{seen.why}" for seen in shown))
    columns = max(1, min(16, len(shown), round((len(shown) * 1.6) ** 0.5)))
    rows = -(-len(shown) // columns)
    wide, high = THUMBNAIL + 28, THUMBNAIL + 98
    sheet = Image.new("RGB", (max(1, columns) * wide, max(1, rows) * high), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for i, seen in enumerate(shown):
        _cell(sheet, draw, font, seen, (i % columns * wide, i // columns * high, wide, high))
    info = PngInfo()
    info.add_text("Software", _MARK)
    sheet.save(path, format="PNG", pnginfo=info)


def _cell(sheet: Image.Image, draw: ImageDraw.ImageDraw, font: Any, seen: InspectedPicture, box: tuple[int, int, int, int]) -> None:
    x, y, wide, high = box
    # With a trigger word, a picture needs no caption.
    noted = [finding for finding in seen.findings if finding.kind != "no_caption" or not seen.text]
    colour = _RED if not seen.keep else _ORANGE if noted else _GREY
    draw.rectangle((x + 4, y + 4, x + wide - 5, y + high - 5), outline=colour, width=1 if colour == _GREY else 4)
    if seen.thumbnail is not None:
        sheet.paste(seen.thumbnail, (x + (wide - seen.thumbnail.width) // 2, y + 12 + (THUMBNAIL - seen.thumbnail.height) // 2))
    size = f"{seen.width} x {seen.height}" if seen.width else "?"
    kinds = ", ".join(finding.kind for finding in seen.findings)
    lines = [
        (_cut(seen.name, font, draw, wide - 24, end=False), (0, 0, 0)),
        (size, (90, 90, 90)),
        (_cut(seen.text, font, draw, wide - 24), (40, 40, 120)),
        *((line, colour) for line in _folded(_readable(seen.why, kinds, font), font, draw, wide - 24)),
    ]
    for number, (line, ink) in enumerate(lines):
        draw.text((x + 12, y + THUMBNAIL + 16 + 15 * number), line, fill=ink, font=font)


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
    if character.isascii() or not character.isprintable():  # a mark that turns the direction of writing would be obeyed
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
