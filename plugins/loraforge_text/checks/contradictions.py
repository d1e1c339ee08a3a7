# SPDX-License-Identifier: Apache-2.0
"""One question with two answers that cannot both be right: the model would learn to toss a coin."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from loraforge import Check, Finding, KeySet, RunConfig, fold, speaker

from ..evaluation.citations import citations, number
from ..records import Conversation
from .folding import narrow
from .similar import near_pairs, same_context
from .texts import answer, asked, excerpt

say = speaker(__name__)

# Below this, a question that differs in more than particles is taken for another question.
_NEARLY_SAME = 0.9
_NUMBER = r"([0-9]+(?:\.[0-9]+)?|[零〇一二两三四五六七八九十百千]+)"
_UNIT = (
    "个月|个工作日|工作日|周岁|岁|年|月|日|天|小时|分钟|秒|周|倍|万元|亿元|元|毫克|微克|千克|公斤|克|毫升|升|厘米|毫米|米|次|剂|片|针|人|份|%"
    "|mg|ug|μg|kg|g|ml|mL|L|mmol/L|mmHg|mm|cm|℃|°C|years?|months?|weeks?|days?|hours?|minutes?"
)
_MEASURE = re.compile(rf"(?<![第0-9.零〇一二两三四五六七八九十百千]){_NUMBER}\s*({_UNIT})(?![条款A-Za-z])")
_PERCENT = re.compile(r"百分之([零〇一二两三四五六七八九十百]+|[0-9]+(?:\.[0-9]+)?)")
_SAME_UNIT: Mapping[str, str] = {
    "天": "日", "个月": "月", "周岁": "岁", "个工作日": "工作日", "公斤": "千克", "kg": "千克", "mg": "毫克", "g": "克",
    "ml": "毫升", "mL": "毫升", "L": "升", "cm": "厘米", "mm": "毫米", "°C": "℃",
}  # fmt: skip
# Documents of a year, and days of a calendar: when something was published is not what was asked.
_DATES = re.compile(r"(?:19|20)\d{2}\s*年(?:\s*\d{1,2}\s*月)?(?:\s*\d{1,2}\s*日)?|《[^《》]*》")
_BASIS = re.compile(r"^(?:根据|依据|依照|按照)[^，,]{0,40}[，,]\s*")
# 违法解除的赔偿金 says nothing about yes and no; 这样做违法 does.
_NO = re.compile(
    r"不得|不能|不可|无权|不应|不属于|不构成|无须|无需|不需要|不必|不用|不允许|不合法|禁止|不承担|不会|不支持|不予|(?:(?<!不)违法|无效)$"
    r"|^(?:否|不是|不行|不对|没有)|\b(?:no|not|cannot|never)\b"
)
_YES = re.compile(
    r"可以|有权|应当|能够|需要|必须|允许|构成|属于|承担|支持|(?:合法|有效|不违法)$|^(?:是|能|会|行|对|要|可)(?!否|不)"
    r"|\b(?:yes|may|can|must|is allowed)\b"
)


class Contradictions(Check[Conversation]):
    """One finding for each row whose answer contradicts that of an earlier row with nearly the same question."""

    name = "contradictions"
    task = "text"
    help = "One question with answers that cite other articles, give other figures, or say yes here and no there."
    severity = "warning"

    def run(self, config: RunConfig, keys: KeySet, rows: Sequence[Conversation]) -> Iterable[Finding]:
        told: set[int] = set()
        for pair in near_pairs(tuple(rows)):
            if pair.later in told or pair.decisive or not (pair.same or pair.similarity >= _NEARLY_SAME):
                continue
            if not same_context(rows[pair.earlier], rows[pair.later]):
                continue  # another system message may well want another answer
            reason = conflict(answer(rows[pair.earlier]), answer(rows[pair.later]))
            if reason:
                told.add(pair.later)
                where = rows[pair.earlier].where
                message = (
                    say("{where} asks the same and answers otherwise: {reason}. Keep the right one.", where=where, reason=reason)
                    if pair.same
                    else say("{where} asks nearly the same and answers otherwise: {reason}. Check both.", where=where, reason=reason)
                )
                # The questions may differ in the very word that matters.
                yield Finding((pair.later, pair.earlier), message, excerpt(asked(rows[pair.later])), None if pair.same else "hint")


def conflict(first: str, second: str) -> str:
    """In what two answers to one question disagree: articles, figures, yes or no; nothing if they may both be right.

    An answer that says more than the other does not contradict it.
    """
    if fold(first) == fold(second):
        return ""
    one, two = citations(first), citations(second)
    if one and two and not one <= two and not two <= one:
        return say("there it cites {first}, here {second}", first=_cited(one - two), second=_cited(two - one))
    said = _polarity(first), _polarity(second)
    if None not in said and said[0] != said[1]:
        return say("there the answer is yes, here no") if said[0] else say("there the answer is no, here yes")
    here, there = _measures(second), _measures(first)
    for unit in there:
        a, b = there[unit], here.get(unit, {})
        if b and not set(a) <= set(b) and not set(b) <= set(a):
            left, right = [a[v] for v in a if v not in b], [b[v] for v in b if v not in a]
            return say("there it says {first}, here {second}", first=", ".join(left), second=", ".join(right))
    return ""


def _cited(found: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"《{law}》{article}" for law, article in sorted(found))


def _measures(text: str) -> dict[str, dict[float, str]]:
    """Figures by unit, each with how it is written."""
    found: dict[str, dict[float, str]] = defaultdict(dict)
    text = _DATES.sub(" ", narrow(text))
    for match in _PERCENT.finditer(text):
        found["%"][_value(match[1])] = match[0]
    for match in _MEASURE.finditer(_PERCENT.sub(" ", text)):
        found[_SAME_UNIT.get(match[2], match[2])][_value(match[1])] = match[0]
    return found


def _value(written: str) -> float:
    return float(written) if written[0] in "0123456789" else float(number(written))


def _polarity(text: str) -> bool | None:
    """Whether the first clause says yes or no; None if it says neither, or both."""
    start = _BASIS.sub("", text.strip().lower())
    clause = re.split(r"[。；;！!\n，,]", start, maxsplit=1)[0]
    no = bool(_NO.search(clause))
    yes = bool(_YES.search(_NO.sub("#", clause)))
    return None if no == yes else yes
