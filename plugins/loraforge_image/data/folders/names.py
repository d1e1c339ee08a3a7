# SPDX-License-Identifier: Apache-2.0
"""What files are by their names: metadata, captions, pictures that are not read, and what is nobody's data."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from ..pictures import SUFFIXES, UNREAD

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.tsv", "metadata.json")
CAPTIONS = (".txt", ".caption")
# What ``prepare`` writes, and what systems leave behind: nothing that somebody brought.
OWN = ("contact-sheet.png", "findings.csv")
SHEET = "LoRAForge contact sheet"  # by which a contact sheet is known, whatever it is called
_SYSTEM = ("thumbs.db", "desktop.ini", "icon\r", "ehthumbs.db")
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".xlsx", ".xls", ".ods", ".parquet", ".arrow")
_CACHES = (".npz", ".npy", ".safetensors", ".pt", ".pth", ".ckpt", ".bin")


def is_file(path: Path) -> bool:
    """Whether there is such a file; False for what no file system would take as a name."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_hidden(relative: Path) -> bool:
    """Whether a file is hidden, or lies in a folder that is."""
    return any(part.startswith((".", "__MACOSX")) for part in relative.parts)


def is_nobodys(name: str) -> bool:
    """Whether a system made the file, for itself."""
    return name.lower() in _SYSTEM


def is_picture(path: Path) -> bool:
    """Whether it is a picture of a kind that is read, by its ending."""
    return path.suffix.lower() in SUFFIXES


def is_unread_picture(path: Path) -> bool:
    """Whether it is a picture of a kind that is not read, by its ending."""
    return path.suffix.lower() in UNREAD


def is_table(path: Path) -> bool:
    """Whether it could be a list of pictures under another name, by its ending."""
    return path.suffix.lower() in _TABLES


def is_cache(path: Path) -> bool:
    """Whether it holds numbers, such as the pictures that other trainers encoded, by its ending."""
    return path.suffix.lower() in _CACHES


def loosely(name: str) -> str:
    """A name as Windows and macOS compare it: without case, and with accents composed or not."""
    return unicodedata.normalize("NFC", name).casefold()


class FileNames:
    """Finds the files that metadata name; each folder is listed once."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, list[Path]]] = {}

    def find(self, name: str, roots: list[Path]) -> Path | None:
        """The file of that name in the first of ``roots`` that has it; otherwise the one that Windows or macOS takes for it, or the picture
        of which only the ending is missing, as sd-scripts writes names. None if there is none, or more than one."""
        paths = [Path(os.path.normpath((root / name.replace("\\", "/")).absolute())) for root in roots] if 0 < len(name) < 1000 else []
        if found := next((path for path in paths if is_file(path)), None):
            return found
        for path in paths:
            alike = self._alike(path.parent).get(loosely(path.name), [])
            same = [file for file in alike if loosely(file.name) == loosely(path.name)] or alike
            if len(same) == 1:
                return same[0]
        return None

    def _alike(self, folder: Path) -> dict[str, list[Path]]:
        """The files of a folder by their loose names, and its pictures by those without the ending too."""
        if folder not in self._folders:
            by = self._folders[folder] = {}
            try:
                files = sorted(file for file in folder.iterdir() if file.is_file())
            except (OSError, ValueError):
                files = []
            for file in files:
                for name in {loosely(file.name), *([loosely(file.stem)] if is_picture(file) else [])}:
                    by.setdefault(name, []).append(file)
        return self._folders[folder]
