"""What files are by their names: metadata, captions, pictures that are not read, and what is nobody's data."""

from __future__ import annotations

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
