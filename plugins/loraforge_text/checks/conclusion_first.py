# SPDX-License-Identifier: Apache-2.0
"""Answers that do not lead with the conclusion, where most of the others do (先结论后依据)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from loraforge import Check, Finding, KeySet, RunConfig, speaker

from ..records import Conversation
from .texts import answer, excerpt

say = speaker(__name__)

Opening = Literal["conclusion", "basis", "preamble"]

# Fewer rows show no style; other styles of up to three in ten are exceptions to it.
_FEWEST = 10
_STYLE = 0.6
_EXCEPTION = 0.3
# 根据体重计算 is no citation; 依法 is a word of the conclusion.
_BASIS = re.compile(
    r"^(?:(?:根据|依据|依照|按照)(?:我国|现行|最新)?(?:《|[^。，,]{0,16}?(?:规定|法律|法规|条例|司法解释|指南|共识|标准|规范)(?:[，,、》]|的规定|等))"
    r"|《[^》]{2,60}》(?:第|规定|明确|指出|（|\())"
    r"|^(?:according to|pursuant to|under (?:article|section|the [\w ]{0,40}(?:act|code|law))\b)",
    re.IGNORECASE,
)
_PREAMBLE = re.compile(
    r"^(?:关于|针对|对于(?:您|你)|就(?:您|你|此)|(?:您|你)(?:好|的问题|问的|提到|说的|咨询)|这个问题|该问题|此问题|这是一个|这?要看|要回答|要判断|要分析"
    r"|首先[，,]?(?:要|需要|应|我们|来|明确|了解|看|分析)|我们(?:先|来|首先)|先(?:来)?(?:看|说说|谈|分析|了解)|在(?:回答|讨论|分析)"
    r"|随着|众所周知|感谢|谢谢|很高兴|好的[，,。！]|作为(?:AI|人工智能)|一般我们|让我们)"
    r"|^(?:first(?:ly)?,|let(?:'s| us)|well,|regarding|concerning|as for|thank you|thanks|great question|this is a|good question)",
    re.IGNORECASE,
)
# Who asks for the basis or for steps is answered by the basis and by a first step.
_ASKS_BASIS = re.compile(
    r"依据|根据什么|根据哪|哪条|第几条|哪一条|哪部|哪项法律|什么法|法条|规定是什么|如何规定|怎么规定|哪些规定|出处"
    r"|which (?:article|law|section)",
    re.IGNORECASE,
)
_ASKS_STEPS = re.compile(r"步骤|流程|程序|怎么|如何|怎样|先做|第一步|急救|处理|how|steps", re.IGNORECASE)


class ConclusionFirst(Check[Conversation]):
    """One finding for each answer that begins with its basis or with a preamble, in data whose answers begin with the conclusion.

    Data in which another order is the rule, or in which there is no rule, have no finding.
    """

    name = "conclusion_first"
    task = "text"
    help = "Answers that do not begin with the conclusion (先结论后依据), where most of the others do."
    severity = "warning"

    def run(self, config: RunConfig, keys: KeySet, rows: Sequence[Conversation]) -> Iterable[Finding]:
        openings = [opening(row.question, answer(row)) for row in rows]
        counts = Counter(openings)
        if len(rows) < _FEWEST or counts["conclusion"] < _STYLE * len(rows):
            return
        share = f"{counts['conclusion'] / len(rows):.0%}"
        for index, kind in enumerate(openings):
            if kind == "conclusion" or counts[kind] > _EXCEPTION * len(rows):
                continue
            message = (
                say(
                    "The answer begins with its basis, while {share} of the answers begin with the conclusion. Put the conclusion first.",
                    share=share,
                )
                if kind == "basis"
                else say(
                    "The answer begins with a preamble, while {share} of the answers begin with the conclusion. Put the conclusion first.",
                    share=share,
                )
            )
            yield Finding((index,), message, excerpt(answer(rows[index])))


def opening(question: str, text: str) -> Opening:
    """With what an answer begins."""
    if _BASIS.match(text):
        return "conclusion" if _ASKS_BASIS.search(question) else "basis"
    if _PREAMBLE.match(text):
        return "conclusion" if text.startswith(("首先", "先")) and _ASKS_STEPS.search(question) else "preamble"
    return "conclusion"
