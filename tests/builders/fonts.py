# SPDX-License-Identifier: Apache-2.0
"""A font of a few characters, each an unmistakable pattern, made without any font file."""

from __future__ import annotations

from pathlib import Path


def make_font(path: Path, letters: str) -> Path:
    """Every letter is a row of bars, two for the first of ``letters``, three for the next; one for what is missing."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    names = [".notdef", *(f"g{i}" for i in range(len(letters)))]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): f"g{i}" for i, letter in enumerate(letters)})
    glyphs = {}
    for number, name in enumerate(names):
        pen = TTGlyphPen(None)
        bars = number + 1
        for bar in range(bars):
            left, right = 50 + 900 * bar // bars, 50 + 900 * (2 * bar + 1) // (2 * bars)
            for place in ((left, 0), (left, 800), (right, 800), (right, 0)):
                (pen.moveTo if place == (left, 0) else pen.lineTo)(place)
            pen.closePath()
        glyphs[name] = pen.glyph()
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics({name: (1000, 0) for name in names})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Bars", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path
