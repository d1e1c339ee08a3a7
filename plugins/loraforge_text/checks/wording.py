# SPDX-License-Identifier: Apache-2.0
"""Words that an expert would not sign: found by lists that anybody can edit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import ClassVar

from loraforge import Check, Finding, KeySet, RunConfig, speaker

from ..records import Conversation
from .folding import narrow
from .texts import excerpt
from .wordlists import Hit, WordListKeys, word_list

say = speaker(__name__)


class _Wording(Check[Conversation]):
    """One finding for each row whose answers contain words of a list. Questions are left alone: clients and patients ask as they speak."""

    task = "text"
    keys = WordListKeys

    def run(self, config: RunConfig, keys: KeySet, rows: Sequence[Conversation]) -> Iterable[Finding]:
        words = word_list(self.name, keys[WordListKeys].word_list)
        for index, row in enumerate(rows):
            hits = [(text, hit) for text in row.answers for hit in words.find(text) if self.counts(text, hit)]
            if not hits:
                continue
            strong = [(text, hit) for text, hit in hits if not hit.entry.weak]
            text, first = (strong or hits)[0]
            found = ", ".join(dict.fromkeys(_shown(text, hit) for text, hit in hits))
            yield Finding((index,), self.message(found), excerpt(text, first.start, first.end), None if strong else "hint")

    def counts(self, text: str, hit: Hit) -> bool:
        """Whether what was found is a fault at this place."""
        return True

    def message(self, found: str) -> str:
        """What to say of the words that were found."""
        raise NotImplementedError


def _shown(text: str, hit: Hit) -> str:
    written = " ".join(text[hit.start : hit.end].split())
    return say("'{word}' (better: {better})", word=written, better=hit.entry.better) if hit.entry.better else f"'{written}'"


class Hedging(_Wording):
    """考虑…不排除…, 也许, 说不好. Risks (可能引起) and the limits of a rule (原则上, 一般) are no hedging."""

    name = "hedging"
    help = "Answers that hedge, as in 考虑…不排除…: the model learns to hedge too."
    severity = "warning"

    def message(self, found: str) -> str:
        return say("The answer hedges: {found}. Say what holds, and under which condition.", found=found)


class Colloquial(_Wording):
    """Everyday speech in an expert's answer."""

    name = "colloquial"
    help = "Everyday speech in answers, by a list that you can edit."
    severity = "warning"

    def message(self, found: str) -> str:
        return say("The answer uses everyday speech: {found}. Write as in a written opinion.", found=found)


class Abbreviations(_Wording):
    """Short forms that the answer does not explain."""

    name = "abbreviations"
    help = "Short forms in answers that the answer does not explain, by a list that you can edit."
    severity = "warning"
    _explained: ClassVar = re.compile(r"(?:简称|又称|即|称为|缩写为?|also called|short for)[“\"「 ]?$")

    def counts(self, text: str, hit: Hit) -> bool:
        plain = narrow(text)
        before, after = plain[: hit.start].rstrip(), plain[hit.end :].lstrip()
        # 国际标准化比值（INR）, INR（国际标准化比值）, 以下简称民诉法: the reader is told what it means.
        if before.endswith("(") or after.startswith("(") or self._explained.search(before):
            return False
        return not (hit.entry.better and hit.entry.better in plain)

    def message(self, found: str) -> str:
        return say("The answer abbreviates: {found}. Write it in full, or explain it where it first stands.", found=found)


class EmptyPhrases(_Wording):
    """Greetings, thanks and disclaimers that are learned as part of every answer."""

    name = "empty_phrases"
    help = "Greetings, thanks and stock phrases in answers, by a list that you can edit."
    severity = "hint"

    def message(self, found: str) -> str:
        return say("The answer contains a stock phrase: {found}. Leave it out, or the model says it each time.", found=found)
