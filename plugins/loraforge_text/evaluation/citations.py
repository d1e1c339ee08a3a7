# SPDX-License-Identifier: Apache-2.0
"""Finds what a legal answer cites: 《劳动合同法》第46条, 民法典第四十六条, Article 12 of the Civil Code, § 823 BGB.

Lists and ranges count article by article: 第1062条、第1063条; 第四十六、四十七条; 第46条至第48条; 同法第87条. What is said not to
apply is not cited: 不是第十条而是第十二条.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from . import statutes

_CHINESE = "零〇一二两三四五六七八九十廿卅卌百千壹贰叁肆伍陆柒捌玖拾佰仟"
_NUMBER = rf"(?:[0-9]{{1,4}}|[{_CHINESE}]{{1,9}})"
_UP_TO = r"(?:至|到|[-–—~〜])"
_AND = r"(?:、|,|和|及|与|或|以及|或者)"
_PARTS = rf"(?:\s*第?\s*\(?{_NUMBER}\)?\s*(?:款|项|目)(?:\s*{_AND}\s*第?\s*\(?{_NUMBER}\)?\s*(?:款|项|目))*)*"
_ENGLISH_NUMBER = r"[0-9]{1,4}[a-z]?\b(?:\s*\((?:[0-9]{1,3}[a-z]?|[a-z]{1,4}|[A-Z])\))*"
_UNITS_OF_TIME = r"(?!\s*(?:-|%|days?\b|weeks?\b|months?\b|years?\b|hours?\b|times\b|percent|persons?\b|yuan\b))"
_SEPARATOR = r"\s*(?:,\s*(?:and|or|but)\b|,|\band\b|&|\bor\b|\bto\b|\bthrough\b|\bbut\b|[-–—])\s*(?:not\s+)?"
# A statute's name may hold another's: 《关于适用〈民法典〉婚姻家庭编的解释(一)》, also written with two pairs of the outer marks.
_FOUND = re.compile(
    r"(?P<statute>《(?:[^《》]|《[^《》]*》){2,60}》|「(?:[^「」]|「[^「」]*」){2,60}」|『[^『』]{2,60}』|〈[^〈〉]{2,60}〉)"
    rf"|(?P<articles>(?:第\s*|(?<![第0-9{_CHINESE}])){_NUMBER}"
    rf"(?:\s*条?\s*(?:{_UP_TO}|{_AND})\s*(?:第\s*|(?![一两]\s*条)){_NUMBER}(?=\s*(?:条|{_UP_TO}|{_AND}))){{0,40}}\s*条)"
    rf"(?P<inserted>\s*之\s*{_NUMBER}(?:\s*{_AND}\s*之\s*{_NUMBER})*)?"
    # What is said of a part of the article stands between it and the next one.
    rf"{_PARTS}"
    rf"|(?P<key>(?i:\barticles?|\barts?\b\.?)|§§?)\s*(?P<english>{_ENGLISH_NUMBER}(?:{_SEPARATOR}{_ENGLISH_NUMBER}{_UNITS_OF_TIME})*)"
)
_PART = re.compile(rf"(?P<up_to>{_UP_TO})?\s*第?\s*(?P<number>{_NUMBER})")
_ENGLISH_PART = re.compile(
    rf"(?P<separator>{_SEPARATOR})?(?P<number>[0-9]{{1,4}})(?P<letter>[a-z]?)\b(?:\s*\((?:[0-9]{{1,3}}[a-z]?|[a-z]{{1,4}}|[A-Z])\))*"
)
_STOPS = re.compile(r"[。;；\n]")
_INSTEAD = r"(?:而是|而应当?(?:是|适用|依据)?|应当?(?:是|为|适用|依据)|改为)"
_GOES_ON = re.compile(rf"(?:{_AND}|{_UP_TO}|{_INSTEAD}|[;；:]|\b(?:and|or|to|but)\b|&)\s*(?:第\s*)?$")
_SAME = re.compile(
    r"(?:[同该本]|上述|前述)(?:法典|法|条例|解释|规定|办法)(?:的|中)?\s*$|(?i:\b(?:the\s+same|that|this|the\s+said)\s+(?:code|act|law),?)\s*$"
)
_NEGATED = re.compile(
    r"(?:(?<!是)不是|并非|而非|绝非|不(?:应当?|能|得|再|宜|予|可)?(?:适用|依据|依照|根据|援引|引用)|(?<![除莫无是若])非)"
    r"(?:依据|根据|适用|依照|按照|援引|引用)?\s*$"
    r"|(?i:\b(?:not|rather\s+than|instead\s+of|isn't|nor|neither)\s+(?:(?:in|under|by|on|from)\s+)?(?:the\s+)?)$"
)
_VOID = re.compile(r"\s*(?:的规定)?(?:并|均|也)?(?:不适用|不再适用|已[经被]*(?:失效|废止|删除))|(?i:\s+(?:does|do)\s+not\s+apply\b)")
_LISTED = re.compile(r"\s*(?:、|和|及|与|或|以及|或者|and|or)\s*")
_JOINED = re.compile(rf"{_LISTED.pattern}|\s*,?\s*(?:而非|而不是|{_INSTEAD}|(?:but|not|but\s+not|rather\s+than|instead\s+of)\b)\s*")
_TITLE_BEHIND = re.compile(r"\s*[,(]\s*")
_OWN_ARTICLE = re.compile(rf"[^。;\n]{{0,12}}?(?:第\s*)?{_NUMBER}\s*条")
_LAW_LIKE = re.compile(r"(?:法|法典|条例|规定|解释|办法|细则|规则|通则|决定|意见|公约|批复|纪要|宪法)(?:\([^()]*\))?.$")
_WIDE = 60  # a longer range of articles is a chapter: its two ends are cited
_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_UNITS = {"十": 10, "百": 100, "千": 1000}
_PLAIN = str.maketrans(
    dict(zip("壹贰叁肆伍陆柒捌玖拾佰仟", "一二三四五六七八九十百千", strict=True)) | {"廿": "二十", "卅": "三十", "卌": "四十"}
)


def number(written: str) -> int:
    """``46``, ``四十六``, ``一千零六十二``, ``一〇六二``, ``廿三`` and ``肆拾陆`` as integers."""
    if written.isdigit():
        return int(written)
    written = written.translate(_PLAIN)
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

    The country and the year of a version are left out of names, so that all namings agree. An article that was inserted later, 第133条之一
    or § 312a, is another article than 第133条: its statute is called 刑法之一. An article without a statute in its sentence is not counted,
    because it may be a contract's; 同法 and 该法 stand for the last statute. Nor is one that is said not to apply.
    """
    return frozenset(_Reader(statutes.simplified(unicodedata.normalize("NFKC", text))).read())


class _Reader:
    """Goes through a text once, with the statute that was named last."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._statute = ""
        self._since = 0  # where the last name or article ended
        self._last: int | None = None  # the last article of this statute
        self._negated = False
        self._waiting: list[tuple[str, int]] = []  # articles whose statute may be named behind the list: Articles 5 and 6 of the Civil Code

    def read(self) -> Iterator[tuple[str, int]]:
        at = 0
        while match := _FOUND.search(self._text, at):
            at = match.end()
            if match["statute"]:
                self._name(match)
            else:
                yield from self._cited(match)
                at = max(at, self._since)

    def _name(self, match: re.Match[str]) -> None:
        named = match["statute"]
        # 「」 and 〈〉 quote anything: only what is called like a statute, or has an article right behind it, is one.
        if named[0] != "《" and not _LAW_LIKE.search(named) and not _FOUND.match(self._text, match.end()):
            return
        negated = self._is_negated(match.start())
        self._statute, self._since, self._last, self._negated = statutes.plain(named), match.end(), None, negated
        self._waiting = []

    def _cited(self, match: re.Match[str]) -> Iterator[tuple[str, int]]:
        text, begin, end = self._text, match.start(), match.end()
        between = text[self._since : begin]
        negated = self._is_negated(begin) or (
            self._negated and (bool(self._statute and self._last is None) or bool(_LISTED.fullmatch(between)))
        )
        linked = self._last is not None
        before = statutes.before(between)
        behind = self._behind(match) if match["english"] or not (before or self._follows(between)) else None
        if not match["english"] and not match["articles"].startswith("第") and not self._directly(between, before):
            return  # 共46条, 三条建议
        from_last = self._last if linked and re.fullmatch(rf"\s*{_UP_TO}\s*", between) else None
        articles = list(self._articles(match, negated, from_last))
        last = articles[-1][1]
        if behind:
            self._statute, end = behind
        elif before:
            self._statute = before[0]
            negated_name = self._is_negated(self._since + before[1])
            articles = [(suffix, article, void or negated_name) for suffix, article, void in articles]
            negated = negated or negated_name
        elif not self._follows(between):
            self._waiting = [*(self._waiting if _JOINED.fullmatch(between) else []), *((s, a) for s, a, void in articles if not void)]
            self._since, self._statute, self._last, self._negated = match.end(), "", None, negated
            return
        if behind and _JOINED.fullmatch(between):
            yield from ((self._statute + suffix, article) for suffix, article in self._waiting)
        self._waiting, self._negated = [], negated
        void = bool(_VOID.match(text, match.end()))
        yield from ((self._statute + suffix, article) for suffix, article, never in articles if not (never or void))
        self._since, self._last = end, last

    def _is_negated(self, at: int) -> bool:
        """Whether what begins there is said not to be meant."""
        return bool(_NEGATED.search(self._text, max(0, at - 40), at))

    def _directly(self, between: str, before: tuple[str, int, str] | None) -> bool:
        """Whether nothing stands between the statute and the number: 民法典1062条, and not 民法典共1260条."""
        return not before[2] if before else (bool(self._statute) and self._last is None and not between.strip())

    def _follows(self, between: str) -> bool:
        """Whether an article belongs to the statute or the article before it, by the text between the two."""
        if not self._statute:
            return False
        if _SAME.search(between):
            return True
        if self._last is None:
            return len(between) <= statutes.FAR and not _STOPS.search(between)
        ended = re.split(r"[。\n]", between)
        return len(ended) == 1 and bool(_GOES_ON.search(between))

    def _behind(self, match: re.Match[str]) -> tuple[str, int] | None:
        """(statute, where its name ends) right behind an article: 第五百条,《民法典》; Article 12 of the Civil Code."""
        if match["english"]:
            return statutes.after(self._text, match.end(), english=True)
        comma = _TITLE_BEHIND.match(self._text, match.end())
        quoted = _FOUND.match(self._text, comma.end()) if comma else None
        if quoted and quoted["statute"] and not _OWN_ARTICLE.match(self._text, quoted.end()):
            return statutes.plain(quoted["statute"]), quoted.end()
        return statutes.after(self._text, match.end(), english=False)

    def _articles(self, match: re.Match[str], negated: bool, before: int | None) -> Iterator[tuple[str, int, bool]]:
        """(suffix of the statute's name, article, whether it is negated) of one run; ``before``: where a range began that ends with it."""
        if match["english"]:
            yield from _english(match, negated, before)
            return
        numbers = _chinese(match["articles"], before)
        inserted = re.findall(_NUMBER, match["inserted"] or "")
        yield from (("", article, negated) for article in (numbers[:-1] if inserted else numbers))
        yield from ((f"之{_written(number(one))}", numbers[-1], negated) for one in inserted)


def _english(match: re.Match[str], negated: bool, before: int | None) -> Iterator[tuple[str, int, bool]]:
    last = before
    for index, part in enumerate(_ENGLISH_PART.finditer(match["english"])):
        here, separator = int(part["number"]), part["separator"] or ""
        if "not" in separator:
            negated = True
        elif "but" in separator:
            negated = False
        if (
            "-" in separator
            or "–" in separator
            or "—" in separator
            or "to" in separator
            or "through" in separator
            or (index == 0 and before)
        ) and last:
            yield from (("", article, negated) for article in (range(last + 1, here) if 0 < here - last <= _WIDE else ()))
        yield part["letter"], here, negated
        last = here


def _chinese(written: str, before: int | None) -> list[int]:
    """The numbers of one run of articles: 第四十六、四十七条; ``before`` is where a range began that ends with it."""
    found: list[int] = [] if before is None else [before]
    for index, part in enumerate(_PART.finditer(written)):
        here = number(part["number"])
        ranged = part["up_to"] is not None or (index == 0 and before is not None)
        if ranged and found and 0 < here - found[-1] <= _WIDE:
            found += range(found[-1] + 1, here)
        found.append(here)
    return found


def _written(value: int) -> str:
    """1 to 99 as 一 to 九十九: what an inserted article is counted by."""
    tens, ones = divmod(value, 10)
    digits = "零一二三四五六七八九"
    return (digits[tens] if tens > 1 else "") + ("十" if tens else "") + (digits[ones] if ones or not tens else "")
