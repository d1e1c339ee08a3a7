# SPDX-License-Identifier: Apache-2.0
"""Which files of a folder are read, and which of them are only asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from loraforge import DataError, RunConfig, speaker

from .dataset_info import NAME, Described, json_object, read_dataset_info
from .readers import PROSE, SUFFIXES, TABLES, kind_of, stem
from .readers.splits import TEST, split_called

say = speaker(__name__)

_NO_DATA = ("readme", "license", "licence", "changelog", "contributing", "notice", "citation")


@dataclass(frozen=True)
class DataFile:
    """A file that is read.

    Attributes:
        name: what its rows call it.
        split: what that says, ``train`` or ``test``; empty if it says neither.
        described: which column is what, as a file beside it says.
        only_if_data: leave it out with a note where it holds no questions and answers.
    """

    path: Path
    name: str
    split: str = ""
    described: Described = field(default_factory=Described)
    only_if_data: bool = False


def find_files(config: RunConfig, note: Callable[[str], None]) -> list[DataFile]:
    """The data files: ``metadata_path``; otherwise ``metadata.*`` in the folder; otherwise every data file in it. The rest is named.

    Raises:
        DataError: if there is none.
    """
    start = Path(config.metadata_path or config.train_data_dir)
    if start.is_file():
        described = (read_dataset_info(start.parent, {start.name}, note, start.name) or {}).get(start.name, Described())
        return [DataFile(start, start.name, described=described)]
    if not start.is_dir():
        raise DataError(say("{path}: there is no such file or folder.", path=start.absolute()))
    saved = _saved_dataset(start)
    if saved:
        return saved
    here = sorted(p for p in start.iterdir() if not p.name.startswith((".", "~$")))
    files = [p for p in here if p.is_file()]
    info = read_dataset_info(start, {p.name for p in files}, note)
    tables = [p for p in files if kind_of(p.name) in TABLES and not (info is not None and p.name == NAME)]
    prose = [p for p in files if kind_of(p.name) in PROSE and stem(p.name).lower() not in _NO_DATA]
    packed = [p for p in files if kind_of(p.name) == ".zip"]
    named = [p for p in (*tables, *prose, *packed) if stem(p.name).lower() == "metadata" and kind_of(p.name) not in (".md", ".txt")]
    # Text may be data or a letter; a .zip beside tables is their copy more often than not.
    chosen = named or [*tables, *(p for p in prose if kind_of(p.name) == ".docx" or not tables)] or packed
    if not chosen and (inside := _in_folders(config, here, note)):
        return inside
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
        DataFile(p, p.name, split_called(stem(p.name)), (info or {}).get(p.name, Described()), only_if_data=p in prose and len(chosen) > 1)
        for p in sorted(chosen)
    ]


def _in_folders(config: RunConfig, here: Sequence[Path], note: Callable[[str], None]) -> list[DataFile]:
    """The files of folders that are called train and test, or of the one that is called data, as on Hugging Face; otherwise none."""
    filled = [p for p in here if p.is_dir() and any(kind_of(inner.name) in TABLES for inner in p.iterdir() if inner.is_file())]
    splits = {p: split_called(p.name) for p in filled}
    if not filled or not (all(splits.values()) or [p.name.lower() for p in filled] == ["data"]):
        return []
    left = [f"{p.name}/" if p.is_dir() else p.name for p in here if p not in filled]
    if left:
        note(say("read: {files}; not read: {left}", files=", ".join(f"{p.name}/" for p in filled), left=", ".join(left[:20])))
    found: list[DataFile] = []
    problems: list[str] = []
    for folder in filled:
        inner = config.model_copy(update={"train_data_dir": str(folder), "metadata_path": None})
        try:
            files = find_files(inner, note)
        except DataError as error:
            problems += error.problems
            continue
        found += [replace(file, name=f"{folder.name}/{file.name}", split=splits[folder] or file.split) for file in files]
    if problems:
        raise DataError(problems)
    return found


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
    parts = json_object(folder / "dataset_dict.json").get("splits")
    if isinstance(parts, list) and all(isinstance(part, str) for part in parts):
        return [
            DataFile(file.path, f"{part}/{file.name}", split_called(part))
            for part in parts
            if Path(part).name == part
            for file in _saved_dataset(folder / part)
        ]
    listed = json_object(folder / "state.json").get("_data_files")
    if not isinstance(listed, list):
        return []
    names = [str(item.get("filename")) for item in listed if isinstance(item, dict)]
    return [DataFile(folder / name, name) for name in names if Path(name).name == name and (folder / name).is_file()]


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
