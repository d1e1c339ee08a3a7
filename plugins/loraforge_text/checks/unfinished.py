# SPDX-License-Identifier: Apache-2.0
"""Answers that break off, and texts with placeholders: a model trained on them does not know where to stop, or repeats the placeholder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from loraforge import Check, Finding, KeySet, RunConfig, speaker

from ..records import Conversation
from .texts import answer, everything, excerpt

say = speaker(__name__)

# {{name}}, ${name}, and the marks of pictures in other trainers' data.
_PLACEHOLDER = re.compile(r"\{\{[^{}\n]{1,40}\}\}|\$\{\w{1,40}\}|<(?:image|video|audio)>")
_OPEN_ENDS = "，,、：:；;（(《“「—"
_BRACKETS = {"（": "）", "《": "》", "“": "”", "「": "」", "【": "】"}
_STOPS = "。！？.!?…”」』）)】》;；"
# Where one answer in ten ends without a full stop, that is how this author writes.
_FEWEST = 10
_SHARE = 0.9
# Shorter answers are words, not sentences.
_SENTENCE = 12


class Unfinished(Check[Conversation]):
    """One finding for each answer that ends in a comma, in an open bracket, or without the full stop that the others have, and for each row
    with a placeholder."""

    name = "unfinished"
    task = "text"
    help = "Answers that end in the middle of a sentence, and placeholders such as {{name}} that nobody filled in."
    severity = "warning"

    def run(self, config: RunConfig, keys: KeySet, rows: Sequence[Conversation]) -> Iterable[Finding]:
        texts = [answer(row) for row in rows]
        sentences = [text for text in texts if len(text) >= _SENTENCE]
        stopped = sum(text[-1] in _STOPS for text in sentences)
        by_habit = len(sentences) >= _FEWEST and stopped >= _SHARE * len(sentences)
        for index, row in enumerate(rows):
            place = next(((text, match) for text in everything(row) if (match := _PLACEHOLDER.search(text))), None)
            if place is not None:
                text, match = place
                yield Finding(
                    (index,),
                    say("The text holds the placeholder {mark}. Write what belongs there, or take the row out.", mark=match[0]),
                    excerpt(text, *match.span()),
                )
        for index, text in enumerate(texts):
            if not text:
                continue
            end = excerpt(text, max(0, len(text) - 12), len(text))
            missing = [close for open_, close in _BRACKETS.items() if text.count(open_) > text.count(close)]
            if text[-1] in _OPEN_ENDS:
                yield Finding((index,), say("The answer ends in '{mark}', as if it were cut off. Complete it.", mark=text[-1]), end)
            elif missing:
                yield Finding(
                    (index,), say("The answer opens a bracket or quote that is not closed: '{mark}' is missing.", mark=missing[0]), end
                )
            elif by_habit and len(text) >= _SENTENCE and text[-1] not in _STOPS:
                yield Finding((index,), say("The answer has no full stop at its end, as the others have. Is it complete?"), end, "hint")
