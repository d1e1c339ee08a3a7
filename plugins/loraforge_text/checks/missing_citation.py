# SPDX-License-Identifier: Apache-2.0
"""Answers without an article where the others cite one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from loraforge import Check, Finding, KeySet, RunConfig, speaker

from ..evaluation.citations import citations
from ..evaluation.statutes import KNOWN, simplified
from ..records import Conversation
from .texts import answer, excerpt

say = speaker(__name__)

# Fewer rows show no habit; and where four in ten do without an article, citing is not the rule.
_FEWEST = 10
_SHARE = 0.6
_TITLE = re.compile(rf"《[^《》]{{2,60}}》|（[^（）]*号）|{KNOWN}")


class MissingCitation(Check[Conversation]):
    """One finding for each answer that cites no article, in data that cite."""

    name = "missing_citation"
    task = "text"
    help = "Answers that cite no article (《…》第N条), where most of the others do."
    severity = "warning"

    def run(self, config: RunConfig, keys: KeySet, rows: Sequence[Conversation]) -> Iterable[Finding]:
        cites = [bool(citations(answer(row))) for row in rows]
        if len(rows) < _FEWEST or sum(cites) < _SHARE * len(rows):
            return
        for index, row in enumerate(rows):
            if cites[index]:
                continue
            text = answer(row)
            share = f"{sum(cites) / len(rows):.0%}"
            if _TITLE.search(simplified(text)):
                message = say(
                    "The answer names its source without an article, while {share} of the answers cite one. Add the article.", share=share
                )
                yield Finding((index,), message, excerpt(text), "hint")
            else:
                message = say("The answer cites no article, while {share} of the answers do. Add 《…》第N条.", share=share)
                yield Finding((index,), message, excerpt(text))
