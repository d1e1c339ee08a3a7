# SPDX-License-Identifier: Apache-2.0
"""Pictures that hold too little: blurred ones, and ones that are smaller than they are trained at."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from loraforge import Check, Finding, KeySet, RunConfig, speaker

from ..data.buckets import choose
from ..data.perceptual_hash import picture_infos
from ..data.vision import BLURRED
from ..records import ImageKeys, Picture
from .each_once import each_once

say = speaker(__name__)

# Where most pictures lie below the usual bound, softness is the style; what is this much softer than the others is blurred all the same.
_SOFTER = 0.25
# Enlarged by less, nobody sees it; by more than twice, anybody does.
_SEEN, _SOFT = 1.1, 2.0


class Blur(Check[Picture]):
    """One finding for each picture below the usual sharpness, or, in soft styles, far below that of the others."""

    name = "blur"
    task = "image"
    help = "Pictures that may be blurred: the model would learn the blur. Soft styles are measured by themselves."
    severity = "hint"

    @each_once
    def run(self, config: RunConfig, keys: KeySet, rows: Sequence[Picture]) -> Iterable[Finding]:
        values = {
            i: one.sharpness for i, one in enumerate(picture_infos([row.path for row in rows])) if not one.problem and not rows[i].prior
        }
        if not values:
            return
        middle = statistics.median(values.values())
        bound = BLURRED if middle >= BLURRED else middle * _SOFTER
        for index, value in values.items():
            if value < bound:
                message = say(
                    "Perhaps it is blurred: sharpness {value:.0f}, usual is {bound:.0f} or more, and {middle:.0f} here. "
                    "Look at it, and leave it out unless it is meant so.",
                    value=value,
                    bound=BLURRED,
                    middle=middle,
                )
                yield Finding((index,), message, Path(rows[index].path).name)


class Small(Check[Picture]):
    """One finding for each picture that is enlarged visibly before it is trained on."""

    name = "small"
    task = "image"
    help = "Pictures that are smaller than their bucket: they are enlarged, and the model learns how enlarged pictures look."
    severity = "warning"

    def run(self, config: RunConfig, keys: KeySet, rows: Sequence[Picture]) -> Iterable[Finding]:
        mine = keys[ImageKeys]
        for index, one in enumerate(picture_infos([row.path for row in rows])):
            if one.problem:
                continue
            bucket = choose((one.width, one.height), mine, resolution=rows[index].resolution)
            factor = max(bucket.width / one.width, bucket.height / one.height)
            if factor > _SEEN:
                message = say(
                    "It has {width}x{height} pixels and is enlarged {factor:.1f} times for its bucket of {bucket}. Use a larger one, or "
                    "lower resolution; bucket_no_upscale: true trains such pictures at their own size.",
                    width=one.width,
                    height=one.height,
                    factor=factor,
                    bucket=f"{bucket.width}x{bucket.height}",
                )
                yield Finding((index,), message, Path(rows[index].path).name, None if factor > _SOFT else "hint")
