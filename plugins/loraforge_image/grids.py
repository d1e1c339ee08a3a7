"""Pictures put beside each other, with their labels."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

from loraforge import File

_GAP = 6
_INK, _PAPER = (40, 40, 46), (250, 250, 250)


def grid(rows: Sequence[Sequence[Image.Image]], labels: Sequence[str], headings: Sequence[str] = (), side: int = 320) -> Image.Image:
    """Rows of pictures, each row with its label at the left, each column with its heading (cut to its width) above.

    Args:
        side: larger pictures are shrunk to this many pixels.
    """
    small = [[_shrunk(picture, side) for picture in row] for row in rows]
    width = max(picture.width for row in small for picture in row)
    height = max(picture.height for row in small for picture in row)
    columns = max(len(row) for row in small)
    font = ImageFont.load_default(size=max(11, min(16, width // 10)))
    ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    left = round(max(ruler.textlength(_drawable(label), font=font) for label in labels)) + 3 * _GAP if any(labels) else _GAP
    top = 26 if any(headings) else _GAP
    sheet = Image.new("RGB", (left + columns * (width + _GAP), top + len(small) * (height + _GAP)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, heading in enumerate(headings):
        draw.text((left + column * (width + _GAP), 6), _cut(_drawable(heading), ruler, font, width), fill=_INK, font=font)
    for number, (row, label) in enumerate(zip(small, labels, strict=True)):
        y = top + number * (height + _GAP)
        draw.text((_GAP, y + height / 2 - 8), _drawable(label), fill=_INK, font=font)
        for column, picture in enumerate(row):
            sheet.paste(picture, (left + column * (width + _GAP) + (width - picture.width) // 2, y + (height - picture.height) // 2))
    return sheet


def _shrunk(picture: Image.Image, side: int) -> Image.Image:
    if max(picture.size) <= side:
        return picture.convert("RGB")
    factor = side / max(picture.size)
    return picture.convert("RGB").resize((round(picture.width * factor), round(picture.height * factor)), Image.Resampling.LANCZOS)


def _drawable(text: str) -> str:
    """Pillow's own font knows Latin letters only; other scripts become dots instead of an error or boxes."""
    return "".join(letter if ord(letter) < 0x250 else "·" for letter in text)


def _cut(text: str, ruler: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    while text and ruler.textlength(text, font=font) > width:
        text = text[:-2]
    return text


def beside(files: Mapping[str, File]) -> File:
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
