# SPDX-License-Identifier: Apache-2.0
"""Pictures put beside each other, with their labels."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence

from PIL import Image, ImageDraw

from loraforge import File, speaker

from .fonts import Script, numbered

say = speaker(__name__)

_GAP = 6
_LINES, _NARROWEST = 3, 150  # of a heading, and the pixels that a column with one has at least
_CLOSING = "，。、；：！？）」』】”’,.;:!?)"
_INK, _PAPER = (40, 40, 46), (250, 250, 250)


def grid(rows: Sequence[Sequence[Image.Image]], labels: Sequence[str], headings: Sequence[str] = (), side: int = 320) -> Image.Image:
    """Rows of pictures, each row with its label at the left, each column with its heading above, in up to three lines.

    Headings that are too long for that lose what they all begin with; where they still look alike, they are numbered. Where no font on this
    computer has the characters of one, all are numbers, 01, 02 ...: ``legend`` says of what.

    Args:
        side: larger pictures are shrunk to this many pixels.
    """
    small = [[_shrunk(picture, side) for picture in row] for row in rows]
    width = max(picture.width for row in small for picture in row)
    height = max(picture.height for row in small for picture in row)
    columns = max(len(row) for row in small)
    width = max(width, _NARROWEST) if any(headings) else width
    size = max(11, min(16, width // 10))
    script = Script(size)
    labels, headings = numbered(labels, size)[0], numbered(headings, size)[0]
    left = round(max(script.width(label) for label in labels)) + 3 * _GAP if any(labels) else _GAP
    above = _headings(headings, lambda text: script.width(text) <= width - _GAP)
    top = 10 + max(len(lines) for lines in above) * (size + 4) if any(above) else _GAP
    sheet = Image.new("RGB", (left + columns * (width + _GAP), top + len(small) * (height + _GAP)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, lines in enumerate(above):
        for number, line in enumerate(lines):
            script.draw(draw, (left + column * (width + _GAP), 3 + number * (size + 4)), line, _INK)
    for number, (row, label) in enumerate(zip(small, labels, strict=True)):
        y = top + number * (height + _GAP)
        script.draw(draw, (_GAP, y + height / 2 - 8), label, _INK)
        for column, picture in enumerate(row):
            sheet.paste(picture, (left + column * (width + _GAP) + (width - picture.width) // 2, y + (height - picture.height) // 2))
    return sheet


def legend(headings: Sequence[str]) -> str:
    """What the numbers above a grid stand for, as a text file; empty where the headings are drawn as they are."""
    numbers, drawn = numbered(headings, 16)
    if drawn:
        return ""
    advice = say("No font on this computer has these characters: install Noto Sans CJK, or run pip install 'loraforge[fonts]'.")
    return "\n".join(
        [*(f"{number}  {' '.join(heading.split())}" for number, heading in zip(numbers, headings, strict=True)), "", advice, ""]
    )


def _shrunk(picture: Image.Image, side: int) -> Image.Image:
    if max(picture.size) <= side:
        return picture.convert("RGB")
    factor = side / max(picture.size)
    return picture.convert("RGB").resize((round(picture.width * factor), round(picture.height * factor)), Image.Resampling.LANCZOS)


def _headings(headings: Sequence[str], fits: Callable[[str], bool]) -> list[list[str]]:
    """The lines of every heading."""
    texts = [" ".join(heading.split()) for heading in headings]
    wrapped = [_wrapped(text, fits) for text in texts]
    if any(len(lines) > _LINES for lines in wrapped):
        wrapped = [_wrapped(text, fits) for text in _without_beginning(texts)]
    short = [_shortened(lines, fits) for lines in wrapped]
    if len({tuple(lines) for lines in short}) < len(short):
        short = [_shortened(_wrapped(f"{number}. {' '.join(lines)}", fits), fits) for number, lines in enumerate(wrapped, 1)]
    return short


def _without_beginning(texts: Sequence[str]) -> list[str]:
    """The texts without the words that all begin with, which stand as three dots; at least one word of each stays."""
    words = [text.split() for text in texts]
    same = 0
    if len(words) > 1:
        while all(len(each) > same + 1 for each in words) and len({each[same] for each in words}) == 1:
            same += 1
    return [" ".join(["…", *each[same:]]) for each in words] if same else list(texts)


def _wrapped(text: str, fits: Callable[[str], bool]) -> list[str]:
    """The text in lines that fit, broken between words; a word that is too long for a line is broken itself."""
    lines, line = [], ""
    for word in text.split():
        if fits(f"{line} {word}".strip()):
            line = f"{line} {word}".strip()
            continue
        lines += [line] if line else []
        line = ""
        for letter in word:
            if line and not fits(line + letter):
                kept = line[:-1] if letter in _CLOSING and len(line) > 1 else line  # no line begins with a comma
                lines.append(kept)
                line = line[len(kept) :]
            line += letter
    return [*lines, line] if line else lines


def _shortened(lines: Sequence[str], fits: Callable[[str], bool]) -> list[str]:
    """At most three lines; three dots stand for the rest."""
    if len(lines) <= _LINES:
        return list(lines)
    last = lines[_LINES - 1]
    while last and not fits(f"{last} …"):
        last = last.rpartition(" ")[0] if " " in last else last[:-1]
    return [*lines[: _LINES - 1], f"{last} …".strip()]


def side_by_side(files: Mapping[str, File]) -> File:
    """The pictures of several sides to one prompt, as one picture with their names above."""
    pictures = [Image.open(io.BytesIO(file.data)) for file in files.values()]
    return File(png(grid([pictures], [""], list(files), side=1024)), ".png")


def png(picture: Image.Image, parameters: str | None = None) -> bytes:
    """A PNG; ``parameters`` become the text that the WebUIs read the settings from."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if parameters is not None:
        # tEXt holds Latin-1 only; the WebUIs read iTXt as well.
        (info.add_text if parameters.isascii() else info.add_itxt)("parameters", parameters)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()
