# SPDX-License-Identifier: Apache-2.0
"""The data loader ``pictures``: metadata files, captions beside pictures, kohya's folders with repeats. ``folders`` reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from loraforge import DataError, KeySet, Loader, RunConfig, speaker

from ..records import ImageKeys, Picture
from .folders.concepts import Concept
from .folders.keys import PictureKeys as PictureKeys
from .folders.kohya import balanced
from .folders.reader import FolderReader, Wishes

say = speaker(__name__)


class PictureLoader(Loader[Picture]):
    """Pictures with captions, in the layouts of lora-scripts, Hugging Face and kohya."""

    name = "pictures"
    task = "image"
    help = "A folder of pictures: metadata.csv or .jsonl, captions in .txt files beside them, or kohya's 10_name folders."
    keys = PictureKeys

    def load(self, config: RunConfig, keys: KeySet, note: Callable[[str], None]) -> Iterable[Picture]:
        mine, bad = keys[ImageKeys], list[str]()
        closed = {Path(config.output_dir): say("it is this run's output_dir")}
        if mine.prior_data_dir and Path(mine.prior_data_dir).resolve() != Path(config.train_data_dir).resolve():
            closed[Path(mine.prior_data_dir)] = say("it is prior_data_dir, which is read by itself")
        wishes = Wishes(keys[PictureKeys], mine.trigger_word, mine.mask, None, config.split_by.strip().lower(), closed)
        reader = FolderReader(wishes, bad, note)
        records = [replace(one, mirrored=mine.flip) for one in reader.read(config.train_data_dir, config.metadata_path)]
        concepts = dict(reader.concepts)
        if mine.prior_data_dir:
            prior = Path(mine.prior_data_dir)
            # Both may have a "metadata.csv, row 3"; and the folder's name alone may be that of a folder among the pictures.
            alike = (Path(config.train_data_dir) / prior.name).exists() or not prior.name
            priors = FolderReader(Wishes(keys[PictureKeys], "", mine.mask, prior if alike else Path(prior.name)), bad, note)
            records += priors.read(str(prior), None)
            concepts |= priors.concepts
        if reader.lacking:
            raise DataError([*bad, *reader.lacking])
        if bad and config.on_bad_row == "skip":
            for line in bad:
                note(say("skipped: {line}", line=line))
        elif bad:
            raise DataError([*bad, say("Bad rows: {n}. on_bad_row: skip leaves them out and goes on.", n=len(bad))])
        sized = _at_every_size(records, concepts, mine)
        if len(sized) > len(records):
            note(say("{n} pictures at several resolutions make {rows} examples", n=len(records), rows=len(sized)))
        return _balanced(sized, note)


def _at_every_size(records: Sequence[Picture], concepts: dict[str, Concept], keys: ImageKeys) -> list[Picture]:
    """The pictures, each once for every resolution that its concept or the config says."""
    found: list[Picture] = []
    for one in records:
        concept = concepts.get(one.where)
        sides = concept.resolutions if concept is not None else ()
        sides = sides or (keys.resolution, *keys.more_resolutions)
        for place, side in enumerate(dict.fromkeys(sides)):
            where = one.where if place == 0 else say("{where} at {side}", where=one.where, side=side)
            found.append(replace(one, where=where, resolution=None if side == keys.resolution else side))
    return found


def _balanced(records: Sequence[Picture], note: Callable[[str], None]) -> list[Picture]:
    """The pictures with as many prior ones a pass as own ones, which is told."""
    own = [one for one in records if not one.prior]
    before = [one for one in records if one.prior]
    prior = balanced(own, before)
    shown, wanted = sum(one.repeats for one in before), sum(one.repeats for one in prior)
    if prior != before or len(prior) != len(before) or shown != wanted:
        note(
            say(
                "prior pictures: {there} a pass would stand against {own} own ones, so {taken} are taken, as sd-scripts does it "
                "({files} of {all} files)",
                there=shown,
                own=sum(one.repeats for one in own),
                taken=wanted,
                files=len(prior),
                all=len(before),
            )
        )
    return [*own, *prior]
