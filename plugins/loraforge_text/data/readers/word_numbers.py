# SPDX-License-Identifier: Apache-2.0
"""The automatic numbers of Word's paragraphs, which stand in no text: 1., (a), 一、

Source: ISO/IEC 29500-1, 17.9 (numbering).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_LEVELS = 9
_DIGITS = "零一二三四五六七八九"
_ROMAN = ((100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))


@dataclass(frozen=True)
class Label:
    """The number of a paragraph.

    Attributes:
        list: which list it belongs to; empty where it has no number, or one of a lower level.
        text: what Word shows: ``1.``, ``（一）``; empty for a bullet.
    """

    list: str = ""
    text: str = ""


Labels = Mapping[Any, Label]  # by the element of the paragraph


def paragraph_labels(document: Any) -> Labels:
    """The labels of those paragraphs of a python-docx document that have one, counted as Word does: through tables too."""
    from docx.oxml import parse_xml
    from docx.text.paragraph import Paragraph

    part = next(
        (rel.target_part for rel in document.part.rels.values() if rel.reltype.endswith("/numbering") and not rel.is_external), None
    )
    if part is None:
        return {}
    numbers = _Numbers(parse_xml(part.blob))
    labels = {block: numbers.next(Paragraph(block, document)) for block in document.element.body.iter(f"{_W}p")}
    return {block: label for block, label in labels.items() if label.text}


class _Numbers:
    def __init__(self, root: Any) -> None:
        self._abstract = {item.get(f"{_W}abstractNumId"): item for item in root if item.tag == f"{_W}abstractNum"}
        self._lists = {item.get(f"{_W}numId"): item for item in root if item.tag == f"{_W}num"}
        self._counts: dict[str, list[int | None]] = {}
        self._begun: set[str] = set()

    def next(self, paragraph: Any) -> Label:
        number, level = self._place(paragraph)
        found = self._lists.get(number)
        if found is None or not 0 <= level < _LEVELS:
            return Label()
        key = _value(found, "abstractNumId")
        abstract = self._abstract.get(key)
        if abstract is None:
            return Label()
        levels = {int(item.get(f"{_W}ilvl", "0")): item for item in abstract.findall(f"{_W}lvl")}
        starts: dict[int, int] = {}
        for change in found.findall(f"{_W}lvlOverride"):
            place = int(change.get(f"{_W}ilvl", "0"))
            if (given := change.find(f"{_W}lvl")) is not None:
                levels[place] = given
            if start := _value(change, "startOverride"):
                starts[place] = int(start)
        counts = self._counts.setdefault(key, [None] * _LEVELS)
        if number not in self._begun:
            self._begun.add(number)
            for place in starts:
                counts[place] = None
        for place in range(level + 1):
            if counts[place] is None:
                counts[place] = starts.get(place, int(_value(levels.get(place), "start") or 1))
            elif place == level:
                counts[place] = (counts[place] or 0) + 1
        counts[level + 1 :] = [None] * (_LEVELS - level - 1)
        own = levels.get(level)
        kind = _value(own, "numFmt") or "decimal"
        if own is None or kind in ("bullet", "none"):
            return Label()

        def shown(match: re.Match[str]) -> str:
            place = int(match[1]) - 1
            return _formatted(counts[place] or 1, (_value(levels.get(place), "numFmt") or "decimal") if place != level else kind)

        label = re.sub(r"%([1-9])", shown, _value(own, "lvlText")).strip()
        return Label(number if level == 0 and label else "", label)

    def _place(self, paragraph: Any) -> tuple[str, int]:
        """(number of the list, level), of the paragraph itself or of its style."""
        own = paragraph._p.find(f"{_W}pPr/{_W}numPr")
        if own is not None and _value(own, "numId"):
            return _value(own, "numId"), int(_value(own, "ilvl") or 0)
        style = paragraph.style
        for _ in range(10):
            if style is None:
                break
            given = style.element.find(f"{_W}pPr/{_W}numPr")
            if given is not None and (number := _value(given, "numId")):
                return number, int(_value(given, "ilvl") or self._level_of(number, style.style_id))
            style = style.base_style
        return "", 0

    def _level_of(self, number: str, style: str) -> int:
        """The level that a list keeps for a style."""
        abstract = self._abstract.get(_value(self._lists.get(number), "abstractNumId"))
        for item in abstract.findall(f"{_W}lvl") if abstract is not None else ():
            if _value(item, "pStyle") == style:
                return int(item.get(f"{_W}ilvl", "0"))
        return 0


def _value(element: Any, name: str) -> str:
    found = element.find(f"{_W}{name}") if element is not None else None
    return str(found.get(f"{_W}val") or "") if found is not None else ""


def _formatted(number: int, kind: str) -> str:
    """A number as Word writes it; kinds that are seldom as digits."""
    if kind in ("lowerLetter", "upperLetter"):
        letters = chr(97 + (number - 1) % 26) * ((number - 1) // 26 + 1)  # z, aa, bb
        return letters.upper() if kind == "upperLetter" else letters
    if kind in ("lowerRoman", "upperRoman"):
        text, rest = "", number
        for value, sign in _ROMAN:
            text += sign * (rest // value)
            rest %= value
        return text.upper() if kind == "upperRoman" else text
    if kind in ("chineseCounting", "chineseCountingThousand", "japaneseCounting", "taiwaneseCounting", "taiwaneseCountingThousand"):
        return _chinese(number)
    if kind in ("decimalEnclosedCircle", "decimalEnclosedCircleChinese") and 1 <= number <= 20:
        return chr(0x2460 + number - 1)
    if kind == "ideographTraditional" and 1 <= number <= 10:
        return "甲乙丙丁戊己庚辛壬癸"[number - 1]
    return f"{number:02d}" if kind == "decimalZero" else str(number)


def _chinese(number: int) -> str:
    if not 1 <= number <= 99:
        return str(number)
    tens, ones = divmod(number, 10)
    return (_DIGITS[tens] if tens > 1 else "") + ("十" if tens else "") + (_DIGITS[ones] if ones else "")
