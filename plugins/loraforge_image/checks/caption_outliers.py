# SPDX-License-Identifier: Apache-2.0
"""Captions that say nothing, or something else than the picture: names of files, placeholders, text that was pasted twice."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from loraforge import Check, Finding, KeySet, RunConfig, speaker

from ..data.captions import parts
from ..data.perceptual_hash import picture_infos
from ..records import ImageKeys, Picture
from .each_once import each_once
from .personal_data import excerpt

say = speaker(__name__)

_FEWEST = 10  # captions that show what is usual
_TIMES = 4  # so many times shorter or longer than usual is out of the way
_WORDS = 25  # and a long one has so many words more than usual: half of what CLIP reads
_MANY = 0.1  # what is true of more than one in ten, and of more than two, is no outlier
_OWN = 0.7  # where this share of captions is unlike all others, a caption belongs to one picture
_TELLING = 5  # words from which on two pictures hardly have the same caption by chance
_APART = 16  # bits of 64 by which pictures of one caption differ that have little in common
_WORD = re.compile(r"[A-Za-z0-9']+|[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]")
# What stands in a caption that nobody has written.
_NOTHING = frozenset(
    _WORD.findall(
        "a an the of image images picture pictures photo photos photograph img pic file untitled caption text todo tbd none null nan na "
        "empty unknown test 图片 照片 图像 无标题 未命名 描述 测试 待写 空"
    )
)


class CaptionOutliers(Check[Picture]):
    """One finding for each caption that is unlike the others. A caption that is the trigger word alone is meant where all are so."""

    name = "caption_outliers"
    task = "image"
    help = "Captions that are a file's name or a placeholder, far shorter or longer than the others, or the same for unlike pictures."
    severity = "warning"

    @each_once
    def run(self, config: RunConfig, keys: KeySet, rows: Sequence[Picture]) -> Iterable[Finding]:
        own = [index for index, row in enumerate(rows) if not row.prior]
        trigger = (keys[ImageKeys].trigger_word or "").lower().strip()
        told: set[int] = set()
        for index in own:
            message = _empty(rows[index], trigger)
            if message:
                told.add(index)
                yield Finding((index,), message, excerpt(rows[index].caption))
        rest = [index for index in own if index not in told]
        yield from _lengths(rows, rest)
        yield from _repeated(rows, rest)


def _empty(row: Picture, trigger: str) -> str:
    """What is wrong with a caption that tells nothing of its picture."""
    caption = row.caption.lower().strip()
    if caption == trigger:
        return ""
    stem = Path(row.path).stem.lower()
    if _plain(caption) in (_plain(stem), _plain(Path(row.path).name)) and re.search(r"\d", stem):
        return say("The caption is the file's name. Write what the picture shows.")
    words = _WORD.findall(caption)
    if all(word in _NOTHING or word.isdigit() for word in words):
        return say("The caption says nothing of the picture. Write what it shows.")
    return ""


def _plain(text: str) -> str:
    return "".join(c for c in text if c.isalnum())


def _lengths(rows: Sequence[Picture], own: Sequence[int]) -> Iterator[Finding]:
    """Captions far shorter or longer than the others."""
    counts = {index: len(_WORD.findall(rows[index].caption)) for index in own}
    if len(counts) < _FEWEST:
        return
    usual = statistics.median(counts.values())
    out = {i: n for i, n in counts.items() if n * _TIMES <= usual or (n >= usual * _TIMES and n - usual >= _WORDS)}
    if len(out) > max(2, _MANY * len(counts)):
        return
    for index, count in out.items():
        message = (
            say("The caption has {n} words, where {usual:.0f} are usual. Describe what the others describe.", n=count, usual=usual)
            if count < usual
            else say("The caption has {n} words, where {usual:.0f} are usual; what is too long is cut off.", n=count, usual=usual)
        )
        yield Finding((index,), message, excerpt(rows[index].caption), "hint")


def _repeated(rows: Sequence[Picture], own: Sequence[int]) -> Iterator[Finding]:
    """Captions that unlike pictures share, where a caption belongs to one picture."""
    by: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index in own:
        by[tuple(sorted(part.lower() for part in parts(rows[index].caption)))].append(index)
    if len(own) < _FEWEST or sum(len(group) == 1 for group in by.values()) < _OWN * len(own):
        return
    for group in by.values():
        if len(group) < 2 or len(_WORD.findall(rows[group[0]].caption)) < _TELLING:
            continue
        seen = picture_infos([rows[index].path for index in group])
        for index, one in zip(group[1:], seen[1:], strict=True):
            if not one.problem and not seen[0].problem and one.distance(seen[0]) > _APART:
                message = say(
                    "The caption is that of {where}, but the pictures have little in common ({distance} of 64 bits differ). Was it pasted?",
                    where=rows[group[0]].where,
                    distance=one.distance(seen[0]),
                )
                yield Finding((index, group[0]), message, excerpt(rows[index].caption), "hint")
