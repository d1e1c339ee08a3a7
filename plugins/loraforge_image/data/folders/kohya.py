# SPDX-License-Identifier: Apache-2.0
"""The conventions of kohya's folders: ``10_cat`` is shown ten times a pass and called cat, ``0_unused`` is left out; and as many prior
pictures a pass as own ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loraforge import speaker

from ...records import Picture
from .account import counted
from .keys import MOST_REPEATS

say = speaker(__name__)

KOHYA = re.compile(r"^(\d+)_(.*)$")
# What kohya's windows and guides call the folder of prior pictures.
_PRIORS = re.compile(r"reg|regs|regulari[sz]ation|(reg|regulari[sz]ation|class|prior)[-_ ]?(images|pictures|data|imgs?)", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """What the folders of a picture say of it.

    Attributes:
        repeats: how often a pass shows it, 0: never; None where no folder says anything.
        caption: what pictures without a caption get; may be empty.
        folder: the name of the folder that says it, otherwise that in which the picture lies.
        leaf: whether that is the folder that was given as a whole.
    """

    repeats: int | None = None
    caption: str = ""
    folder: str = ""
    leaf: bool = False


def place_of(path: Path, root: Path) -> Place:
    """What the nearest folder around a picture that is called like ``10_cat`` says, up to the folder that was given itself.

    A folder with 0 closes all that lies in it. That of the whole data is not left out, as somebody asked for it.
    """
    parts = path.parent.relative_to(root).parts
    found = [match for name in parts if (match := KOHYA.match(name))]
    closed = next((match for match in found if int(match[1][:9]) == 0), None)
    if closed:
        return Place(0, "", closed[0])
    if found:
        return Place(int(found[-1][1][:9]), _caption(found[-1][2]), found[-1][0])
    last = parts[-1] if parts else ""
    whole = KOHYA.match(root.resolve().name)
    if whole and 1 <= int(whole[1][:9]) <= MOST_REPEATS:
        return Place(int(whole[1]), _caption(whole[2]), last or whole[0], leaf=True)
    return Place(None, "", last)


def _caption(name: str) -> str:
    return name.replace("_", " ").strip()


def about_folders(places: Mapping[Path, Place], root: Path, table: str, loose: Sequence[str]) -> list[str]:
    """How the numbers of folders are taken.

    Args:
        places: what the folders say of each picture.
        table: the name of the metadata file that is about all of them; may be empty.
        loose: the pictures of which no folder says anything, by name.
    """
    numbered = sorted({place.folder for place in places.values() if place.repeats is not None and not place.leaf})
    leaf = next((place for place in places.values() if place.leaf), None)
    if table and (numbered or leaf):
        names = counted(numbered or [root.name])
        return [say("{file} says the repeats; the numbers of folders say nothing ({names})", file=table, names=names)]
    if leaf is not None:
        return [
            say(
                "{folder} is read as {repeats} repeats of '{caption}'; sd-scripts is given the folder above it, and so can you",
                folder=root.name,
                repeats=leaf.repeats,
                caption=leaf.caption,
            )
        ]
    if numbered and loose:
        return [
            say(
                "in no folder like 10_cat, which sd-scripts would not read: {names}. Here they are read, with the key repeats.",
                names=counted(loose),
            )
        ]
    return []


def about_priors(pictures: Sequence[Path], root: Path) -> list[str]:
    """Folders that are called like those of prior pictures, and are learned like the others."""
    tops = {path.relative_to(root).parts[0] for path in pictures if len(path.relative_to(root).parts) > 1}
    found = sorted(name for name in tops if _PRIORS.fullmatch(name)) if len(tops) > 1 else []
    return [
        say(
            "the folder {name} is called like one of prior pictures, and its pictures are learned like the others. If it holds such, write "
            "prior_data_dir: {path}",
            name=name,
            path=root / name,
        )
        for name in found
    ]


def balanced(own: Sequence[Picture], prior: Sequence[Picture]) -> list[Picture]:
    """Prior pictures such that a pass shows as many of them as of own ones, as sd-scripts does it: in their order until there are enough,
    and again from the first as long as there are too few. What is only asked, or marked as not approved, is not shown."""
    wanted = sum(one.repeats for one in own if one.side != "held-out" and one.review.approved is not False)
    shown = [one for one in prior if one.side != "held-out" and one.review.approved is not False]
    rest = [one for one in prior if one.side == "held-out" or one.review.approved is False]
    if not wanted or not shown:
        return list(prior)
    counts = [0] * len(shown)
    left = wanted
    for place, one in enumerate(shown):
        counts[place] = min(one.repeats, left)
        left -= counts[place]
    again, over = divmod(left, len(shown))
    counts = [count + again + (place < over) for place, count in enumerate(counts)]
    return [replace(one, repeats=count) for one, count in zip(shown, counts, strict=True) if count] + rest
