# SPDX-License-Identifier: Apache-2.0
"""What two writings of one question or answer do not differ in: the same text for 三个月 and 3個月, for 请问… and …吗.

``simplified.txt`` holds two lines, the traditional characters of Unicode's block of common ideographs and what simplified writing has for
each, from the character dictionary of OpenCC (https://github.com/BYVoid/OpenCC, Apache-2.0).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from pathlib import Path

from ..plugin_api.types import Lesson
from .similarity import character_pairs, fold

# What people say before and after a question. Words of English end where a letter does not follow.
_BEFORE = re.compile(
    r"(?:\W*(?:请问一下|请问|请教一下|请教|您好|你好|大家好|早上好|下午好|晚上好|在吗|打扰一下|打扰了|麻烦问一下|麻烦您|麻烦你|麻烦|"
    r"劳驾|求助|咨询一下|我想咨询一下|我想咨询|想咨询一下|想咨询|我想请问|想请问|我想问一下|想问一下|我想问|想问|问一下|我想知道|想知道|"
    r"(?:医生|律师|老师|大夫)(?=\W*(?:您好|你好|请问))|"
    r"(?:hi|hello|hey|dear sir or madam|excuse me|good morning|good afternoon|good evening|please|"
    r"(?:could|can|would) you (?:please )?tell me|i would like to know|i'd like to know|may i ask)(?![a-z])))+\W*"
)
_AFTER = ("谢谢您", "谢谢你", "谢谢", "多谢", "感谢", "拜托了", "thank you", "thanks", "please")
# 能不能 and 可以 as 能: without it the 不 would look like a negation.
_EITHER = re.compile(r"(.)[不没]\1")
# Characters that leave a question the same wherever they stand; of a text so short that hardly anything else is left they stay.
_SILENT = {ord(c): None for c in "吗呢啊吧呀么嘛的了"}
_CORE = 4  # characters

_DIGITS = {
    c: i for i, signs in enumerate(("零〇", "一壹", "二两贰", "三叁", "四肆", "五伍", "六陆", "七柒", "八捌", "九玖")) for c in signs
}
_UNITS = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000}
_MYRIADS = {"万": 10**4, "亿": 10**8}
_TENS = {"廿": "二十", "卅": "三十"}
_NUMERAL = re.compile(f"[{''.join((*_DIGITS, *_UNITS, *_MYRIADS))}]+")
_LONGEST = 16  # signs of a numeral that is one
_MIXED = re.compile(r"([0-9]{1,12})([百千万亿])(?![0-9])")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_THOUSANDS = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_WORD = re.compile(rf"(?<![a-z])(?:{'|'.join(_WORDS)})(?![a-z])")
FLOOR = 10
"""Pairs of characters from which on a question that stands within a longer one asks the same."""
# Shorter answers may be classes: 是, 不属于工伤, "not entailed".
_SHORT = 10
# What is counted when the length of an answer is told: a word of letters or digits, or one character of another writing.
_COUNTED = re.compile(r"[a-z0-9]+|[^\W_a-z0-9]")


@functools.lru_cache(maxsize=1)
def _simplified() -> dict[int, str]:
    traditional, simplified = (Path(__file__).parent / "simplified.txt").read_text(encoding="utf-8").split()
    return {ord(a): b for a, b in zip(traditional, simplified, strict=True)}


def simplified(text: str) -> str:
    """Traditional characters as simplified ones, one for one."""
    return text if text.isascii() else text.translate(_simplified())


@functools.lru_cache(maxsize=20_000)
def bare_question(text: str) -> str:
    """A question without what leaves it the same: greetings, particles, punctuation, width, case; numerals as digits.

    A text that is nothing but these stays as it is, folded; one without letters and digits as it is.
    """
    written = _one_writing(text)
    greeting = _BEFORE.match(written)
    asked = _without_thanks(written[greeting.end() :] if greeting else written)
    bare = _EITHER.sub(r"\1", fold(_digits(asked))).replace("可以", "能")
    core = bare.translate(_SILENT)
    if len(core) >= _CORE:
        return core
    return bare or fold(_digits(written)) or text.strip()


@functools.lru_cache(maxsize=20_000)
def bare_answer(text: str) -> str:
    """An answer without punctuation, width and case, its numerals as digits; a text without letters and digits as it is."""
    return fold(_digits(_one_writing(text))) or text.strip()


def length(text: str) -> int:
    """How long a text is to a reader: its words, and its characters where these are words of their own."""
    return sum(1 for _ in _COUNTED.finditer(unicodedata.normalize("NFKC", text).lower()))


def asked(text: str) -> str:
    """The key of a question: folded; a text without letters and digits as it is."""
    return fold(text) or text


def lesson(text: str) -> Lesson:
    """An answer, for telling whether it was learned."""
    key = bare_answer(text)
    return Lesson(key, character_pairs(key), length(text) < _SHORT, numbers(text))


@functools.lru_cache(maxsize=20_000)
def numbers(text: str) -> frozenset[str]:
    """The numbers that a text names, in one writing: 第四十六条, 第46条 and "Article 46" name one.

    Without 1, which 一般 and "one should" say too.
    """
    found = _NUMBER.findall(_THOUSANDS.sub("", _digits(_one_writing(text))))
    return frozenset(_plain(number) for number in found) - {"1"}


def _plain(number: str) -> str:
    """05 as 5, 2.50 as 2.5. Not by way of a number: an answer may hold a million digits."""
    whole, _, part = number.partition(".")
    return ".".join(filter(None, (whole.lstrip("0") or "0", part.rstrip("0"))))


def _one_writing(text: str) -> str:
    """Width, case, traditional characters and the number words of English in one writing."""
    text = simplified(unicodedata.normalize("NFKC", text).lower()).replace("’", "'").replace("百分之", "")
    return _WORD.sub(lambda found: str(_WORDS.index(found[0])), text)


def _without_thanks(text: str) -> str:
    end = len(text)
    while end and not text[end - 1].isalnum():
        end -= 1
    said = next((word for word in _AFTER if text.endswith(word, 0, end)), "")
    start = end - len(said)
    # Of English words only whole ones.
    return text if said.isascii() and start and text[start - 1].isascii() and text[start - 1].isalpha() else text[:start]


def _digits(text: str) -> str:
    """Chinese numerals as digits: 十二 as 12, 二〇二四 as 2024, 3万 as 30000."""
    for sign, numeral in _TENS.items():
        text = text.replace(sign, numeral)
    text = _MIXED.sub(lambda found: str(int(found[1]) * {**_UNITS, **_MYRIADS}[found[2]]), text)
    return _NUMERAL.sub(lambda found: _value(found[0]), text)


def _value(numeral: str) -> str:
    if len(numeral) > _LONGEST:
        return numeral
    if not any(sign in _UNITS or sign in _MYRIADS for sign in numeral):
        return "".join(str(_DIGITS[sign]) for sign in numeral)  # read out one by one
    total = below = digit = 0  # 三百|二十|五 below 万, 亿
    for sign in numeral:
        if sign in _DIGITS:
            digit = _DIGITS[sign]
        elif sign in _UNITS:
            below, digit = below + (digit or 1) * _UNITS[sign], 0
        else:
            total, below, digit = (total + below + digit or 1) * _MYRIADS[sign], 0, 0
    return str(total + below + digit)
