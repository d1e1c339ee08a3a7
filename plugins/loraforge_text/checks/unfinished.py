"""Answers that break off: a model trained on them does not know where to stop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from loraforge import Check, Finding, KeySet, RunConfig, speaker

from ..records import Conversation
from .texts import answer, excerpt

say = speaker(__name__)

_OPEN_ENDS = "，,、：:；;（(《“「—"
_BRACKETS = {"（": "）", "《": "》", "“": "”", "「": "」", "【": "】"}
_STOPS = "。！？.!?…”」』）)】》;；"
# Where one answer in ten ends without a full stop, that is how this author writes.
_FEWEST = 10
_SHARE = 0.9
# Shorter answers are words, not sentences.
_SENTENCE = 12


class Unfinished(Check[Conversation]):
    """One finding for each answer that ends in a comma, in an open bracket, or without the full stop that the others have."""

    name = "unfinished"
    task = "text"
    help = "Answers that end in the middle of a sentence."
    severity = "warning"

    def run(self, config: RunConfig, keys: KeySet, rows: Sequence[Conversation]) -> Iterable[Finding]:
        texts = [answer(row) for row in rows]
        sentences = [text for text in texts if len(text) >= _SENTENCE]
        stopped = sum(text[-1] in _STOPS for text in sentences)
        by_habit = len(sentences) >= _FEWEST and stopped >= _SHARE * len(sentences)
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
