# SPDX-License-Identifier: Apache-2.0
"""Captions: the template that puts the trigger word in front, and what is done to their comma-separated parts."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from loraforge import KeySet, RunConfig, Span, Template, speaker

from ..records import ImageKeys, Picture

say = speaker(__name__)


def parts(caption: str) -> list[str]:
    """The parts between commas, Chinese ones too, of all captions."""
    return [part.strip() for part in re.split("[,，、\n]", caption) if part.strip()]


def alternatives(text: str) -> list[str]:
    """The captions of a picture, one a line, of which the first is the one that is measured and drawn; at least one, which may be empty."""
    return [line.strip() for line in text.split("\n") if line.strip()] if "\n" in text.strip("\n") else [text.strip("\n")]


def _sides(caption: str, keep: int, separator: str | None) -> tuple[list[str], list[str], list[str]]:
    """The parts that stay in front, those that move, and those that stay at the end: by the mark where there is one, as sd-scripts has it,
    otherwise by their number."""
    if separator and separator in caption:
        first, middle, last = [*caption.split(separator, 2), ""][:3]
        return parts(first), parts(middle), parts(last)
    every = parts(caption)
    return every[:keep], every[keep:], []


def written(caption: str, keys: ImageKeys) -> str:
    """The caption as it stands, without the mark of ``keep_tokens_separator``."""
    mark = keys.keep_tokens_separator
    if not mark or mark not in caption:
        return caption
    return ", ".join(one for side in _sides(caption, 0, mark) for one in side)


def arranged(caption: str, keys: ImageKeys, rng: random.Random) -> str:
    """The caption of one step: its parts in another order, some of them dropped, as the keys say."""
    if not keys.varies_captions:
        return written(caption, keys)
    first, middle, last = _sides(caption, keys.keep_tokens, keys.keep_tokens_separator)
    if keys.caption_shuffle:
        rng.shuffle(middle)
    if keys.tag_dropout:
        middle = [part for part in middle if rng.random() >= keys.tag_dropout]
    return ", ".join([*first, *middle, *last])


def arrangements(caption: str, keys: ImageKeys, most: int) -> list[str] | None:
    """All that ``arranged`` can make of a caption; None if that is more than ``most``."""
    if not keys.varies_captions:
        return [written(caption, keys)]
    first, middle, last = _sides(caption, keys.keep_tokens, keys.keep_tokens_separator)
    sizes = range(len(middle) + 1) if keys.tag_dropout else (len(middle),)
    choose = math.perm if keys.caption_shuffle else math.comb
    if len(middle) > most or sum(choose(len(middle), size) for size in sizes) > most:
        return None
    pick = itertools.permutations if keys.caption_shuffle else itertools.combinations
    return list(dict.fromkeys(", ".join([*first, *chosen, *last]) for size in sizes for chosen in pick(middle, size)))


def contains(word: str, caption: str) -> bool:
    """Whether the trigger word stands in the caption, whatever its case."""
    edge = r"[A-Za-z0-9_]"  # Chinese words stand beside each other without a space
    return re.search(rf"(?<!{edge}){re.escape(word)}(?!{edge})", caption, re.IGNORECASE) is not None


def tag_counts(captions: Iterable[str]) -> dict[str, int]:
    """How often each part occurs, in lower case, as kohya's trainer counts them."""
    counts: dict[str, int] = {}
    for caption in captions:
        for tag in re.split("[,\n]", caption):
            if tag.strip():
                counts[tag.strip().lower()] = counts.get(tag.strip().lower(), 0) + 1
    return counts


@dataclasses.dataclass(frozen=True)
class CaptionTemplate(Template[Picture]):
    """The caption, with the trigger word in front where it is missing."""

    trigger: str | None = None
    pattern: str = "{caption}"

    name = "caption"
    task = "image"
    help = "The caption, with the trigger word in front; or an inline template such as 'a photo of {caption}'."

    def matches(self, value: str) -> bool:
        return "{caption}" in value

    def prepare(self, config: RunConfig, keys: KeySet, records: Sequence[Picture]) -> CaptionTemplate:
        pattern = config.prompt_template if self.matches(config.prompt_template) else "{caption}"
        return CaptionTemplate(keys[ImageKeys].trigger_word, pattern)

    def describe(self) -> Mapping[str, Any]:
        reason = say("captions, with '{word}' in front", word=self.trigger) if self.trigger else say("captions as they are written")
        return {"name": self.name, "trigger_word": self.trigger, "pattern": self.pattern, "reason": reason}

    def recall(self, description: Mapping[str, Any]) -> CaptionTemplate:
        return CaptionTemplate(description.get("trigger_word"), str(description.get("pattern", "{caption}")))

    def render(self, record: Picture) -> Sequence[Span]:
        """Captions are read, not learned, so no span is marked. Of several captions each has a line. A bare prompt stays as it is
        written: whoever asks decides whether the trigger word is in it."""
        if not record.path:
            return [Span(record.caption)]
        trigger = self.trigger if record.trigger is None else record.trigger
        lines = [self._line(caption, "" if record.prior else trigger or "") for caption in alternatives(record.caption)]
        return [Span("\n".join(lines))]

    def _line(self, caption: str, trigger: str) -> str:
        """One of the captions of a picture."""
        caption = " ".join(self.pattern.splitlines()).replace("{caption}", caption)
        if trigger and not contains(trigger, caption):
            return f"{trigger}, {caption}" if caption.strip() else trigger
        return caption
