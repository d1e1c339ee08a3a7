"""Which files of a folder are read, and which of them are only asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loraforge import DataError, RunConfig, read_text, speaker

from .readers import PROSE, SUFFIXES, TABLES, kind_of, stem
from .readers.splits import TEST, split_called

say = speaker(__name__)

_NO_DATA = ("readme", "license", "licence", "changelog", "contributing", "notice", "citation")
# LLaMA-Factory's names of columns, in its dataset_info.json, and ours.
_LLAMA_FACTORY = {"prompt": "instruction", "query": "input", "response": "output", "history": "history", "system": "system",
                  "messages": "messages", "tools": "tools", "chosen": "output", "kto_tag": "label"}  # fmt: skip


@dataclass(frozen=True)
class DataFile:
    """A file that is read.

    Attributes:
        name: what its rows call it.
        split: what that says, ``train`` or ``test``; empty if it says neither.
        columns: which column is what, as a file beside it says.
        only_if_data: leave it out with a note where it holds no questions and answers.
    """

    path: Path
    name: str
    split: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    only_if_data: bool = False


def find_files(config: RunConfig, note: Callable[[str], None]) -> list[DataFile]:
    """The data files: ``metadata_path``; otherwise ``metadata.*`` in the folder; otherwise every data file in it. The rest is named.

    Raises:
        DataError: if there is none.
    """
    start = Path(config.metadata_path or config.train_data_dir)
    if start.is_file():
        return [DataFile(start, start.name)]
    if not start.is_dir():
        raise DataError(say("{path}: there is no such file or folder.", path=start.absolute()))
    saved = _saved_dataset(start)
    if saved:
        return saved
    here = sorted(p for p in start.iterdir() if not p.name.startswith((".", "~$")))
    files = [p for p in here if p.is_file()]
    info = _dataset_info(start)
    tables = [p for p in files if kind_of(p.name) in TABLES and not (info and p.name == "dataset_info.json")]
    prose = [p for p in files if kind_of(p.name) in PROSE and stem(p.name).lower() not in _NO_DATA]
    packed = [p for p in files if kind_of(p.name) == ".zip"]
    named = [p for p in (*tables, *prose, *packed) if stem(p.name).lower() == "metadata" and kind_of(p.name) not in (".md", ".txt")]
    # Text may be data or a letter; a .zip beside tables is their copy more often than not.
    chosen = named or [*tables, *(p for p in prose if kind_of(p.name) == ".docx" or not tables)] or packed
    if not chosen:
        raise DataError(_nothing(start, here))
    left = [f"{p.name}/" if p.is_dir() else p.name for p in here if p not in chosen and p.suffix.lower() not in (".yaml", ".yml")]
    if left:
        shown = ", ".join([*left[:20], "..."] if len(left) > 20 else left)
        note(
            say(
                "read: {files}; not read: {left} (metadata_path: FILE reads that file alone)",
                files=", ".join(p.name for p in chosen),
                left=shown,
            )
        )
    return [
        DataFile(p, p.name, split_called(stem(p.name)), info.get(p.name, {}), only_if_data=p in prose and len(chosen) > 1)
        for p in sorted(chosen)
    ]


def given_hold_out(splits: Mapping[str, str], note: Callable[[str], None]) -> bool:
    """Whether some of the files or parts are a hold-out by their names, and others are not.

    Args:
        splits: the name of each file or part, and what that says: ``train``, ``test`` or nothing.
    """
    tests = [name for name, split in splits.items() if split == TEST]
    rest = [name for name, split in splits.items() if split != TEST]
    if not tests or not rest:
        return False
    note(
        say(
            "{tests}: held out, as the name says; {rest}: learned; eval_ratio holds nothing more out. Rename what is meant otherwise.",
            tests=", ".join(tests),
            rest=", ".join(rest),
        )
    )
    return True


def _saved_dataset(folder: Path) -> list[DataFile]:
    """The files of a folder that Hugging Face's ``save_to_disk`` wrote; none if it is something else."""
    parts = _json(folder / "dataset_dict.json").get("splits")
    if isinstance(parts, list) and all(isinstance(part, str) for part in parts):
        return [
            DataFile(file.path, f"{part}/{file.name}", split_called(part))
            for part in parts
            if Path(part).name == part
            for file in _saved_dataset(folder / part)
        ]
    listed = _json(folder / "state.json").get("_data_files")
    if not isinstance(listed, list):
        return []
    names = [str(item.get("filename")) for item in listed if isinstance(item, dict)]
    return [DataFile(folder / name, name) for name in names if Path(name).name == name and (folder / name).is_file()]


def _dataset_info(folder: Path) -> dict[str, dict[str, str]]:
    """The columns of each file, as LLaMA-Factory's ``dataset_info.json`` names them."""
    found: dict[str, dict[str, str]] = {}
    for entry in _json(folder / "dataset_info.json").values():
        if isinstance(entry, dict) and isinstance(entry.get("file_name"), str):
            named = entry.get("columns")
            columns = named if isinstance(named, dict) else {}
            found[entry["file_name"]] = {
                _LLAMA_FACTORY[str(theirs)]: column
                for theirs, column in columns.items()
                if theirs in _LLAMA_FACTORY and theirs not in ("chosen", "kto_tag") and isinstance(column, str)
            }
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _nothing(folder: Path, here: list[Path]) -> str:
    text = say(
        "{path}: there is no data file. Put a metadata.csv with the columns instruction and output into it (or {kinds}).",
        path=folder.absolute(),
        kinds=", ".join(SUFFIXES),
    )
    inner = [p.name for p in here if p.is_dir() and any(kind_of(inside.name) in TABLES for inside in p.iterdir() if inside.is_file())]
    if inner:
        text += " " + say("Its folder {name} holds some: set train_data_dir to it.", name=", ".join(f"{name}/" for name in inner[:5]))
    others = [p.name for p in here if p.is_file()]
    if others:
        text += " " + say("There are, but cannot be read as data: {names}.", names=", ".join(others[:20]))
    return text
