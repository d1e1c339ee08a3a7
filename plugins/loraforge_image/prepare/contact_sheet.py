# SPDX-License-Identifier: Apache-2.0
"""The contact sheet: all pictures of a folder in one, with what was found out about each. Without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from ..data.fonts import Script
from ..data.pictures import is_written_by
from .inspection import THUMBNAIL, InspectedPicture

_MOST = 2000  # cells; a sheet of more is larger than viewers open
_MARK = "LoRAForge contact sheet"
_RED, _ORANGE, _GREY = (200, 30, 30), (230, 140, 0), (205, 205, 205)
_SIZE = 11  # of the letters


def is_sheet(path: Path) -> bool:
    """Whether a file is a contact sheet that ``write_sheet`` wrote, and not a picture that is called so."""
    return is_written_by(path, _MARK)


def write_sheet(pictures: Sequence[InspectedPicture], path: Path) -> None:
    """Draws all pictures with name, size, caption and findings as a PNG: red frames are left out, orange ones have findings.

    Of more than 2000 pictures those that are left out or have findings come first, and the rest is cut. A picture whose name no font
    of this computer can write is called by its row in metadata.csv.
    """
    shown = pictures if len(pictures) <= _MOST else sorted(pictures, key=lambda s: (s.keep, not s.findings))[:_MOST]
    script, numbers = Script(_SIZE), {id(seen): number for number, seen in enumerate(pictures, 2)}
    columns = max(1, min(16, len(shown), round((len(shown) * 1.6) ** 0.5)))
    rows = -(-len(shown) // columns)
    wide, high = THUMBNAIL + 28, THUMBNAIL + 98
    sheet = Image.new("RGB", (max(1, columns) * wide, max(1, rows) * high), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for i, seen in enumerate(shown):
        name = seen.name if script.can(seen.name) else f"metadata.csv: {numbers[id(seen)]}"
        _cell(sheet, draw, script, seen, name, (i % columns * wide, i // columns * high, wide, high))
    info = PngInfo()
    info.add_text("Software", _MARK)
    sheet.save(path, format="PNG", pnginfo=info)


def unwritable(pictures: Sequence[InspectedPicture]) -> list[str]:
    """The names that no font of this computer can write."""
    script = Script(_SIZE)
    return [seen.name for seen in pictures if not script.can(seen.name)]


def _cell(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, script: Script, seen: InspectedPicture, name: str, box: tuple[int, int, int, int]
) -> None:
    x, y, wide, high = box
    # With a trigger word, a picture needs no caption.
    noted = [finding for finding in seen.findings if finding.kind != "no_caption" or not seen.text]
    colour = _RED if not seen.keep else _ORANGE if noted else _GREY
    draw.rectangle((x + 4, y + 4, x + wide - 5, y + high - 5), outline=colour, width=1 if colour == _GREY else 4)
    if seen.thumbnail is not None:
        sheet.paste(seen.thumbnail, (x + (wide - seen.thumbnail.width) // 2, y + 12 + (THUMBNAIL - seen.thumbnail.height) // 2))
    size = f"{seen.width} x {seen.height}" if seen.width else "?"
    kinds = ", ".join(finding.kind for finding in seen.findings)
    why = seen.why if script.can(seen.why) else kinds
    lines = [
        (_cut(name, script, wide - 24, end=False), (0, 0, 0)),
        (size, (90, 90, 90)),
        (_cut(seen.text, script, wide - 24) if script.can(seen.text) else "", (40, 40, 120)),
        *((line, colour) for line in _folded(why, script, wide - 24)),
    ]
    for number, (line, ink) in enumerate(lines):
        script.draw(draw, (x + 12, y + THUMBNAIL + 14 + 15 * number), line, ink)


def _cut(text: str, script: Script, wide: int, *, end: bool = True) -> str:
    """One line of ``text`` that is no wider than ``wide`` pixels, cut at its end or its beginning."""
    line = " ".join((text[:200] if end else text[-200:]).split())
    if script.width(line) <= wide:
        return line
    while line and script.width(line + "...") > wide:
        line = line[:-1] if end else line[1:]
    return line + "..." if end else "..." + line


def _folded(text: str, script: Script, wide: int) -> list[str]:
    """At most two lines of ``text``."""
    head = _cut(text, script, wide)
    if not head.endswith("...") or text.endswith("..."):
        return [head] if head else []
    place = head.removesuffix("...")
    space = place.rfind(" ")
    place = place[:space] if space > len(place) // 2 else place
    return [place, _cut(text[len(place) :].lstrip(), script, wide)]
