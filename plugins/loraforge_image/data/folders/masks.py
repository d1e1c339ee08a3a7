# SPDX-License-Identifier: Apache-2.0
"""Masks among pictures: files that say where a picture is learned, and are never learned themselves.

OneTrainer calls them ``a-masklabel.png``, others ``a_mask.png``, ``a-mask.png``, ``a.mask.png`` or ``masks/a.png``; sd-scripts takes a
folder of its own for them. A name alone does not make a mask: there are pictures of masks.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loraforge import DataError

from ..pictures import read_picture, read_size
from .names import loosely

_BESIDE = re.compile(r"(?P<stem>.+?)(?P<mark>[-_ .]masklabel|[-_ .]mask)", re.IGNORECASE)
# Names that speak of masks and follow no program's rule: said, and trained.
_LOOSELY = re.compile(r"masks?[-_ .].+|.+[-_ .]mask(label)?[-_ .]?\d+", re.IGNORECASE)
_FOLDER = re.compile(r"masks?|masklabels?", re.IGNORECASE)
_FOLDER_OF = re.compile(r"(?P<of>.+?)[-_ .]masks?", re.IGNORECASE)
# A mask is grey, and most of it black or white.
_GREY, _ENDS, _MOST = 6.0, 24, 0.5
_ALIKE = 0.02  # by how much the proportions of a mask and its picture may differ


@dataclass
class Masks:
    """The masks of a folder.

    Attributes:
        of: the mask of each picture that has one.
        files: every file that is a mask.
        orphans: masks without a picture.
        second: masks of pictures that have another one, which is taken.
        ordinary: pictures that are called like masks but are none.
        shapes: masks whose proportions are not those of their picture, with both sizes.
    """

    of: dict[Path, Path] = field(default_factory=dict)
    files: set[Path] = field(default_factory=set)
    orphans: list[Path] = field(default_factory=list)
    second: list[Path] = field(default_factory=list)
    ordinary: list[Path] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)


def find_masks(root: Path, pictures: Sequence[Path], captioned: Collection[Path]) -> Masks:
    """Which pictures are masks, and of which.

    What is called like a mask of a picture that is there is one. If it has a caption of its own, as each picture in a folder of a captioner
    has, it must look like one too, unless its name leaves no doubt. What is called like a mask of no picture is an ordinary picture, unless
    other masks of its kind are there and it looks like one.

    Args:
        captioned: the pictures that have a caption of their own.
    """
    found = Masks()
    called: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in pictures:
        for name in {loosely(path.stem), loosely(path.name)}:
            called[path.parent, name].append(path)
    folders = {place for path in pictures for place in path.parents if place.is_relative_to(root)}
    lone: list[tuple[Path, str]] = []
    kinds: set[str] = set()
    for path in pictures:
        named = _named_like(path, root)
        if named is None:
            found.ordinary += [path] if _LOOSELY.fullmatch(path.stem) else []
            continue
        kind, surely = named
        owners = next((those for those in _owners(path, root, folders, called) if those), [])
        owners = [one for one in owners if one != path]
        if not owners:
            lone.append((path, kind))
        elif surely or path not in captioned or looks_like_mask(path):
            kinds.add(kind)
            found.files.add(path)
            free = [one for one in owners if one not in found.of]
            found.of.update(dict.fromkeys(free, path))
            found.second += [] if free else [path]
        else:
            found.ordinary.append(path)
    for path, kind in lone:
        if "masklabel" in kind or (kind in kinds and path not in captioned and looks_like_mask(path)):
            found.files.add(path)
            found.orphans.append(path)
        else:
            found.ordinary.append(path)
    found.of = {path: mask for path, mask in found.of.items() if path not in found.files}
    found.ordinary.sort()
    found.orphans.sort()
    return found


def _named_like(path: Path, root: Path) -> tuple[str, bool] | None:
    """What makes a mask of a picture by its name, and whether that leaves no doubt; None for most."""
    beside = _BESIDE.fullmatch(path.stem)
    if beside:
        return beside["mark"].lower(), "masklabel" in beside["mark"].lower()
    place = _mask_folder(path, root)
    return (str(place), False) if place is not None else None


def _mask_folder(path: Path, root: Path) -> Path | None:
    """The folder of masks in which a picture lies."""
    for place in path.parents:
        if place == root or not place.is_relative_to(root):
            return None
        if _FOLDER.fullmatch(place.name) or ((of := _FOLDER_OF.fullmatch(place.name)) and place.with_name(of["of"]).is_dir()):
            return place
    return None


def _owners(path: Path, root: Path, folders: Collection[Path], called: dict[tuple[Path, str], list[Path]]) -> Iterator[list[Path]]:
    """The pictures whose mask a file may be, the likeliest first."""
    beside = _BESIDE.fullmatch(path.stem)
    stems = [*([loosely(beside["stem"])] if beside else []), loosely(path.stem)]
    if beside:
        yield called.get((path.parent, stems[0]), [])
    place = _mask_folder(path, root)
    if place is None:
        return
    rest = path.relative_to(place).parent
    of = _FOLDER_OF.fullmatch(place.name)
    homes = [*([place.with_name(of["of"])] if of else []), place.parent]
    for home in homes:
        for stem in stems:
            yield called.get((home / rest, stem), [])
    # images/a.png and masks/a.png: if a single folder beside has such a picture
    near = [
        folder for folder in sorted(folders) if folder.parent == place.parent and folder != place and not _FOLDER.fullmatch(folder.name)
    ]
    for stem in stems:
        those = [called[key] for folder in near if (key := (folder / rest, stem)) in called]
        yield those[0] if len(those) == 1 else []


def masks_of_folder(folder: Path, masks: Sequence[Path], root: Path, pictures: Sequence[Path]) -> Masks:
    """The masks in a folder of their own, each called like its picture, or like it with a mark of masks behind.

    Args:
        masks: the pictures in that folder.
    """
    found = Masks(files=set(masks))
    by: dict[str, list[Path]] = defaultdict(list)
    for path in masks:
        beside = _BESIDE.fullmatch(path.stem)
        inside = path.relative_to(folder).parent.as_posix()
        for stem in {loosely(path.stem), *([loosely(beside["stem"])] if beside else [])}:
            by[loosely(f"{inside}/{stem}")].append(path)
    for path in pictures:
        inside = path.relative_to(root).parent.as_posix()
        those = by.get(loosely(f"{inside}/{path.stem}")) or by.get(loosely(f"./{path.stem}"), [])
        if those:
            found.of[path] = those[0]
    found.orphans = [path for path in masks if path not in set(found.of.values())]
    return found


def looks_like_mask(path: Path) -> bool:
    """Whether a picture is grey and most of it black or white. One that cannot be read looks like nothing else either."""
    import numpy as np

    try:
        seen = np.asarray(read_picture(path).resize((64, 64)), dtype=np.int16)
    except DataError:
        return True
    grey = float((seen.max(axis=2) - seen.min(axis=2)).mean()) < _GREY
    level = seen.mean(axis=2)
    return grey and float(((level <= _ENDS) | (level >= 255 - _ENDS)).mean()) >= _MOST


def other_shape(picture: Path, mask: Path) -> str:
    """The sizes of a picture and its mask where their proportions differ, ``512x512, the picture 512x768``; otherwise nothing.

    Raises:
        DataError: if the mask is no picture that can be read.
    """
    wide, high = read_size(mask)
    try:
        width, height = read_size(picture)
    except DataError:  # told elsewhere
        return ""
    return f"{wide}x{high} / {width}x{height}" if abs(wide * height / (high * width) - 1) > _ALIKE else ""
