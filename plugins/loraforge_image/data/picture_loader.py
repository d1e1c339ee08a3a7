"""The data loader ``pictures``: metadata files, captions beside pictures, kohya's folders with repeats."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

import loraforge
from loraforge import DataError, Keys, KeySet, Loader, Review, RunConfig, hash_file, read_file, read_review, require_file, speaker

from ..records import ImageKeys, Picture
from .cells import unquoted
from .pictures import SUFFIXES
from .review_columns import review_columns

say = speaker(__name__)

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.tsv", "metadata.json")
COLUMNS = {
    "file": ("file_name", "file", "image", "path", "filename", "image_path", "文件名", "图片"),
    "text": ("text", "caption", "prompt", "additional_feature", "标题", "描述", "标注", "说明"),
    "keep": ("keep", "保留"),
    "repeats": ("repeats", "num_repeats", "重复"),
}
NO = ("no", "n", "false", "0", "否", "不")
KOHYA = re.compile(r"^(\d+)_(.*)$")
MOST_REPEATS = 1000
# More than anyone writes, and less than fills a machine's memory: bytes of one caption, of all metadata.
_CAPTION, _TABLE = 1_000_000, 100_000_000


class PictureKeys(Keys):
    """The keys of the picture loader."""

    caption_extension: str | None = Field(None, description="The ending of caption files beside pictures; by default .txt, then .caption.")
    repeats: int = Field(1, ge=1, le=MOST_REPEATS, description="How often one pass shows a picture whose folder or row says nothing else.")


class PictureLoader(Loader[Picture]):
    """Pictures with captions, in the layouts of lora-scripts, Hugging Face and kohya."""

    name = "pictures"
    task = "image"
    help = "A folder of pictures: metadata.csv or .jsonl, captions in .txt files beside them, or kohya's 10_name folders."
    keys = PictureKeys

    def load(self, config: RunConfig, keys: KeySet, note: Callable[[str], None]) -> Iterable[Picture]:
        bad: list[str] = []
        reader = _Reader(keys[PictureKeys], keys[ImageKeys].trigger_word, None, bad, note, config.split_by.strip().lower())
        records = [replace(one, mirrored=keys[ImageKeys].flip) for one in reader.read(config.train_data_dir, config.metadata_path)]
        if keys[ImageKeys].prior_data_dir:
            prior = Path(str(keys[ImageKeys].prior_data_dir))
            # Both may have a "metadata.csv, row 3"; and the folder's name alone may be that of a folder among the pictures.
            alike = (Path(config.train_data_dir) / prior.name).exists() or not prior.name
            records += _Reader(keys[PictureKeys], "", prior if alike else Path(prior.name), bad, note).read(str(prior), None)
        if bad and config.on_bad_row == "skip":
            for line in bad:
                note(say("skipped: {line}", line=line))
        elif bad:
            raise DataError([*bad, say("Bad rows: {n}. on_bad_row: skip leaves them out and goes on.", n=len(bad))])
        return records


class _Reader:
    """Reads one folder. ``bad`` collects a line for everything that cannot be used.

    Args:
        prior: for a folder of prior preservation, what its rows are called after; None for the pictures that are learned.
        split_by: the column of a metadata file that says which pictures stay on one side of the hold-out.
    """

    def __init__(
        self, keys: PictureKeys, trigger: str | None, prior: Path | None, bad: list[str], note: Callable[[str], None], split_by: str = ""
    ) -> None:
        self.keys, self.trigger, self.prior, self.bad, self.note, self.split_by = keys, trigger, prior, bad, note, split_by

    def _named(self, where: str) -> str:
        return (self.prior / where).as_posix() if self.prior else where

    def read(self, folder: str, metadata: str | None) -> list[Picture]:
        root = Path(folder)
        given = Path(metadata) if metadata else next((root / name for name in METADATA if (root / name).is_file()), None)
        if given is not None and given.is_dir():
            root, given = given, next((given / name for name in METADATA if (given / name).is_file()), None)
        if given is not None:
            return self._from_metadata(given, root)
        if not root.is_dir():
            raise DataError(say("{path}: there is no such folder.", path=root.absolute()))
        return self._from_folder(root)

    # --- metadata ----------------------------------------------------------------------------------------------------------

    def _from_metadata(self, file: Path, root: Path) -> list[Picture]:
        found: list[Picture] = []
        seen: dict[Path, str] = {}
        left = 0
        rows = list(metadata_rows(file, self.bad, self.note, self._named(file.name)))
        columns = review_columns(self._named(file.name), [row for _, row in rows], self.note)
        for where, row in rows:
            values = {field: next((row[n] for n in names if row.get(n) not in (None, "")), None) for field, names in COLUMNS.items()}
            if values["keep"] is not None and str(values["keep"]).strip().lower() in NO:
                left += 1
                continue
            if values["file"] is None:
                self.bad.append(say("{where}: it names no picture; the column is called file_name.", where=where))
                continue
            path = self._inside(where, str(values["file"]), [file.parent, root])
            if path is None:
                continue
            if path in seen:
                self.bad.append(say("{where}: {name} stands in {other} already.", where=where, name=values["file"], other=seen[path]))
                continue
            seen[path] = where
            written = str(values["repeats"] or self.keys.repeats).strip()
            if not re.fullmatch("[0-9]{1,4}", written) or not 1 <= int(written) <= MOST_REPEATS:
                self.bad.append(say("{where}: repeats must be a whole number from 1 to 1000; got '{value}'.", where=where, value=written))
                continue
            problems: list[str] = []
            review = read_review({field: row.get(column) for field, column in columns.items()}, columns, problems)
            if problems:
                self.bad += [f"{where}: {problem}" for problem in problems]
                continue
            caption = str(values["text"]).strip() if values["text"] is not None else None
            record = self._picture(where, path, caption, int(written), "", review)
            group = str(row.get(self.split_by) or "").strip() or None
            found += [replace(record, group=group) if group else record] if record else []
        if left:
            self.note(say("{file}: {n} pictures are left out, as the column keep says", file=file.name, n=left))
        if not found and not self.bad and not left:
            raise DataError(say("{path}: there are no rows in it.", path=file))
        return found

    def _inside(self, where: str, name: str, roots: list[Path]) -> Path | None:
        """The picture that a row names, which must lie in the folder of the metadata or of the data."""
        for root in roots:
            path = Path(os.path.normpath((root / name.replace("\\", "/")).absolute()))
            if len(name) < 1000 and is_file(path):
                if not any(path.resolve().is_relative_to(r.resolve()) for r in roots):
                    self.bad.append(say("{where}: {name} lies outside of the folder; copy the picture into it.", where=where, name=name))
                    return None
                return path
        self.bad.append(say("{where}: there is no file {name}.", where=where, name=name))
        return None

    # --- folders -----------------------------------------------------------------------------------------------------------

    def _from_folder(self, root: Path) -> list[Picture]:
        found: list[Picture] = []
        files = [p for p in sorted(root.rglob("*")) if p.is_file() and p.suffix.lower() in SUFFIXES and not is_hidden(p.relative_to(root))]
        files = [p for p in files if p.name != "contact-sheet.png"]
        if not files:
            raise DataError(
                say(
                    "{path}: there are no pictures in it ({kinds}).",
                    path=root.absolute(),
                    kinds=", ".join(SUFFIXES),
                )
            )
        beside = self._sidecars(files, root)
        texts, notes = decoded_together({path: data for path, (_, data) in beside.items() if isinstance(data, bytes)})
        for line in notes:
            self.note(line)
        for path in files:
            place = path.parent.name if path.parent != root else ""
            kohya = KOHYA.match(place)
            where = self._named(path.relative_to(root).as_posix())
            if not path.resolve().is_relative_to(root.resolve()):
                self.bad.append(say("{where}: {name} lies outside of the folder; copy the picture into it.", where=where, name=path.name))
                continue
            file, data = beside.get(path, (None, b""))
            if file is not None and texts.get(path) is None:
                self.bad.append(
                    say("{where}: {file} is not UTF-8 text; save it as UTF-8.", where=where, file=file.name)
                    if isinstance(data, bytes)
                    else say("{where}: {file} cannot be read: {error}.", where=where, file=file.name, error=data)
                )
                continue
            caption = " ".join((texts[path] or "").split()) if file is not None else None
            if caption is None and kohya and kohya[2].strip("_ "):
                caption = kohya[2].replace("_", " ").strip()
            repeats = max(1, int(kohya[1])) if kohya else self.keys.repeats
            if repeats > MOST_REPEATS:
                self.bad.append(say("{where}: repeats must be a whole number from 1 to 1000; got '{value}'.", where=where, value=repeats))
                continue
            record = self._picture(where, path.absolute(), caption, repeats, place)
            found += [record] if record else []
        return found

    def _sidecars(self, pictures: Iterable[Path], root: Path) -> dict[Path, tuple[Path, bytes | str]]:
        """The caption file beside each picture that has one, with its bytes or why they cannot be had."""
        endings = [self.keys.caption_extension] if self.keys.caption_extension else [".txt", ".caption"]
        found: dict[Path, tuple[Path, bytes | str]] = {}
        for path in pictures:
            file = next((p for e in endings if (p := path.with_suffix("." + e.lstrip("."))).is_file()), None)
            if file is None:
                continue
            inside = file.resolve().is_relative_to(root.resolve())
            found[path] = (file, caption_bytes(file) if inside else say("it lies outside of the folder"))
        return found

    def _picture(
        self, where: str, path: Path, caption: str | None, repeats: int, folder: str, review: Review | None = None
    ) -> Picture | None:
        if not caption and self.trigger:
            caption = self.trigger
        if not caption and (self.prior is None or caption is None):
            text = say("{where}: {name} has no caption. Write one into {stem}.txt or metadata.csv, or set trigger_word.", where=where,
                       name=path.name, stem=path.stem)  # fmt: skip
            self.bad.append(text)
            return None
        try:
            digest = hash_file(path)
        except OSError as error:
            loraforge.refuse_machines_fault(error)
            self.bad.append(say("{where}: {file} cannot be read: {error}.", where=where, file=path.name, error=error.strerror))
            return None
        return Picture(
            str(path), caption or "", digest, self.prior is not None, folder, where=where, repeats=repeats, review=review or Review()
        )


def caption_bytes(file: Path) -> bytes | str:
    """What a caption file holds, or why that cannot be had."""
    try:
        size = require_file(file).st_size
        return read_file(file) if size <= _CAPTION else say("it has {n} MB, and a caption is a line or two", n=round(size / 1e6))
    except OSError as error:
        loraforge.refuse_machines_fault(error)
        return error.strerror or str(error)


def is_file(path: Path) -> bool:
    """Whether there is such a file; False for what no file system would take as a name."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_hidden(relative: Path) -> bool:
    """Whether a file is hidden, or lies in a folder that is."""
    return any(part.startswith((".", "__MACOSX")) for part in relative.parts)


# --- text ------------------------------------------------------------------------------------------------------------------


def _encoding(data: bytes) -> str | None:
    """What a text file was saved as: UTF-8 or UTF-16 with or without BOM, GB18030 (which includes GBK and GB2312); None if nothing fits."""
    for bom, name in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if data.startswith(bom):
            return name if _fits(data, name) else None
    zeros = [data[i::2].count(0) / max(1, len(data) // 2) for i in (0, 1)]
    wide = ["utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"] if max(zeros) > 0.02 else []
    return next((name for name in (*wide, "utf-8", "gb18030") if _fits(data, name) and "\0" not in data.decode(name)), None)


def _fits(data: bytes, encoding: str) -> bool:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return False
    # Almost any bytes are UTF-16; those that are no text show in signs that do not exist.
    return not encoding.startswith("utf-16") or all(unicodedata.category(sign) != "Cn" for sign in text)


def decoded(data: bytes) -> str | None:
    """A text file, whatever it was saved as; None if nothing fits."""
    encoding = _encoding(data)
    return data.decode(encoding) if encoding else None


def decoded_together(files: Mapping[Path, bytes]) -> tuple[dict[Path, str | None], list[str]]:
    """The captions of one folder, and what to tell the user of their encodings.

    The two bytes of a Chinese character in GB18030 can be valid UTF-8 (一只猫, a cat, is), so that a short caption alone proves nothing.
    Such a caption is read as the captions of which it is certain are.
    """
    encodings = {path: _encoding(data) for path, data in files.items()}
    doubtful = [path for path, name in encodings.items() if name == "utf-8" and _doubtful(files[path])]
    chinese = [path for path, name in encodings.items() if name == "gb18030"]
    certain = [path for path, name in encodings.items() if name == "utf-8" and path not in doubtful and not files[path].isascii()]
    notes = []
    for other in sorted({name for name in encodings.values() if name and name not in ("utf-8", "utf-8-sig")}):
        those = [path for path, name in encodings.items() if name == other]
        notes.append(
            say(
                "{n} captions are read as {encoding}, because they are not UTF-8 ({names}); if characters look wrong, save them as UTF-8",
                n=len(those),
                encoding=other.upper(),
                names=_some(those),
            )
        )
    if doubtful and chinese:
        taken = "gb18030" if len(chinese) > len(certain) else "utf-8"
        encodings |= dict.fromkeys(doubtful, taken)
        notes.append(
            say(
                "{n} short captions could be UTF-8 or GB18030 ({names}); they are read as {encoding}, like most of the folder",
                n=len(doubtful),
                encoding=taken.upper(),
                names=_some(doubtful),
            )
        )
    return {path: data.decode(name) if (name := encodings[path]) else None for path, data in files.items()}, notes


def _doubtful(data: bytes) -> bool:
    """Whether valid UTF-8 may be GB18030 all the same: as UTF-8 it holds no Chinese at all, or as GB2312, whose common characters most
    captions keep to, it makes sense as well."""
    if data.isascii() or not _fits(data, "gb18030"):
        return False
    return all(ord(sign) < 0x800 for sign in data.decode("utf-8")) or _fits(data, "gb2312")


def _some(files: Sequence[Path]) -> str:
    shown = ", ".join(file.with_suffix("").name for file in files[:3])
    return f"{shown} ..." if len(files) > 3 else shown


# --- metadata files ----------------------------------------------------------------------------------------------------------


def metadata_rows(
    file: Path, bad: list[str], note: Callable[[str], None] = lambda text: None, called: str = ""
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where, columns in lower case) of every row of a metadata file.

    Args:
        called: what the file is called in ``where``; by default its name.

    Raises:
        DataError: if the file as a whole cannot be read.
    """
    try:
        if require_file(file).st_size > _TABLE:
            raise DataError(
                say("{path} is larger than {n} MB; divide it, or leave out what is no caption.", path=file, n=_TABLE // 1_000_000)
            )
        data = read_file(file)
    except OSError as error:
        raise DataError(say("{path} cannot be read: {error}.", path=file, error=error.strerror)) from None
    called = called or file.name
    encoding = _encoding(data)
    if encoding is None:
        raise DataError(say("{path} is not UTF-8 text; save it as UTF-8.", path=file))
    if not encoding.startswith("utf-8"):
        note(
            say(
                "{file}: read as {encoding}, because it is not UTF-8; if characters look wrong, save it as UTF-8",
                file=called,
                encoding=encoding.upper(),
            )
        )
    text = data.decode(encoding)
    if file.suffix.lower() in (".csv", ".tsv"):
        csv.field_size_limit(1 << 24)
        reader = csv.DictReader(io.StringIO(text), delimiter="\t" if file.suffix.lower() == ".tsv" else ",", strict=False)
        try:
            for number, row in enumerate(reader, 2):
                yield f"{called}, row {number}", {str(k).strip().lower(): unquoted(v) for k, v in row.items() if k is not None}
        except csv.Error as error:
            raise DataError(say("{path} cannot be read: {error}.", path=file, error=error)) from None
        return
    whole = file.suffix.lower() == ".json"
    try:
        entries: list[Any] = json.loads(text) if whole else text.split("\n")
    except (ValueError, RecursionError) as error:
        raise DataError(say("{path} cannot be read: {error}.", path=file, error=error)) from None
    for number, entry in enumerate(entries if isinstance(entries, list) else [entries], 1):
        where = f"{called}, {'entry' if whole else 'line'} {number}"
        if not whole and not entry.strip():
            continue
        try:
            value = entry if whole else json.loads(entry)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            yield where, {str(k).strip().lower(): v for k, v in value.items()}
        else:
            bad.append(say("{where}: it is no JSON object like {example}.", where=where, example='{"file_name": "a.png", "text": "..."}'))
