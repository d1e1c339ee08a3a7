# SPDX-License-Identifier: Apache-2.0
"""Aspect-ratio buckets: the shapes that pictures are trained in, and which picture goes where. Without torch."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from loraforge import DataError, Examination, RunConfig, first_few, speaker

from ..records import ImageKeys
from .masks import has_alpha, read_mask
from .perceptual_hash import picture_infos

say = speaker(__name__)

_SMALLEST = 32  # pixels; a shorter side than this shows nothing
_CUT = 0.2  # from this share of a picture on, people want to know that it is not shown


@dataclass(frozen=True, order=True)
class Bucket:
    """A shape in pixels."""

    width: int
    height: int


def buckets(resolution: int, step: int, max_ratio: float) -> list[Bucket]:
    """All shapes whose sides are multiples of ``step``, whose area is at most, and about, resolution x resolution, and whose sides differ
    by ``max_ratio`` at most. Sorted."""
    square = resolution // step * step
    found = {Bucket(square, square)}
    for width in range(step, round(resolution * max_ratio) + step, step):
        height = resolution * resolution // width // step * step
        if height >= step and max(width, height) / min(width, height) <= max_ratio + 1e-9:
            found |= {Bucket(width, height), Bucket(height, width)}
    return sorted(found)


def assign(size: tuple[int, int], shapes: Sequence[Bucket]) -> Bucket:
    """The bucket whose shape is nearest to (width, height), the larger one of two equally near."""

    def apart(bucket: Bucket) -> tuple[float, int]:
        return (round(abs(math.log(size[0] / size[1]) - math.log(bucket.width / bucket.height)), 9), -bucket.width * bucket.height)

    return min(shapes, key=apart)


def own_bucket(size: tuple[int, int], keys: ImageKeys) -> Bucket:
    """The bucket of a picture that is never enlarged: its own size, resolution x resolution at most, rounded down to the step.

    As sd-scripts chooses it (BucketManager.select_bucket with no_upscale), except that its longer side is cut to ``bucket_max_ratio``.

    Args:
        size: (width, height) in pixels.

    Returns:
        A bucket with a side of 0 where that side of the picture is smaller than the step.
    """
    step, ratio, (width, height) = keys.bucket_step, size[0] / size[1], size

    def whole(side: float) -> int:
        return int(side + 0.5) // step * step

    if width * height > keys.resolution**2:
        wide = math.sqrt(keys.resolution**2 * ratio)
        by_width, by_height = whole(wide), whole(wide / ratio)
        # Of the width and the height, one becomes a multiple of the step: that which keeps the shape better.
        first = abs(by_width / (whole(by_width / ratio) or math.inf) - ratio)
        second = abs(whole(by_height * ratio) / by_height - ratio) if by_height else math.inf
        width, height = (by_width, int(by_width / ratio + 0.5)) if first < second else (int(by_height * ratio + 0.5), by_height)
    width, height = width // step * step, height // step * step
    longest = int(min(width, height) * keys.bucket_max_ratio + 1e-9) // step * step
    return Bucket(min(width, longest), min(height, longest))


def choose(size: tuple[int, int], keys: ImageKeys, shapes: Sequence[Bucket] | None = None, resolution: int | None = None) -> Bucket:
    """The bucket of a picture: the one of ``shapes`` that is nearest to it, or with ``bucket_no_upscale`` one of its own size.

    Args:
        shapes: by default those of its resolution.
        resolution: the picture's own, where it has one.
    """
    side = resolution or keys.resolution
    if keys.bucket_no_upscale:
        return own_bucket(size, keys.model_copy(update={"resolution": side}) if side != keys.resolution else keys)
    return assign(size, _shapes(side, keys.bucket_step, keys.bucket_max_ratio) if shapes is None else shapes)


@functools.lru_cache(maxsize=64)
def _shapes(resolution: int, step: int, max_ratio: float) -> Sequence[Bucket]:
    return buckets(resolution, step, max_ratio)


def fit(
    image: Image.Image,
    bucket: Bucket,
    where: tuple[float, float] = (0.5, 0.5),
    resample: Image.Resampling = Image.Resampling.LANCZOS,
) -> Image.Image:
    """The picture at the bucket's size, never distorted: resized to cover it, then cropped.

    Args:
        where: the share of what is cut off that goes at the left and at the top; 0.5 keeps the centre.
    """
    factor = max(bucket.width / image.width, bucket.height / image.height)
    width, height = max(bucket.width, round(image.width * factor)), max(bucket.height, round(image.height * factor))
    if (width, height) != image.size:
        image = image.resize((width, height), resample)
    left, top = round((width - bucket.width) * where[0]), round((height - bucket.height) * where[1])
    return image.crop((left, top, left + bucket.width, top + bucket.height))


def examine_pictures(config: RunConfig, keys: ImageKeys, rows: Sequence[tuple[Any, Any]]) -> Examination:
    """Opens every picture and says what cannot be used, how many there are, and which buckets they go to.

    Args:
        rows: (Picture, its rendered caption).
    """
    infos = picture_infos([record.path for record, _ in rows])
    seen = [(one.problem, (one.width, one.height)) for one in infos]
    problems: dict[int, str] = {}
    cut: dict[str, float] = {}
    counts: Counter[Bucket] = Counter()
    own: Counter[int] = Counter()
    enlarged = shown = prior = masked = largest = 0
    for index, ((record, _), (problem, size)) in enumerate(zip(rows, seen, strict=True)):
        if not problem and min(size) < _SMALLEST:
            problem = say("the picture is only {width}x{height} pixels", width=size[0], height=size[1])
        if problem:
            problems[index] = problem
            continue
        side = record.resolution or keys.resolution
        if side < keys.bucket_step:
            problems[index] = say("its resolution, {side}, is smaller than bucket_step ({step})", side=side, step=keys.bucket_step)
            continue
        bucket = choose(size, keys, resolution=side)
        if not (bucket.width and bucket.height):
            problems[index] = say(
                "the picture is {width}x{height}, and with bucket_no_upscale it would have to be as large as bucket_step, {step}, on each "
                "side; lower bucket_step, or leave bucket_no_upscale out",
                width=size[0],
                height=size[1],
                step=keys.bucket_step,
            )
            continue
        try:
            masked += _masked(record, keys, size)
        except DataError as error:
            problems[index] = "; ".join(error.problems)
            continue
        if side != keys.resolution:
            own[side] += 1
            largest = max(largest, bucket.width * bucket.height)
        factor = max(bucket.width / size[0], bucket.height / size[1])
        enlarged += factor > 2
        cut[record.where] = max(cut.get(record.where, 0.0), 1 - bucket.width * bucket.height / (factor**2 * size[0] * size[1]))
        shown += record.repeats
        prior += record.repeats if record.prior else 0
        counts[bucket] += 1
    listed = ", ".join(f"{bucket.width}x{bucket.height} ({count})" for bucket, count in sorted(counts.items()))
    lines = [_plan(config, sum(counts.values()), shown, prior), say("buckets: {listed}", listed=listed)]
    if enlarged:
        lines.append(say("{n} pictures are enlarged to more than twice their size; they will look soft", n=enlarged))
    lines += [*_cut_line(cut, keys), *_profile_line([record.where for (record, _), one in zip(rows, infos, strict=True) if one.unprofiled])]
    if own:
        listed = ", ".join(f"{side} ({count})" for side, count in sorted(own.items()))
        lines.append(say("pictures with a resolution of their own: {listed}; the others have {side}", listed=listed, side=keys.resolution))
    if masked or keys.mask == "alpha" or "unmasked_weight" in keys.model_fields_set:
        lines.append(_mask_line(keys, masked, sum(counts.values())))
    facts: dict[str, Any] = {
        "pictures": sum(counts.values()),
        "shown_per_pass": shown,
        "buckets": [[b.width, b.height, n] for b, n in sorted(counts.items())],
    }
    if own:
        facts["own_area"] = largest
    return Examination(problems, facts, lines=lines if counts else ())


def _cut_line(cut: Mapping[str, float], keys: ImageKeys) -> list[str]:
    """The pictures of which a fifth or more lies outside of their bucket, the worst first.

    Args:
        cut: by what the row is called, the share of its picture's area that no bucket shows.
    """
    much = sorted((name for name, share in cut.items() if share >= _CUT), key=lambda name: (-cut[name], name))
    if not much:
        return []
    return [
        say(
            "{n} pictures lose a fifth or more of themselves, because no bucket has their shape ({names}). A larger bucket_max_ratio (it "
            "is {ratio:g}, at most 4) or a smaller bucket_step ({step}) keeps more; longer ones you had better cut apart yourself",
            n=len(much),
            names=first_few([f"{name} ({cut[name]:.0%})" for name in much]),
            ratio=keys.bucket_max_ratio,
            step=keys.bucket_step,
        )
    ]


def _profile_line(names: Sequence[str]) -> list[str]:
    """The pictures whose colour profile cannot be used."""
    once = list(dict.fromkeys(names))
    if not once:
        return []
    return [
        say(
            "{n} pictures have a colour profile that cannot be used, and are taken for sRGB: {names}; if their colours look wrong, save "
            "them as sRGB",
            n=len(once),
            names=first_few(once),
        )
    ]


def _masked(record: Any, keys: ImageKeys, size: tuple[int, int]) -> bool:
    """Whether a picture of ``size`` has a mask.

    Raises:
        DataError: if it has one that does not belong to it.
    """
    if keys.mask == "alpha":
        return has_alpha(Path(record.path))
    if not record.mask or keys.mask == "off":
        return False
    read_mask(Path(record.mask), size)
    return True


def _mask_line(keys: ImageKeys, masked: int, pictures: int) -> str:
    if not masked and keys.mask != "alpha":
        return say("unmasked_weight changes nothing: none of the {n} pictures has a mask", n=pictures)
    if not masked:
        return say("mask: alpha, but none of the {n} pictures has transparency: all of each is learned", n=pictures)
    return say(
        "{n} of {all} pictures have a mask; what lies outside of it counts {weight:g} (unmasked_weight)",
        n=masked,
        all=pictures,
        weight=keys.unmasked_weight,
    )


def _plan(config: RunConfig, pictures: int, shown: int, prior: int) -> str:
    """How the number of steps comes about. Which pictures are held out is not known yet, only about how many.

    Args:
        shown: pictures with repeats.
        prior: those of them that are never held out.
    """
    per_step = config.batch_size * config.gradient_accumulation

    def steps(rows: float) -> int:
        count = max(1, round(config.epochs * math.ceil(rows / per_step)))
        return min(count, config.max_steps) if config.max_steps else count

    line = say(
        "{pictures} pictures, {shown} with repeats; x {epochs:g} epochs / batch {batch} = {steps} steps",
        pictures=pictures,
        shown=shown,
        epochs=config.epochs,
        batch=per_step,
        steps=steps(shown),
    )
    learned = prior + (shown - prior) * (1 - config.eval_ratio)
    if learned == shown:
        return line
    return say(
        "{plan} if all were learned; about {share:.0%} are held out (eval_ratio), which leaves about {steps}",
        plan=line,
        share=config.eval_ratio,
        steps=steps(learned),
    )
