# SPDX-License-Identifier: Apache-2.0
"""What a work remembers of its data, and where they lie."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..configs import read_values
from ..folders import Work, replace_text

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".avif", ".tif", ".tiff", ".heic", ".heif", ".jxl", ".tga", ".psd")
"""Files that are shown as pictures, or as a name where no small picture can be made of them."""


_ONE = ("train_data_dir", "metadata_path", "waivers", "mask_dir", "word_list", "prior_data_dir", "encoding", "header_row", "split_by")
"""Keys that have one value, of which anything else cannot be meant."""


def remembered(work: Work) -> dict[str, Any]:
    """What the studio wrote down of a work: ``task``, ``example``, ``brought``."""
    try:
        told = json.loads((work.hidden / "work.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def remember(work: Work, **values: Any) -> None:
    """Adds to it."""
    replace_text(work.hidden / "work.json", json.dumps({**remembered(work), **values}, ensure_ascii=False))


def values_of(work: Work) -> dict[str, Any]:
    """The keys of its config; none while there is none."""
    try:
        found = read_values(work.config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return {}
    return {key: value for key, value in found.items() if value is not None and (key not in _ONE or isinstance(value, str))}


def source_of(work: Work) -> Path:
    """The folder, or the file, with the data as they were brought, from the work's folder."""
    told = remembered(work).get("brought")
    values = told if isinstance(told, dict) and told else values_of(work)
    return work.folder / (values.get("metadata_path") or values.get("train_data_dir") or "uploads")


def table_of(work: Work) -> Path | None:
    """The table in which the data are mended: one of ``data`` that the config names; None while there is none."""
    named = values_of(work).get("metadata_path", "")
    place = work.folder / named if named else None
    if place is None or work.data not in (place.parent, place.parent.parent) or not remembered(work).get("brought"):
        return None
    return place if place.is_file() else None


def pictures_of(work: Work) -> list[Path]:
    """The folders in which the pictures lie that a table names."""
    values = values_of(work)
    root = work.folder / (values.get("train_data_dir") or "uploads")
    table = table_of(work)
    return [root] if table is None else [table.parent, root]


def files_below(folder: Path, endings: tuple[str, ...] = ()) -> Iterator[os.DirEntry[str]]:
    """The files of a folder and those in it, by name; hidden ones, and links to folders, are left out."""
    folders = [str(folder)]
    while folders:
        found: list[os.DirEntry[str]] = []
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as inside:
            found = sorted((one for one in inside if not one.name.startswith(".")), key=lambda one: one.name)
        for one in found:
            if one.is_file() and (not endings or one.name.lower().endswith(endings)):
                yield one
        folders += [one.path for one in reversed(found) if one.is_dir(follow_symlinks=False)]
