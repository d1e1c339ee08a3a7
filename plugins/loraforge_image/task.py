# SPDX-License-Identifier: Apache-2.0
"""The image task: how pictures with captions are trained, judged and sampled. Each heavy import is inside its function."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from loraforge import Evaluation, File, Fingerprint, Sampling, Start, Task, TrainedRun, speaker

from .records import EXPORTERS, ImageKeys, ImageSampling, Picture
from .starting.examples import examples
from .starting.lines import BASE, PROBE, first_lines, suggest
from .starting.sd_scripts import SD_SCRIPTS

say = speaker(__name__)


def _side_by_side(files: Mapping[str, File]) -> File:
    from .data.grids import side_by_side

    return side_by_side({_heading(name): file for name, file in files.items()})


def _heading(side: str) -> str:
    """What stands above the picture of one side of ``sample``."""
    strength = re.fullmatch(r"(.+) × ([^ ]+)", side)
    if strength is not None:
        return say("{name}, strength {strength}", name=strength[1], strength=strength[2])
    return say("base") if side == "base" else side


def _compare(
    run: TrainedRun, records: Sequence[Picture], limit: int | None, tick: Callable[[int, int], None]
) -> Mapping[str, Mapping[str, str]]:
    from .evaluation.style_distance import compare

    return compare(run, records, limit, tick)


def _fingerprint(record: Picture) -> Fingerprint:
    """Pictures that look alike stand on one side, mirrored ones too where they are learned mirrored. The file alone decides which: a
    caption that is mended moves nothing."""
    from .data.perceptual_hash import PictureLooks, bits, picture_info

    key = record.sha256 or record.path or record.caption
    seen = picture_info(record.path) if record.path else None
    if not seen or seen.problem:
        return Fingerprint(key, frozenset([key]))
    others = (bits(seen.mirrored),) if record.mirrored else ()
    return Fingerprint(key, bits(seen.phash), others, looks=PictureLooks(seen, record.mirrored))


IMAGE: Task[Picture] = Task(
    name="image",
    help="A style or a subject for Stable Diffusion, from a folder of pictures.",
    record=Picture,
    loader="pictures",
    template="caption",
    exporters=EXPORTERS,
    keys=ImageKeys,
    aliases=("text-to-image", "stable-diffusion"),
    unit="pictures",
    items="pictures",
    question=lambda record: record.first_caption,
    answer=lambda record: record.path,
    fingerprint=_fingerprint,
    cautions=(
        "It draws what its pictures have in common, people, signatures and lettering in them included.",
        "The style distance compares colours and textures, the structure kept compares outlines. Whether a picture is good, people judge.",
    ),
    usual={
        "learning_rate": (5e-5, 5e-4, "start at 1e-4; pictures that look burnt: half of it, a style that does not show: twice as much"),
        "lora_rank": (4, 64, "16 to 32 suit a style, 4 to 16 one subject; more rank on few pictures copies them"),
        "batch_size": (1, 8, "with a few dozen pictures larger batches leave too few steps"),
    },
    start=Start(base=BASE, lines=first_lines, probe=PROBE, suggest=suggest, examples=examples, trainers=(SD_SCRIPTS,)),
    evaluation=Evaluation(compare=_compare),
    sampling=Sampling(
        ask=lambda prompt: Picture(where="prompt", path="", caption=prompt), settings=ImageSampling, side_by_side=_side_by_side
    ),
)
