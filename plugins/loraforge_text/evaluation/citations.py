"""Finds what a Chinese legal answer cites: 《劳动合同法》第46条, also written 第四十六条 or with the statute's full name.

Lists and ranges count article by article: 第1062条、第1063条; 第四十六、四十七条; 第46条至第48条; 同法第87条.
"""

from __future__ import annotations

import re
import unicodedata

_NUMBER = r"(?:[0-9]{1,4}|[零〇一二两三四五六七八九十百千]{1,9})"
_UP_TO = r"(?:至|到|[-–—~〜])"
_AND = r"(?:、|,|和|及|与|或|以及|或者)"
# A statute's name may hold another's: 《关于适用〈民法典〉婚姻家庭编的解释(一)》, also written with two pairs of the outer marks.
_FOUND = re.compile(
    r"《(?P<statute>(?:[^《》]|《[^《》]*》){2,60})》"
    rf"|(?P<articles>第\s*{_NUMBER}(?:\s*条?\s*(?:{_UP_TO}|{_AND})\s*(?:第\s*|(?![一两]\s*条)){_NUMBER}(?=\s*(?:条|{_UP_TO}|{_AND}))){{0,40}}\s*条)"
    rf"(?P<inserted>\s*之{_NUMBER})?"
    # What is said of a part of the article stands between it and the next one.
    rf"(?:\s*第?\s*\(?{_NUMBER}\)?\s*(?:款|项|目)(?:\s*{_AND}\s*第?\s*\(?{_NUMBER}\)?\s*(?:款|项|目))*)*"
)
_PART = re.compile(rf"(?P<up_to>{_UP_TO})?\s*第?\s*(?P<number>{_NUMBER})")
_STOPS = re.compile(r"[。;；\n]")
_GOES_ON = re.compile(rf"(?:{_AND}|{_UP_TO}|[;；:])\s*(?:第\s*)?$")
_SAME = re.compile(r"(?:同法|该法|本法|该条例|该解释)(?:的)?\s*$")
_FAR = 12  # characters between a statute's name and its article: (2012年修正), 婚姻家庭编
_WIDE = 60  # a longer range of articles is a chapter: its two ends are cited
_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_UNITS = {"十": 10, "百": 100, "千": 1000}


def number(written: str) -> int:
    """``46``, ``四十六``, ``一千零六十二`` and ``一〇六二`` as integers."""
    if written.isdigit():
        return int(written)
    if not any(character in _UNITS for character in written):
        return int("".join(str(_DIGITS[character]) for character in written))
    total = digit = 0
    for character in written:
        if character in _UNITS:
            total += (digit or 1) * _UNITS[character]
            digit = 0
        else:
            digit = _DIGITS[character]
    return total + digit


def citations(text: str) -> frozenset[tuple[str, int]]:
    """The (statute, article) pairs that ``text`` cites.

    中华人民共和国 and the year of a version are left out, so that all namings agree. An article that was inserted later, 第133条之一, is
    another article than 第133条: its statute is called 刑法之一. An article without a statute before it in its sentence is not counted,
    because it may be a contract's; 同法 and 该法 stand for the last statute.
    """
    folded = unicodedata.normalize("NFKC", text)
    found: set[tuple[str, int]] = set()
    statute, since, last = "", 0, None
    for match in _FOUND.finditer(folded):
        if match["statute"]:
            statute, since, last = _name(match["statute"]), match.end(), None
            continue
        between = folded[since : match.start()]
        if not statute or not (_follows(between, first=last is None) or _SAME.search(between)):
            continue
        from_last = last if last is not None and re.fullmatch(rf"\s*{_UP_TO}\s*", between) else None
        articles = _articles(match["articles"], from_last)
        inserted = re.sub(r"\s", "", match["inserted"] or "")
        if inserted:
            found |= {(statute, article) for article in articles[:-1]} | {(statute + inserted, articles[-1])}
        else:
            found |= {(statute, article) for article in articles}
        since, last = match.end(), articles[-1]
    return frozenset(found)


def _follows(between: str, *, first: bool) -> bool:
    """Whether an article belongs to the statute or the article before it, by the text between the two."""
    if first:
        return len(between) <= _FAR and not _STOPS.search(between)
    ended = re.split(r"[。\n]", between)
    return len(ended) == 1 and bool(_GOES_ON.search(between))


def _articles(written: str, before: int | None) -> list[int]:
    """The numbers of one run of articles: 第四十六、四十七条; ``before`` is where a range began that ends with it."""
    found: list[int] = [] if before is None else [before]
    for index, part in enumerate(_PART.finditer(written)):
        here = number(part["number"])
        ranged = part["up_to"] is not None or (index == 0 and before is not None)
        if ranged and found and 0 < here - found[-1] <= _WIDE:
            found += range(found[-1] + 1, here)
        found.append(here)
    return found


def _name(statute: str) -> str:
    plain = re.sub(r"[<>〈〉《》\s]", "", statute).replace("中华人民共和国", "")
    return re.sub(r"\((?:19|20)[0-9]{2}[^()]*\)$", "", plain)
