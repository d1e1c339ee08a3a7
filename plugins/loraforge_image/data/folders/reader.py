# SPDX-License-Identifier: Apache-2.0
"""One folder of pictures, read in whatever layout it has, with an account of every file in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from loraforge import DataError, hash_file, refuse_machines_fault, speaker

from ...records import Picture
from ..pictures import SUFFIXES, unread
from .account import Account, about_doubled, about_masks, counted, strangers
from .caption_lines import caption_of
from .concepts import CONCEPT, Concept, concept_of, read_concepts
from .inventory import Inventory, inventory
from .keys import MOST_REPEATS, PictureKeys
from .kohya import Place, about_folders, about_priors, place_of
from .masks import Masks, find_masks, masks_of_folder, other_shape
from .names import METADATA, is_picture
from .sidecars import Sidecars, endings_of, match, read_captions
from .tables import Row, Tables, tables_of

say = speaker(__name__)

_TRAIN, _HELD = ("train",), ("test", "validation", "valid", "val", "dev")


@dataclass(frozen=True)
class Wishes:
    """How a folder is read.

    Attributes:
        trigger: stands for missing captions.
        mask: the key of that name.
        prior: for a folder of prior preservation, what its rows are called after; None for the pictures that are learned.
        split_by: the column of a metadata file that says which pictures stay on one side of the hold-out.
        closed: folders in it that hold something else, with what they hold.
    """

    keys: PictureKeys
    trigger: str | None = None
    mask: str = "auto"
    prior: Path | None = None
    split_by: str = ""
    closed: Mapping[Path, str] | None = None


@dataclass
class _Read:
    """What was found in a folder, before pictures are made of it."""

    there: Inventory
    captions: Sidecars
    tables: Tables
    files: list[Path]
    concepts: dict[Path, Concept]
    masks: Masks
    texts: dict[Path, str]
    problems: dict[Path, str]
    held: bool


class FolderReader:
    """Reads folders. ``bad`` collects a line for everything that cannot be used; ``note`` is told the account and each decision.

    Attributes:
        concepts: the concept of each picture that has one, by ``where``.
        lacking: what the folder as a whole lacks.
    """

    def __init__(self, wishes: Wishes, bad: list[str], note: Callable[[str], None]) -> None:
        self.wishes, self.keys, self.bad, self.note = wishes, wishes.keys, bad, note
        self.concepts: dict[str, Concept] = {}
        self.lacking: list[str] = []

    def _named(self, where: str) -> str:
        return (self.wishes.prior / where).as_posix() if self.wishes.prior else where

    def read(self, folder: str, metadata: str | None) -> list[Picture]:
        """Its pictures, in the order of the metadata or of their names.

        Raises:
            DataError: if there is no folder, nothing in it, or a metadata file that cannot be read as a whole.
        """
        root = Path(os.path.normpath(Path(folder).absolute()))
        given = Path(os.path.normpath(Path(metadata).absolute())) if metadata else None
        if given is not None and given.is_dir():
            root, given = given, next((given / name for name in METADATA if (given / name).is_file()), None)
        if not root.is_dir() and given is None:
            raise DataError(say("{path}: there is no such folder.", path=root))
        if given is not None and is_picture(given):
            raise DataError(
                say("metadata_path: {path} is a picture, and that key names a table. Leave it out; train_data_dir: {folder}.",
                    path=given, folder=given.parent)
            )  # fmt: skip
        later: list[str] = []
        account = Account((self.wishes.prior or root).name or str(root))
        read = None
        try:
            read = self._look(root if root.is_dir() else given.parent, given, later.append)  # type: ignore[union-attr]
            found = self._pictures(read, account)
            account.remarks += self._remarks(read, found, account)
        finally:
            for line in [*(account.lines() if read is not None else ()), *later]:
                self.note(line)
        if not found and not self.bad and account.left:
            raise DataError(say("{path}: no picture of it is left.", path=root))
        return found

    # --- looking -----------------------------------------------------------------------------------------------------------

    def _look(self, root: Path, given: Path | None, note: Callable[[str], None]) -> _Read:
        link = say("it is a link to another folder")
        there = inventory(root, self.wishes.closed or {}, link)
        captions = match(there.pictures, there.others, self.keys.caption_extension)
        tables = Tables(self.keys, self.bad, note, self._named, self.wishes.split_by)
        files = [given] if given is not None else tables_of(there)
        if not files and not there.pictures:
            none = say("{path}: there are no pictures in it ({kinds}).", path=root, kinds=", ".join(SUFFIXES))
            raise DataError([none, *unread([there.name(path) for path in there.unread]), *strangers(there, captions, set(), "")])
        rows = 0
        before = len(self.bad)
        for file in files:
            rows += tables.read(file, there.name(file) if file.is_relative_to(root) else file.name, root)
        if files and not rows and len(self.bad) == before and (_is_whole(files[0], root) or not there.pictures):
            raise DataError(say("{path}: there are no rows in it.", path=files[0]))
        concepts = read_concepts(root, [file for file in there.others if file.name.lower() in CONCEPT])
        captioned = {*captions.of, *(path for path, row in tables.rows.items() if row.caption)}
        masks = self._masks(there, captioned)
        masks.files |= {row.mask for row in tables.rows.values() if row.mask is not None}
        wanted = {
            path: file
            for path, file in captions.of.items()
            if path not in masks.files and _reads_beside(tables.rows.get(path), _covering(path, files, root) is None)
        }
        texts, problems, notes = read_captions(wanted, root, self.keys.encoding)
        for line in notes:
            note(line)
        tops = {path.relative_to(root).parts[0].lower() for path in there.pictures if len(path.relative_to(root).parts) > 1}
        held = self.wishes.prior is None and bool(tops & set(_TRAIN)) and bool(tops & set(_HELD))
        return _Read(there, captions, tables, files, concepts, masks, texts, problems, held)

    def _masks(self, there: Inventory, captioned: set[Path]) -> Masks:
        if self.keys.mask_dir and self.wishes.prior is None:
            place = Path(os.path.normpath(Path(self.keys.mask_dir).absolute()))
            inside = [path for path in there.pictures if path.is_relative_to(place)]
            apart = inside or inventory(place, {}, "").pictures if place.is_dir() else []
            return masks_of_folder(place, apart, there.root, [path for path in there.pictures if path not in set(inside)])
        return find_masks(there.root, there.pictures, captioned)

    # --- pictures ----------------------------------------------------------------------------------------------------------

    def _pictures(self, read: _Read, account: Account) -> list[Picture]:
        """The pictures of the rows, in their order, then those that no metadata file is about."""
        found: list[Picture | None] = []
        whole = any(_is_whole(file, read.there.root) for file in read.files)
        for path, row in read.tables.rows.items():
            if not row.keep:
                inside = path.is_relative_to(read.there.root)
                account.left[say("the column keep says so")].append(read.there.name(path) if inside else path.name)
            elif path not in read.masks.files:
                found.append(self._of_row(path, row, read, account, nested=not whole))
        for path in read.there.pictures:
            if path in read.tables.rows or path in read.tables.listed or path in read.masks.files:
                continue
            name = read.there.name(path)
            table = _covering(path, read.files, read.there.root)
            if table is not None:
                account.left[say("{file} does not list them", file=self._table_name(table, read))].append(name)
            else:
                found.append(self._of_file(path, name, read, account))
        return [one for one in found if one is not None]

    def _table_name(self, table: Path, read: _Read) -> str:
        return self._named(read.there.name(table) if table.is_relative_to(read.there.root) else table.name)

    def _of_row(self, path: Path, row: Row, read: _Read, account: Account, nested: bool) -> Picture | None:
        inside = path.is_relative_to(read.there.root)
        place = place_of(path, read.there.root) if inside and nested else Place()
        if place.repeats == 0:
            account.left[say("the name of their folder says 0 repeats")].append(read.there.name(path))
            return None
        beside = self._beside(path, row.where, read, account)
        if beside is None:
            return None
        caption = row.caption or beside
        if row.cut:
            account.lines_left.append(row.where)
        account.several += "\n" in (row.caption or "")
        place = replace(place, repeats=row.repeats or place.repeats, folder=place.folder if nested else "")
        made = self._picture(row.where, path, caption, place, read, account, said=row.caption is not None)
        mask = self._mask_of(row.where, path, row.mask, read) if made is not None else ("", "")
        if made is None or mask is None:
            return None
        return replace(made, review=row.review, group=row.group, mask=mask[0], mask_sha256=mask[1])

    def _of_file(self, path: Path, name: str, read: _Read, account: Account) -> Picture | None:
        where = self._named(name)
        if not path.resolve().is_relative_to(read.there.root.resolve()):
            self.bad.append(say("{where}: {name} lies outside of the folder; copy the picture into it.", where=where, name=path.name))
            return None
        place = place_of(path, read.there.root)
        if place.repeats == 0:
            account.left[say("the name of their folder says 0 repeats")].append(name)
            return None
        if (place.repeats or 1) > MOST_REPEATS:
            number, _, rest = place.folder.partition("_")
            text = say(
                "{where}: a folder called {folder} means {number} repeats, and {most} are the most. If it is no number of repeats, call it "
                "otherwise, {other} for example.",
                where=where,
                folder=place.folder,
                number=number,
                most=MOST_REPEATS,
                other=f"{rest or 'pictures'}_{number}",
            )
            self.bad.append(text)
            return None
        beside = self._beside(path, where, read, account)
        made = self._picture(where, path, beside, place, read, account, said=path in read.texts) if beside is not None else None
        mask = self._mask_of(where, path, None, read) if made is not None else None
        return replace(made, mask=mask[0], mask_sha256=mask[1]) if made is not None and mask is not None else None

    def _beside(self, path: Path, where: str, read: _Read, account: Account) -> str | None:
        """The caption in the file beside a picture; empty where there is none, None where it cannot be read, which is told."""
        if path in read.problems:
            self.bad.append(say("{where}: {problem}", where=where, problem=read.problems[path]))
            return None
        if path not in read.texts:
            return ""
        name = read.there.name(read.captions.of[path])
        caption, cut = caption_of(" \n".join(read.texts[path].splitlines()), self.keys.caption_lines)
        caption = "\n".join(" ".join(line.split()) for line in (caption or "").split("\n"))
        if not caption:
            account.empty.append(name)
        if cut:
            account.lines_left.append(name)
        account.several += "\n" in caption
        return caption

    def _picture(self, where: str, path: Path, caption: str, place: Place, read: _Read, account: Account, said: bool) -> Picture | None:
        """A picture with the first caption that there is: its own, its concept's, its folder's, the trigger word.

        Args:
            said: whether a file or a row says its caption, be it nothing.
        """
        concept = concept_of(path, read.concepts)
        if concept is not None and concept.repeats == 0:
            account.left[say("{file} says 0 repeats", file=concept.where)].append(read.there.name(path))
            return None
        prior = self.wishes.prior is not None or (concept is not None and concept.prior)
        trigger = "" if prior else concept.trigger if concept is not None and concept.trigger is not None else self.wishes.trigger
        alone = trigger is not None and caption.casefold() == trigger.strip().casefold()  # as prepare --trigger writes it
        source = "trigger" if caption and alone else "own" if caption else "folder"
        caption = caption or (concept.caption if concept is not None else "") or place.caption
        if not caption and trigger:
            caption, source = trigger, "trigger"
        if not caption and not (prior and said):
            self._no_caption(where, path, read, prior)
            return None
        try:
            digest = hash_file(path)
        except OSError as error:
            refuse_machines_fault(error)
            self.bad.append(say("{where}: {file} cannot be read: {error}.", where=where, file=path.name, error=error))
            return None
        account.sources[source if caption else "none"] += 1
        if concept is not None:
            self.concepts[where] = concept
        repeats = concept.repeats if concept is not None and concept.repeats else place.repeats or self.keys.repeats
        return Picture(
            str(path),
            caption,
            digest,
            prior,
            place.folder,
            where=where,
            repeats=repeats,
            side=self._side(path, read),
            trigger=concept.trigger if concept is not None and not prior else None,
        )

    def _no_caption(self, where: str, path: Path, read: _Read, prior: bool) -> None:
        file = read.captions.of.get(path) if path in read.texts else None
        wanted = path.stem + endings_of(self.keys.caption_extension)[0]
        if prior:
            text = say("{where}: this prior picture has no caption. Write its class into {file}, or call its folder like 1_cat.",
                       where=where, file=wanted)  # fmt: skip
        elif file is not None:
            text = say("{where}: {file} is empty. Write the caption into it, or set trigger_word.", where=where, file=file.name)
        else:
            text = say("{where}: {name} has no caption. Write one into {file} or metadata.csv, or set trigger_word.", where=where,
                       name=path.name, file=wanted)  # fmt: skip
        self.bad.append(text)

    def _side(self, path: Path, read: _Read) -> Literal["train", "held-out"] | None:
        if not read.held or not path.is_relative_to(read.there.root):
            return None
        top = path.relative_to(read.there.root).parts[0].lower()
        return "train" if top in _TRAIN else "held-out" if top in _HELD else None

    def _mask_of(self, where: str, path: Path, given: Path | None, read: _Read) -> tuple[str, str] | None:
        """The mask of a picture and its hash, empty where it has none; None if it cannot be read, which is told."""
        file = given or read.masks.of.get(path)
        if file is None or self.wishes.mask in ("off", "alpha"):
            return "", ""
        try:
            shapes = other_shape(path, file)
            digest = hash_file(file)
        except DataError as error:
            self.bad.append(say("{where}: its mask {file} cannot be used: {problem}.", where=where, file=file.name, problem=error))
            return None
        except OSError as error:
            refuse_machines_fault(error)
            self.bad.append(say("{where}: {file} cannot be read: {error}.", where=where, file=file.name, error=error))
            return None
        if shapes:
            read.masks.shapes.append(f"{file.name} ({shapes})")
        read.masks.of[path] = file
        return str(file), digest

    # --- telling -----------------------------------------------------------------------------------------------------------

    def _remarks(self, read: _Read, found: list[Picture], account: Account) -> list[str]:
        """What the account says besides its counts."""
        there, masks = read.there, read.masks
        used = {*(read.captions.of[path] for path in read.texts), *read.files, *(Path(one.mask) for one in found if one.mask), *masks.files}
        used |= {file for file in there.others if file.name.lower() in CONCEPT}
        whole = next((file for file in read.files if _is_whole(file, there.root)), None)
        said = self._about_folders(read, whole)
        for place, concept in read.concepts.items():
            n = sum(1 for one in self.concepts.values() if one is concept)
            said.append(say("{file} is read, for {n} pictures in {folder}", file=concept.where, n=n, folder=place.name))
        if self.wishes.prior is None:
            said += about_masks(masks, there, self.wishes.mask, masks.shapes)
            bare = [one.where for one in found if not one.mask and not one.prior]
            if self.wishes.mask == "folder" and len(bare) == len(found):
                self.lacking.append(
                    say("mask: folder: no picture has a mask. Masks are called a-masklabel.png, a_mask.png or masks/a.png.")
                )
            elif self.wishes.mask == "folder" and bare:
                said.append(say("without a mask, and learned everywhere: {names}", names=counted(bare)))
        beside = [path for path in read.captions.of if path not in read.texts]
        says = dict.fromkeys(file for path in beside if (file := _covering(path, read.files, there.root)) is not None)
        tables = counted([self._table_name(file, read) for file in says])
        return [
            *said,
            *about_doubled(there),
            *unread([there.name(path) for path in there.unread]),
            *strangers(there, read.captions, used, tables),
        ]

    def _about_folders(self, read: _Read, whole: Path | None) -> list[str]:
        """How the names of folders are taken."""
        root = read.there.root
        pictures = [path for path in read.there.pictures if path not in read.masks.files]
        places = {path: place_of(path, root) for path in pictures}
        loose = [read.there.name(path) for path, place in places.items() if place.repeats is None]
        loose = [name for name in loose if concept_of(root / name, read.concepts) is None]
        said = about_folders(places, root, whole.name if whole is not None else "", loose)
        if self.wishes.prior is None:
            said += about_priors(pictures, root)
        if read.held:
            said.append(say("the folder {train} is learned; {held} is held out", train="train", held="/".join(
                sorted({path.relative_to(root).parts[0] for path in pictures} & set(_HELD)))))  # fmt: skip
        return said


def _is_whole(table: Path, root: Path) -> bool:
    """Whether a metadata file is about the whole folder, and not only about one in it."""
    return table.parent == root or not table.is_relative_to(root)


def _covering(path: Path, tables: Sequence[Path], root: Path) -> Path | None:
    """The metadata file that should list a picture."""
    return next((file for file in tables if _is_whole(file, root) or file.parent in path.parents), None)


def _reads_beside(row: Row | None, free: bool) -> bool:
    """Whether the caption beside a picture is read: of a row that says none, or where no row is meant to be (``free``)."""
    return row.keep and row.caption is None if row is not None else free
