# SPDX-License-Identifier: Apache-2.0
"""Every file of a folder, sorted by what it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..pictures import is_written_by, sources
from .names import METADATA, OWN, SHEET, is_hidden, is_nobodys, is_picture, is_unread_picture


@dataclass
class Inventory:
    """The files of a folder, each list in the order of their names.

    Attributes:
        pictures: of kinds that are read, masks among them.
        unread: pictures of other kinds.
        doubled: Photoshop files that another picture was exported from, with that picture.
        metadata: lists of pictures by their names, wherever they lie.
        others: all else: captions, and what nobody reads.
        closed: folders that are not looked into, with the reason.
    """

    root: Path
    pictures: list[Path] = field(default_factory=list)
    unread: list[Path] = field(default_factory=list)
    doubled: dict[Path, Path] = field(default_factory=dict)
    metadata: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    closed: dict[Path, str] = field(default_factory=dict)

    def name(self, path: Path) -> str:
        """What the user calls a file: its path within the folder."""
        return path.relative_to(self.root).as_posix()


def inventory(root: Path, closed: Mapping[Path, str], link: str) -> Inventory:
    """Looks through a folder. Hidden files, those of systems and what ``prepare`` wrote are nobody's data and appear nowhere.

    Args:
        closed: folders that hold something else, with what they hold; they are not looked into.
        link: why a link to a folder is not followed.
    """
    found = Inventory(root)
    apart = {path.resolve(): reason for path, reason in closed.items()}
    files: list[Path] = []
    for place, folders, names in os.walk(root):
        here = Path(place)
        for name in list(folders):
            path = here / name
            reason = apart.get(path.resolve()) or (link if path.is_symlink() else "")
            if is_hidden(Path(name)) or reason:
                folders.remove(name)
            if reason and not is_hidden(Path(name)):
                found.closed[path] = reason
        files += [here / name for name in names if not is_hidden(Path(name)) and not is_nobodys(name)]
    for path in sorted(files):
        if not path.is_file():
            continue
        if path.name in OWN and (path.suffix == ".csv" or is_written_by(path, SHEET)):
            continue
        kind = found.pictures if is_picture(path) else found.unread if is_unread_picture(path) else found.others
        (found.metadata if path.name.lower() in METADATA else kind).append(path)
    found.doubled = sources(found.pictures)
    found.pictures = [path for path in found.pictures if path not in found.doubled]
    return found
