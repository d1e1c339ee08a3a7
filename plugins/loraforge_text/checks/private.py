# SPDX-License-Identifier: Apache-2.0
"""Finds personal data in text, and masks it. Names are not looked for: that takes a model and errs often."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .folding import narrow

Kind = Literal["identity", "phone", "landline", "email", "card", "record", "case"]

# GB 11643: the first two digits are one of these provinces; 83 is used for residence permits of people from Taiwan.
_PROVINCES = frozenset(
    map(str, (*range(11, 16), *range(21, 24), *range(31, 38), *range(41, 47), *range(50, 55), *range(61, 66), 71, 81, 82, 83))
)
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
# People write numbers in groups; a group ends in at most one space or hyphen.
_IDENTITY = re.compile(r"(?<![0-9A-Za-z])[1-9]\d{5}[ -]?(?:19|20)\d{2}[ -]?\d{4}[ -]?\d{3}[0-9Xx](?![0-9A-Za-z])")
_PHONE = re.compile(r"(?<![0-9.])(?<![0-9]-)(?:(?:\+|00)?86[ -]?)?1[3-9]\d(?:\d{8}|[ -]\d{4}[ -]\d{4})(?![0-9]|\.[0-9])")
_LANDLINE = re.compile(r"(?<![0-9A-Za-z.-])(?:\(0(?:10|2\d|[3-9]\d{2})\) ?|0(?:10|2\d|[3-9]\d{2})[ -])[2-8]\d{6,7}(?![0-9A-Za-z]|-\d{2}-)")
_NAMED_LANDLINE = re.compile(r"(?:电话|座机|传真|联系方式)[^0-9\n]{0,4}(0(?:10|2\d|[3-9]\d{2})[2-8]\d{6,7})(?![0-9])")
_EMAIL = re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@((?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,12})(?![A-Za-z0-9-])")
_CARD = re.compile(r"(?<![0-9A-Za-z.-])(?:62|4\d|5[1-5]|35)\d{2}(?:\d{12,15}|(?: \d{4}){3}(?: \d{1,3})?)(?![0-9A-Za-z])")
_RECORD = re.compile(
    r"(?:病案|病历|住院|门诊|就诊卡?|急诊|检查|检验|影像|放射|病理|登记|患者|病人|医保卡?|社保卡?|护照|档案)(?:编?号码?|ID)"
    r"\s*(?:[:：]|为|是)?\s*([A-Za-z]{0,4}-?\d(?:[0-9A-Za-z-]{3,20}))(?![0-9A-Za-z])",
    re.IGNORECASE,
)
_COURT = r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼兵最]"
_CASE = re.compile(
    r"[(〔\[](?:19|20)\d{2}[)〕\]]\s*" + _COURT + r"[0-9一-龥]{0,12}?[民刑行执知破赔清认调他仲裁][0-9一-龥]{0,6}?(\d{1,6})号"
)
_NAMED_CASE = re.compile(r"(?<![病档])案号\s*(?:[:：]|为|是)?\s*([A-Za-z]{0,4}-?\d[0-9A-Za-z-]{3,20})(?![0-9A-Za-z])")
_HIDDEN = "*"


@dataclass(frozen=True)
class Private:
    """One piece of personal data: ``text[start:end]``, to be shown as ``mask``."""

    kind: Kind
    start: int
    end: int
    mask: str


def is_identity(number: str) -> bool:
    """Whether 18 characters are a mainland identity card's number: a province, a day that exists, the checksum (ISO 7064, MOD 11-2)."""
    number = number.upper()
    if not re.fullmatch(r"[1-9][0-9]{16}[0-9X]", number) or number[:2] not in _PROVINCES or not "1900" <= number[6:10] <= "2099":
        return False
    try:
        datetime.date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    return number[17] == identity_checksum(number[:17])


def identity_checksum(digits: str) -> str:
    """The 18th character for the first 17 digits."""
    total = sum(int(digit) * weight for digit, weight in zip(digits, _WEIGHTS, strict=True))
    return "10X98765432"[total % 11]


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of a payment card (ISO/IEC 7812-1)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def find(text: str) -> list[Private]:
    """All personal data in ``text``, in order, without overlaps. Full-width digits must have been narrowed before."""
    taken: list[Private] = []
    if not any(c.isdigit() for c in text) and "@" not in text:
        return taken
    for found in _candidates(text):
        if all(found.end <= other.start or found.start >= other.end for other in taken):
            taken.append(found)
    return sorted(taken, key=lambda found: found.start)


def masked(text: str) -> str:
    """``text`` with all personal data masked; as long as before."""
    for found in reversed(find(narrow(text))):
        text = text[: found.start] + found.mask + text[found.end :]
    return text


def _candidates(text: str) -> Iterator[Private]:
    """The surest kinds first: a part of what they found is nothing else."""
    for match in _IDENTITY.finditer(text):
        if is_identity(re.sub("[ -]", "", match[0])):
            yield _hide("identity", match, 4, 4)
    for match in _EMAIL.finditer(text):
        # example.com and its like are reserved for examples (RFC 2606).
        if "example" not in match[1].lower().split(".") and not match[1].lower().endswith((".test", ".invalid")):
            yield _hide("email", match, 1, len(match[1]) + 1)
    for match in _CASE.finditer(text):
        yield Private("case", match.start(), match.end(), _stars(text, match, *match.span(1)))
    for pattern, kind in ((_NAMED_CASE, "case"), (_RECORD, "record")):
        for match in pattern.finditer(text):
            if sum(c.isdigit() for c in match[1]) >= 4:
                yield Private(kind, match.start(), match.end(), _stars(text, match, match.start(1), match.end(1) - 2))  # type: ignore[arg-type]
    for match in _CARD.finditer(text):
        if luhn(match[0].replace(" ", "")):
            yield _hide("card", match, 4, 4)
    for match in _PHONE.finditer(text):
        yield _hide("phone", match, 3, 4)
    for match in _LANDLINE.finditer(text):
        yield _hide("landline", match, 4, 2)
    for match in _NAMED_LANDLINE.finditer(text):
        yield Private("landline", match.start(), match.end(), _stars(text, match, match.start(1) + 4, match.end(1) - 2))


def _hide(kind: Kind, match: re.Match[str], first: int, last: int) -> Private:
    """Leaves the first and last characters to recognise it by."""
    return Private(kind, match.start(), match.end(), _stars(match.string, match, match.start() + first, match.end() - last))


def _stars(text: str, match: re.Match[str], start: int, end: int) -> str:
    end = max(start, end)
    return text[match.start() : start] + _HIDDEN * (end - start) + text[end : match.end()]
