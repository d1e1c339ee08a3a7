# SPDX-License-Identifier: Apache-2.0
"""Caption files beside pictures: which belongs to which, and what they say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loraforge import decode_texts, read_file, refuse_machines_fault, require_file, speaker, why

from .names import CAPTIONS, loosely

say = speaker(__name__)

# More than anyone writes, and less than fills a machine's memory: bytes of one caption.
_CAPTION = 1_000_000


@dataclass
class Sidecars:
    """The caption files of a folder.

    Attributes:
        of: the file of each picture that has one.
        odd: those among them that are called otherwise than usual: ``a.TXT``, ``a.png.txt``.
        second: files of pictures that have another one, which is taken.
        orphans: files that belong to no picture.
        elsewhere: files that are called like a picture but have another ending, in case they are captions.
    """

    of: dict[Path, Path] = field(default_factory=dict)
    odd: dict[Path, Path] = field(default_factory=dict)
    second: dict[Path, Path] = field(default_factory=dict)
    orphans: list[Path] = field(default_factory=list)
    elsewhere: list[Path] = field(default_factory=list)


def endings_of(extension: str | None) -> tuple[str, ...]:
    """The endings of caption files in the order in which they are taken."""
    return ("." + extension.lstrip("."),) if extension else CAPTIONS


def match(pictures: Sequence[Path], others: Sequence[Path], extension: str | None) -> Sidecars:
    """Which file is the caption of which picture.

    A file is a picture's own if it is called like it, up to the ending. ``a.TXT`` and ``a.png.txt`` are taken where nothing else could be
    meant, as on Windows the one and in other programs the other is usual.

    Args:
        others: the files that are no pictures.
        extension: of ``caption_extension``.
    """
    found = Sidecars()
    endings = endings_of(extension)
    there = set(others)
    for path in pictures:
        beside = [file for ending in endings if (file := path.with_name(path.stem + ending)) in there]
        if beside:
            found.of[path] = beside[0]
            found.second.update(dict.fromkeys(beside[1:], path))
    taken = {*found.of.values(), *found.second}
    called: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in pictures:
        for name in {loosely(path.stem), loosely(path.name)}:
            called[path.parent, name].append(path)
    known = {loosely(ending): place for place, ending in enumerate(endings)}
    for file in sorted((f for f in others if f not in taken), key=lambda f: (known.get(_ending(f, known), len(known)), f)):
        ending = _ending(file, known)
        captions = ending or loosely(file.suffix) in CAPTIONS
        stem = file.name[: len(file.name) - len(ending or file.suffix)]
        owners = called.get((file.parent, loosely(stem)), [])
        same = [path for path in owners if stem in (path.stem, path.name)] or owners
        if len({path.stem for path in same}) != 1:
            (found.orphans if captions else []).append(file)
        elif not ending:
            found.elsewhere.append(file)
        elif all(path in found.of for path in same):
            found.second[file] = same[0]
        else:
            free = [path for path in same if path not in found.of]
            found.of.update(dict.fromkeys(free, file))
            found.odd[free[0]] = file
    return found


def _ending(file: Path, known: dict[str, int]) -> str:
    """The ending of a caption file as it is written; empty for other files."""
    name = loosely(file.name)
    ending = next((one for one in known if name.endswith(one)), "")
    return file.name[len(file.name) - len(ending) :] if ending and len(file.name) > len(ending) else ""


def read_captions(files: dict[Path, Path], root: Path, encoding: str) -> tuple[dict[Path, str], dict[Path, str], list[str]]:
    """What the caption files say.

    Args:
        files: the file of each picture.
        root: the folder in which the files themselves must lie, not only links to them.

    Returns:
        The text of each picture's file; of the others why it cannot be had; and what to tell the user of encodings.
    """
    data: dict[str, bytes] = {}
    problems: dict[Path, str] = {}
    place = root.resolve()
    names = {path: file.relative_to(root).as_posix() for path, file in files.items()}
    for path, file in files.items():
        inside = file.resolve().is_relative_to(place)
        held = caption_bytes(file) if inside else say("it lies outside of the folder")
        if isinstance(held, bytes):
            data[names[path]] = held
        else:
            problems[path] = say("{file} cannot be read: {error}.", file=file.name, error=held)
    read = decode_texts(data, encoding)
    texts = {path: read.texts[name].lstrip("\ufeff") for path, name in names.items() if name in read.texts}
    problems |= {path: _without(read.problems[name], name) for path, name in names.items() if name in read.problems}
    return texts, problems, read.notes


def _without(problem: str, name: str) -> str:
    """A problem that begins with the file's whole name, with the file's own alone: the row's name stands in front of it."""
    return problem.replace(name, name.rpartition("/")[2], 1)


def caption_bytes(file: Path) -> bytes | str:
    """What a caption file holds, or why that cannot be had."""
    try:
        size = require_file(file).st_size
        return read_file(file) if size <= _CAPTION else say("it has {n} MB, and a caption is a line or two", n=round(size / 1e6))
    except OSError as error:
        refuse_machines_fault(error)
        return why(error)
