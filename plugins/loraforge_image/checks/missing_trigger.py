# SPDX-License-Identifier: Apache-2.0
"""The word that calls the style: misspelt it is learned as another word, and where nothing puts it in front it is missing."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from loraforge import Check, Finding, KeySet, RunConfig, speaker

from ..data.captions import CaptionTemplate, contains, parts
from ..records import ImageKeys, Picture
from .each_once import each_once
from .personal_data import excerpt

say = speaker(__name__)

# Shares of the captions: with a word in most of them it is a rule, and a few without it are exceptions.
_RULE, _FEW = 0.8, 0.2
_FEWEST = 10  # captions in which a rule can be seen
# Letters that a word must have before others count as its misspellings: "sks" is one letter away from "sky".
_LONG, _SURE = 5, 8
_CHINESE = r"[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]"
_UNITS = re.compile(rf"[a-z0-9]+|{_CHINESE}")
# Tags of anime pictures that most captions begin with, and that are true or not for each of them.
_COMMON = re.compile(r"\d\+?(?:girl|boy|other)s?|solo|(?:a|an|the) .*|(?:photo|picture|image|drawing)s?\b.*", re.IGNORECASE)


class MissingTrigger(Check[Picture]):
    """One finding for each caption that should hold the trigger word and does not.

    The template puts the trigger word in front of captions that lack it, so that merely lacking it is no finding. A misspelt one is: it
    stays in the caption, beside the right one. And where ``trigger_word`` is not set, nothing is put in front.
    """

    name = "missing_trigger"
    task = "image"
    help = "Captions with a misspelt trigger word, or without the word that the other captions begin with while trigger_word is not set."
    severity = "warning"

    @each_once
    def run(self, config: RunConfig, keys: KeySet, rows: Sequence[Picture]) -> Iterable[Finding]:
        own = [index for index, row in enumerate(rows) if not row.prior and row.trigger is None]
        given = keys[ImageKeys].trigger_word
        trigger = given or _usual([rows[index].caption for index in own])
        pattern = config.prompt_template if CaptionTemplate().matches(config.prompt_template) else ""
        if not own or not trigger or contains(trigger, pattern):
            return
        lacking = [index for index in own if not contains(trigger, rows[index].caption)]
        found = {index: near for index in lacking if (near := misspelt(trigger, rows[index].caption))}
        written = len(own) - len(lacking)
        if not written and given and len(trigger) >= _SURE and len(found) >= max(2, len(own) / 2):
            near = Counter(found.values()).most_common(1)[0][0]
            message = say("The captions write '{near}', but trigger_word is '{word}'. Write it the same way.", near=near, word=trigger)
            yield Finding(tuple(found), message, excerpt(rows[next(iter(found))].caption))
            return
        # A short word may be near another real one; a real one is not found in a few captions only.
        if len(trigger) < _SURE and (len(found) > max(1, _FEW * len(own)) or written < len(own) / 2):
            found = {}
        yield from _misspellings(trigger, found, rows, bool(given))
        if written >= _RULE * len(own) and len(own) >= _FEWEST:
            yield from _exceptions(trigger, [index for index in lacking if index not in found], rows, bool(given))


def _misspellings(trigger: str, found: dict[int, str], rows: Sequence[Picture], put: bool) -> Iterator[Finding]:
    for index, near in found.items():
        message = (
            say("'{near}' is nearly the trigger word '{word}', and would be learned beside it. Write it right.", near=near, word=trigger)
            if put
            else say("'{near}' is nearly '{word}', which the other captions begin with. Write it right.", near=near, word=trigger)
        )
        yield Finding((index,), message, excerpt(rows[index].caption))


def _exceptions(trigger: str, lacking: Sequence[int], rows: Sequence[Picture], put: bool) -> Iterator[Finding]:
    for index in lacking:
        message = (
            say(
                "The others have the trigger word '{word}' in their captions; here it is put in front. If the picture does not show what "
                "the word stands for, move it to prior_data_dir.",
                word=trigger,
            )
            if put
            else say("The other captions begin with '{word}', this one does not; set trigger_word to put it in front of all.", word=trigger)
        )
        yield Finding((index,), message, excerpt(rows[index].caption), "hint")


def _usual(captions: Sequence[str]) -> str:
    """What nearly all captions begin with, up to a comma, if it could be a trigger word."""
    if len(captions) < _FEWEST:
        return ""
    first = Counter(found[0].lower() for caption in captions if (found := parts(caption)))
    if not first:
        return ""
    word, count = first.most_common(1)[0]
    return word if _RULE * len(captions) <= count < len(captions) and not _COMMON.fullmatch(word) else ""


def misspelt(trigger: str, caption: str) -> str:
    """What in the caption is nearly the trigger word: other spaces or hyphens, a letter more, less, wrong or swapped; or nothing."""
    wanted = _UNITS.findall(trigger.lower())
    word = "".join(wanted)
    units = _UNITS.findall(caption.lower())
    for count in range(max(1, len(wanted) - 1), len(wanted) + 2):
        for start in range(len(units) - count + 1):
            joined = "".join(units[start : start + count])
            if abs(len(joined) - len(word)) <= 2 and _nearly(word, joined):
                return (" " if joined.isascii() else "").join(units[start : start + count])
    return ""


@functools.lru_cache(maxsize=100_000)
def _nearly(word: str, other: str) -> bool:
    if word == other:
        return True
    shorter, longer = sorted((word, other), key=len)
    if longer in (shorter + "s", shorter + "es"):  # a plural is another word on purpose
        return False
    length = len(word) if word.isascii() else 2 * len(word)
    allowed = 0 if length < _LONG else 1 if length < 10 else 2
    if sum(((letters := Counter(word)) - Counter(other)).values()) > allowed or sum((Counter(other) - letters).values()) > allowed:
        return False
    return edits(word, other) <= allowed


def edits(one: str, other: str) -> int:
    """How many letters must be added, removed, replaced or swapped with their neighbour to make one word the other (Damerau 1964)."""
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            best = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                best = min(best, before[j - 2] + 1)
            row.append(best)
        before, last = last, row
    return last[-1]
