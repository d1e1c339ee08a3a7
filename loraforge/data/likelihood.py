# SPDX-License-Identifier: Apache-2.0
"""How likely a text is in each of a dozen encodings of six languages: by how common its characters are there."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

PRIVATE_USE = re.compile("[\ue000-\uf8ff\U000f0000-\U0010fffd]")
_SAMPLE = 20_000  # characters that are looked at
SURE = 4.0  # how much likelier the best reading must be than the second, as a logarithm
TYPICAL = 0.65  # the share of its foreign characters that must be common ones
_GLUED = -4.0  # a foreign character right after a Latin letter: B超 is seldom, qu弾st is what a misread apostrophe makes
_SWALLOWED = -3.0  # and one whose second byte is the letter that followed: woman抯 dress was woman’s dress
_BAD = -25.0  # the likelihood of a byte that the encoding does not know


@dataclass(frozen=True)
class Language:
    """How likely the characters of an encoding are: (share of a text, number of characters) for each class of them.

    Attributes:
        before: how likely the encoding is before a file is looked at, as a logarithm: a word or two do not tell Korean from Chinese.
    """

    encoding: str
    classify: Callable[[str], str]
    classes: Mapping[str, tuple[float, int]]
    before: float = 0.0

    def __hash__(self) -> int:
        return hash(self.encoding)


@dataclass(frozen=True)
class Reading:
    """A file as one encoding reads it.

    Attributes:
        likelihood: the logarithm of how likely such a text is.
        typical: the share of its foreign characters that are common ones.
        bad: how many bytes mean nothing.
    """

    encoding: str
    text: str
    likelihood: float
    typical: float
    bad: int

    @classmethod
    def of(cls, data: bytes, language: Language) -> Reading:
        """What the bytes say in one encoding."""
        text = data.decode(language.encoding, "replace")
        # What is plain ASCII to its end says nothing. Cut by bytes all readings would end at another character.
        start = max(0, next((i for i, byte in enumerate(data) if byte > 127), 0) - 1)
        piece = data[start : start + _SAMPLE].decode(language.encoding, "replace")
        likelihood, common, foreign = language.before, 0, 0
        before = "  "
        for character in piece:
            kind = language.classify(character)
            if kind == "letter" and not (before[0].isascii() or before[1].isascii()):
                kind = "rare"  # ÖÐ¹ú: hardly ever do three such letters stand together
            likelihood += _weight(language, kind)
            if character > "\x7f" and kind not in ("letter", "mark") and before[1].isascii() and before[1].isalpha():
                likelihood += _GLUED
                if character != "\ufffd" and character.encode(language.encoding, "replace")[-1:].isalpha():
                    likelihood += _SWALLOWED
            if character > "\x7f" and kind != "mark":
                foreign += 1
                common += kind in ("common", "frequent", "letter", "kanji")
            before = before[1] + character
        private = PRIVATE_USE.search(text) is not None
        if private:
            likelihood -= 1e6
        return cls(language.encoding, text, likelihood, common / foreign if foreign else 1.0, text.count("\ufffd") + private)


def readings(data: bytes) -> list[Reading]:
    """A text that is not UTF-8 as each of ``LANGUAGES`` reads it, the likeliest first."""
    return sorted((Reading.of(data, language) for language in LANGUAGES), key=lambda one: -one.likelihood)


@functools.cache
def _weight(language: Language, kind: str) -> float:
    if kind == "bad":
        return _BAD
    share, count = language.classes.get(kind, (1e-6, 1000))
    return math.log(share / count)


def shared(character: str) -> str | None:
    """The class of a character that all encodings share: ``ascii``, ``mark`` (punctuation) or ``bad``; None for the others."""
    if character < "\x80":
        return "ascii" if character >= " " or character in "\t\r\n" else "bad"
    if character == "\ufffd":
        return "bad"
    if "\u3000" <= character <= "\u3011" or "\uff01" <= character <= "\uff5e" or character in "“”‘’—…·《》「」『』【】、。":
        return "mark"
    return None


def _by_bytes(codec: str, common: tuple[int, int], rare: tuple[int, int]) -> Callable[[str], str]:
    """Hanzi by where the national standard puts them: its first level holds those that are used daily, its second the others."""

    @functools.cache
    def classify(character: str) -> str:
        kind = shared(character)
        if kind:
            return kind
        try:
            lead = character.encode(codec)[0]
        except UnicodeEncodeError:
            return "foreign"
        return "common" if common[0] <= lead <= common[1] else "second" if rare[0] <= lead <= rare[1] else "foreign"

    return classify


def _japanese(character: str) -> str:
    if "\u3041" <= character <= "\u30ff":
        return "common"
    return "foreign" if "\uff61" <= character <= "\uff9f" else _JIS(character)


def _euc_japanese(character: str) -> str:
    """Hanzi in GB2312 have the same bytes as kanji in EUC-JP; only the kana tell."""
    kind = _japanese(character)
    return "kanji" if kind == "common" and not "\u3041" <= character <= "\u30ff" else kind


# What most of running Korean is made of: endings and particles, and the syllables of everyday words.
_SYLLABLES = frozenset(
    "이다는을의에가고하지기도리로사나어자한은인시그서아라대있들일해수보주부정게만오상제구여스전장모원유우비소년성조신동화경진연공재실물국관생명세방안무문말거면러것했었던과와"
    "니습까요니다를으며때위내양적중분개선학교체작음식손눈머얼굴옷빨파란노검흰색녀남여입고있는앉서서걷풍밤낮하늘바구름꽃무산집길차람들속밖앞뒤옆큰은긴짧치마셔츠림사진배"
)


def _korean(character: str) -> str:
    kind = shared(character)
    if kind:
        return kind
    if character in _SYLLABLES:
        return "frequent"
    if "\uac00" <= character <= "\ud7a3":
        try:
            return "common" if len(character.encode("euc_kr")) == 2 else "second"
        except UnicodeEncodeError:
            return "second"
    return "hanja" if "\u4e00" <= character <= "\u9fff" else "foreign"


def _western(character: str) -> str:
    if character < "\x80" or character == "\ufffd":
        return shared(character) or "ascii"
    return "letter" if character in "àâäáãåæçéèêëíìîïñóòôöõøœúùûüßÀÂÄÁÃÅÆÇÉÈÊËÍÎÏÑÓÔÖÕØŒÚÙÛÜ’‘“”–—…•€£§°«»·¿¡©®™" else "rare"


HANZI = _by_bytes("gb2312", (0xB0, 0xD7), (0xD8, 0xF7))
_JIS = _by_bytes("shift_jis", (0x88, 0x97), (0x98, 0xEA))
# The shares are round numbers: what decides are the sizes of the classes and that a wrong reading falls into rare ones. Plain ASCII
# weighs the same everywhere, so that a word of Chinese in a page of English counts as it would alone. Of the syllables of Korean and
# the letters of Japanese few are in use, hence their smaller numbers. Python's cp932 and cp949 are what Windows calls Shift-JIS and
# Korean; big5hkscs is Big5 with what Hong Kong and Windows added.
LANGUAGES = (
    Language(
        "gb18030",
        HANZI,
        {"ascii": (0.4, 95), "mark": (0.12, 80), "common": (0.55, 3755), "second": (0.02, 3008), "foreign": (0.002, 16000)},
    ),
    Language(
        "big5hkscs",
        _by_bytes("big5", (0xA4, 0xC6), (0xC9, 0xF9)),
        {"ascii": (0.4, 95), "mark": (0.12, 80), "common": (0.55, 5401), "second": (0.02, 7650), "foreign": (0.001, 5000)},
        -4,
    ),
    Language(
        "cp932",
        _japanese,
        {"ascii": (0.4, 95), "mark": (0.12, 80), "common": (0.55, 1500), "second": (0.02, 3390), "foreign": (0.002, 500)},
        -6,
    ),
    Language(
        "euc_jp",
        _euc_japanese,
        {
            "ascii": (0.4, 95),
            "mark": (0.12, 80),
            "common": (0.4, 170),
            "kanji": (0.2, 2965),
            "second": (0.01, 3390),
            "foreign": (0.001, 900),
        },
        -10,
    ),
    Language(
        "cp949",
        _korean,
        {
            "ascii": (0.4, 95),
            "mark": (0.08, 80),
            "frequent": (0.5, 200),
            "common": (0.25, 1000),
            "second": (0.003, 8822),
            "hanja": (0.01, 4888),
            "foreign": (0.001, 900),
        },
        -8,
    ),
    Language("cp1252", _western, {"ascii": (0.4, 95), "letter": (0.07, 75), "rare": (0.0005, 40)}, -2),
)
