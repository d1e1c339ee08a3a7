# SPDX-License-Identifier: Apache-2.0
"""Pictures that are there twice: they count twice in training, and near-copies teach a style their own composition."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from loraforge import Check, Finding, KeySet, RunConfig, speaker

from ..data.near_copies import Look, near_copies
from ..data.perceptual_hash import PictureInfo, picture_infos, same_pixels
from ..records import ImageKeys, Picture
from .each_once import each_once

say = speaker(__name__)

# A copy that was only saved again or resized differs by 0 to 2 bits; what differs by more was cropped, edited or taken a moment later.
_SAVED_AGAIN = 2
_EDITED = 6  # by more than this, most often: cropped


class Duplicates(Check[Picture]):
    """One finding for each picture that repeats an earlier one: that which resembles it most.

    Two captions of one picture contradict each other, or one of them is of another picture: the finding says where they differ.
    """

    name = "duplicates"
    task = "image"
    help = "Pictures that repeat an earlier one, in whatever format or size, or nearly do; and whether their captions differ."
    severity = "warning"

    @each_once
    def run(self, config: RunConfig, keys: KeySet, rows: Sequence[Picture]) -> Iterable[Finding]:
        seen = picture_infos([row.path for row in rows])
        first: dict[str, int] = {}
        told: set[int] = set()
        for index, row in enumerate(rows):
            earlier = first.setdefault(row.sha256 or f"row {index}", index)
            if earlier != index:
                told.add(index)
                yield _same(rows, index, earlier)
        for index, earlier in _nearest(seen, told).items():
            row, other = rows[index], rows[earlier]
            distance = seen[index].distance(seen[earlier])
            one, two = seen[index], seen[earlier]
            if distance <= _SAVED_AGAIN and (one.width, one.height) == (two.width, two.height) and same_pixels(row.path, other.path):
                yield _same(rows, index, earlier)
                continue
            message = say("It is almost the picture of {where}, cropped. Keep the better one.", where=other.where)
            if distance <= _EDITED:
                message = say(
                    "It is almost the picture of {where}: {distance} of the 64 bits of their perceptual hashes differ. Keep the better "
                    "one.",
                    where=other.where,
                    distance=distance,
                )
            yield Finding(
                (index, earlier), message + _captions(row, other), Path(row.path).name, None if distance <= _SAVED_AGAIN else "hint"
            )
            told.add(index)
        if keys[ImageKeys].flip:
            yield from _mirrored(rows, seen, told)


def _mirrored(rows: Sequence[Picture], seen: Sequence[PictureInfo], told: set[int]) -> Iterator[Finding]:
    """Pictures whose mirror image is an earlier one, which is learned mirrored anyway."""
    there = [None if one.problem else one.mirror() for one in seen]
    for index, earlier in _nearest(seen, told, there).items():
        message = say("It is almost the mirror image of {where}, and flip: true mirrors that one too. Keep one.", where=rows[earlier].where)
        yield Finding((index, earlier), message + _captions(rows[index], rows[earlier]), Path(rows[index].path).name, "hint")


def _same(rows: Sequence[Picture], index: int, earlier: int) -> Finding:
    row, other = rows[index], rows[earlier]
    message = say("It is the same picture as that of {where}. Delete one; repeats says how often a picture counts.", where=other.where)
    return Finding((index, earlier), message + _captions(row, other), Path(row.path).name)


def _captions(row: Picture, other: Picture) -> str:
    if " ".join(row.caption.lower().split()) == " ".join(other.caption.lower().split()):
        return ""
    return say(" Their captions differ: keep the one that is right.")


def _nearest(seen: Sequence[PictureInfo], without: set[int], there: Sequence[Look | None] | None = None) -> dict[int, int]:
    """For each picture that is nearly a copy of an earlier one, the earlier one that it resembles most.

    Args:
        there: what the earlier ones look like, where they are compared as something else than themselves.
    """
    found = {}
    for index, nearest in enumerate(near_copies([None if one.problem else one for one in seen], there)):
        earlier = next((other for other in nearest if other not in without), None)
        if earlier is not None and index not in without:
            found[index] = earlier
    return found
