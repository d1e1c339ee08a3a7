"""Finds what a Chinese legal answer cites: 《劳动合同法》第46条, also written 第四十六条 or with the statute's full name."""

from __future__ import annotations

import re
import unicodedata

_CITATION = re.compile(r"《([^《》]{2,40})》[^《》。；\n]{0,12}?第\s*([0-9]{1,4}|[零〇一二两三四五六七八九十百千]{1,9})\s*条")
_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_UNITS = {"十": 10, "百": 100, "千": 1000}


def number(written: str) -> int:
    """``46``, ``四十六`` and ``一千零六十二`` as integers."""
    if written.isdigit():
        return int(written)
    total = digit = 0
    for character in written:
        if character in _UNITS:
            total += (digit or 1) * _UNITS[character]
            digit = 0
        else:
            digit = _DIGITS[character]
    return total + digit


def citations(text: str) -> frozenset[tuple[str, int]]:
    """The (statute, article) pairs that ``text`` cites. 中华人民共和国 is left out, so that both namings agree."""
    folded = unicodedata.normalize("NFKC", text)
    return frozenset((law.strip().removeprefix("中华人民共和国"), number(article)) for law, article in _CITATION.findall(folded))
