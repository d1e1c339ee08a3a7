# SPDX-License-Identifier: Apache-2.0
"""Fonts that have the characters of a text, whatever its script: Pillow's own, and those that ``font_files`` finds."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from PIL import ImageDraw, ImageFont

from loraforge import font_files

_LIKE = {
    "ß": "ss",
    "ø": "o",
    "Ø": "O",
    "ł": "l",
    "Ł": "L",
    "æ": "ae",
    "Æ": "AE",
    "œ": "oe",
    "“": '"',
    "”": '"',
    "’": "'",
    "–": "-",
    "—": "-",
    "·": ".",
}


class Script:
    """Draws texts with the fonts that have their characters, run by run.

    Args:
        size: of the letters, in pixels.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._ruler = ImageDraw.Draw(_nothing())

    def can(self, text: str) -> bool:
        """Whether every letter of ``text`` can be drawn. Pictographs and marks that are not seen do not count."""
        text = _simpler(text)
        return any(_counts(sign) for sign in text) and all(_font(sign) is not None for sign in text if _counts(sign))

    def width(self, text: str) -> float:
        """How wide ``text`` becomes, in pixels."""
        return sum(self._ruler.textlength(run, font=font) for font, run in self._runs(text))

    def draw(self, pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, ink: tuple[int, int, int]) -> None:
        """Draws ``text`` in one line, its top left at ``place``; what no font has is left out."""
        x, y = place
        for font, run in self._runs(text):
            pen.text((x, y + self.size), run, fill=ink, font=font, anchor="ls")
            x += pen.textlength(run, font=font)

    def _runs(self, text: str) -> Iterator[tuple[Any, str]]:
        """The text in pieces, each with its font. A blank stands with what is before it."""
        used: str | None = None
        run = ""
        for sign in _simpler(text):
            name = used if sign == " " and used is not None else _font(sign)
            if name is None:
                continue
            if name != used and run:
                yield _loaded(used or "", self.size), run
                run = ""
            used, run = name, run + sign
        if run:
            yield _loaded(used or "", self.size), run


def numbered(texts: Sequence[str], size: int) -> tuple[list[str], bool]:
    """The texts, or ``01``, ``02`` ... in place of all of them where one cannot be drawn; and whether all can."""
    script = Script(size)
    if all(script.can(text) or not text.strip() for text in texts):
        return list(texts), True
    return [f"{number:02d}" for number in range(1, len(texts) + 1)], False


def readable(text: str, instead: str) -> str:
    """``text``, or ``instead``, in Latin letters, where no font has its characters."""
    return text if Script(16).can(text) else instead


def _nothing() -> Any:
    from PIL import Image

    return Image.new("RGB", (1, 1))


def _simpler(text: str) -> str:
    """The text, with e for an é that no font has, and so on."""
    return "".join(sign if _font(sign) is not None or not _plain(sign) else _plain(sign) for sign in text)


@functools.lru_cache(maxsize=8192)
def _plain(sign: str) -> str:
    """What is left of a sign without its marks, where that is ASCII: e of é; nothing of others."""
    bare = "".join(one for one in unicodedata.normalize("NFKD", _LIKE.get(sign, sign)) if not unicodedata.combining(one))
    return bare if bare.isascii() and bare.isprintable() else ""


def _counts(sign: str) -> bool:
    """Whether a character must be seen: blanks, marks without width and pictographs need not."""
    return not sign.isspace() and unicodedata.category(sign) not in ("So", "Sk", "Cf", "Cc", "Mn", "Me", "Cn", "Co", "Cs")


@functools.lru_cache(maxsize=8192)
def _font(sign: str) -> str | None:
    """The file of the first font that has a character: "" is Pillow's own; None if no font has it."""
    if not sign.isprintable():  # a mark that turns the direction of writing would be obeyed
        return None
    if _has("", sign):
        return ""
    return next((path for path in font_files() if _has(path, sign)), None)


@functools.lru_cache(maxsize=65536)
def _has(path: str, sign: str) -> bool:
    """Whether a font has this character: what it lacks looks like what no font has."""
    if sign.isspace():
        return path == ""
    font = _loaded(path, 24)
    if font is None:
        return False
    try:
        glyph, nothing = font.getmask(sign), font.getmask("\uffff")
        return bool(glyph.getbbox()) and (glyph.size, bytes(glyph)) != (nothing.size, bytes(nothing))
    except (UnicodeError, OSError, ValueError):
        return False


@functools.lru_cache(maxsize=512)
def _loaded(path: str, size: int) -> Any:
    """A font; None if it is none."""
    if not path:
        return ImageFont.load_default(size=size)
    try:
        return ImageFont.truetype(path, size)
    except (OSError, ValueError):
        return None
