"""Captions: the template that puts the trigger word in front, and what is done to their comma-separated parts."""

from __future__ import annotations

import dataclasses
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


def shuffled(caption: str, keep: int, rng: random.Random) -> str:
    """The caption with its parts in another order; the first ``keep`` stay."""
    first, rest = parts(caption)[:keep], parts(caption)[keep:]
    rng.shuffle(rest)
    return ", ".join([*first, *rest])


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
        lines = [self._line(caption, "" if record.prior else trigger or "") for caption in record.caption.split("\n")]
        return [Span("\n".join(lines))]

    def _line(self, caption: str, trigger: str) -> str:
        """One of the captions of a picture."""
        caption = self.pattern.replace("{caption}", caption)
        if trigger and not contains(trigger, caption):
            return f"{trigger}, {caption}" if caption.strip() else trigger
        return caption
