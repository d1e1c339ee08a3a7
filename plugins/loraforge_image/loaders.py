"""The data loader ``pictures``: metadata files, captions beside pictures, kohya's folders with repeats."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from loraforge import DataError, Keys, KeySet, Loader, RunConfig, speaker

from .pictures import SUFFIXES
from .task import ImageKeys, Picture

say = speaker(__name__)

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.tsv", "metadata.json")
_COLUMNS = {
    "file": ("file_name", "file", "image", "path", "filename", "image_path", "文件名", "图片"),
    "text": ("text", "caption", "prompt", "additional_feature", "标题", "描述", "标注", "说明"),
    "keep": ("keep", "保留"),
    "repeats": ("repeats", "num_repeats", "重复"),
}
_NO = ("no", "n", "false", "0", "否", "不")
_KOHYA = re.compile(r"^(\d+)_(.*)$")


class PictureKeys(Keys):
    """The keys of the picture loader."""

    caption_extension: str | None = Field(None, description="The ending of caption files beside pictures; by default .txt, then .caption.")
    repeats: int = Field(1, ge=1, le=1000, description="How often one pass shows a picture whose folder or row says nothing else.")


class PictureLoader(Loader[Picture]):
    """Pictures with captions, in the layouts of lora-scripts, Hugging Face and kohya."""

    name = "pictures"
    task = "image"
    help = "A folder of pictures: metadata.csv or .jsonl, captions in .txt files beside them, or kohya's 10_name folders."
    keys = PictureKeys

    def load(self, config: RunConfig, keys: KeySet, note: Callable[[str], None]) -> Iterable[Picture]:
        bad: list[str] = []
        records = _Reader(keys[PictureKeys], keys[ImageKeys].trigger_word, False, bad, note).read(
            config.train_data_dir, config.metadata_path
        )
        if keys[ImageKeys].prior_data_dir:
            records += _Reader(keys[PictureKeys], "", True, bad, note).read(str(keys[ImageKeys].prior_data_dir), None)
        if bad and config.on_bad_row == "skip":
            for line in bad:
                note(say("skipped: {line}", line=line))
        elif bad:
            raise DataError([*bad, say("Bad rows: {n}. on_bad_row: skip leaves them out and goes on.", n=len(bad))])
        return records


class _Reader:
    """Reads one folder. ``bad`` collects a line for everything that cannot be used."""

    def __init__(self, keys: PictureKeys, trigger: str | None, prior: bool, bad: list[str], note: Callable[[str], None]) -> None:
        self.keys, self.trigger, self.prior, self.bad, self.note = keys, trigger, prior, bad, note

    def read(self, folder: str, metadata: str | None) -> list[Picture]:
        root = Path(folder)
        given = Path(metadata) if metadata else next((root / name for name in _METADATA if (root / name).is_file()), None)
        if given is not None and given.is_dir():
            root, given = given, next((given / name for name in _METADATA if (given / name).is_file()), None)
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
        for where, row in _rows(file, self.bad):
            values = {field: next((row[n] for n in names if row.get(n) not in (None, "")), None) for field, names in _COLUMNS.items()}
            if values["keep"] is not None and str(values["keep"]).strip().lower() in _NO:
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
            if not re.fullmatch("[0-9]{1,4}", written) or not 1 <= int(written) <= 1000:
                self.bad.append(say("{where}: repeats must be a whole number from 1 to 1000; got '{value}'.", where=where, value=written))
                continue
            caption = str(values["text"]).strip() if values["text"] is not None else None
            record = self._picture(where, path, caption, int(written), "")
            found += [record] if record else []
        if left:
            self.note(say("{file}: {n} pictures are left out, as the column keep says", file=file.name, n=left))
        if not found and not self.bad and not left:
            raise DataError(say("{path}: there are no rows in it.", path=file))
        return found

    def _inside(self, where: str, name: str, roots: list[Path]) -> Path | None:
        """The picture that a row names, which must lie in the folder of the metadata or of the data."""
        for root in roots:
            path = Path(os.path.normpath((root / name.replace("\\", "/")).absolute()))
            if len(name) < 1000 and _is_file(path):
                if not any(path.resolve().is_relative_to(r.resolve()) for r in roots):
                    self.bad.append(say("{where}: {name} lies outside of the folder; copy the picture into it.", where=where, name=name))
                    return None
                return path
        self.bad.append(say("{where}: there is no file {name}.", where=where, name=name))
        return None

    # --- folders -----------------------------------------------------------------------------------------------------------

    def _from_folder(self, root: Path) -> list[Picture]:
        found: list[Picture] = []
        files = [p for p in sorted(root.rglob("*")) if p.is_file() and p.suffix.lower() in SUFFIXES and not _hidden(p.relative_to(root))]
        files = [p for p in files if p.name != "contact-sheet.png"]
        if not files:
            raise DataError(
                say(
                    "{path}: there are no pictures in it ({kinds}).",
                    path=root.absolute(),
                    kinds=", ".join(SUFFIXES),
                )
            )
        for path in files:
            place = path.parent.name if path.parent != root else ""
            kohya = _KOHYA.match(place)
            where = path.relative_to(root).as_posix()
            if not path.resolve().is_relative_to(root.resolve()):
                self.bad.append(say("{where}: {name} lies outside of the folder; copy the picture into it.", where=where, name=path.name))
                continue
            read, caption = self._sidecar(where, path)
            if not read:
                continue
            if caption is None and kohya and kohya[2].strip("_ "):
                caption = kohya[2].replace("_", " ").strip()
            repeats = max(1, int(kohya[1])) if kohya else self.keys.repeats
            record = self._picture(where, path.absolute(), caption, repeats, place)
            found += [record] if record else []
        return found

    def _sidecar(self, where: str, path: Path) -> tuple[bool, str | None]:
        """(whether all is well, the text of the caption file beside a picture or None if there is none)."""
        endings = [self.keys.caption_extension] if self.keys.caption_extension else [".txt", ".caption"]
        file = next((p for e in endings if (p := path.with_suffix("." + e.lstrip("."))).is_file()), None)
        if file is None:
            return True, None
        text = _decoded(file.read_bytes())
        if text is None:
            self.bad.append(say("{where}: {file} is not UTF-8 text; save it as UTF-8.", where=where, file=file.name))
            return False, None
        return True, " ".join(text.split())

    def _picture(self, where: str, path: Path, caption: str | None, repeats: int, folder: str) -> Picture | None:
        if not caption and self.trigger:
            caption = self.trigger
        if not caption and not (self.prior and caption is not None):
            text = say("{where}: {name} has no caption. Write one into {stem}.txt or metadata.csv, or set trigger_word.", where=where,
                       name=path.name, stem=path.stem)  # fmt: skip
            self.bad.append(text)
            return None
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return Picture(str(path), caption or "", digest, self.prior, folder, where=where, repeats=repeats)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file system would take
        return False


def _hidden(relative: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in relative.parts)


def _decoded(data: bytes) -> str | None:
    """Text in UTF-8 (with or without BOM) or GB18030; None if it is neither."""
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return None


def _rows(file: Path, bad: list[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where, columns in lower case) of every row of a metadata file.

    Raises:
        DataError: if the file as a whole cannot be read.
    """
    try:
        text = _decoded(file.read_bytes())
    except OSError as error:
        raise DataError(say("{path} cannot be read: {error}.", path=file, error=error.strerror)) from None
    if text is None:
        raise DataError(say("{path} is not UTF-8 text; save it as UTF-8.", path=file))
    if file.suffix.lower() in (".csv", ".tsv"):
        csv.field_size_limit(1 << 24)
        reader = csv.DictReader(io.StringIO(text), delimiter="\t" if file.suffix.lower() == ".tsv" else ",", strict=False)
        try:
            for number, row in enumerate(reader, 2):
                yield f"{file.name}, row {number}", {str(k).strip().lower(): v for k, v in row.items() if k is not None}
        except csv.Error as error:
            raise DataError(say("{path} cannot be read: {error}.", path=file, error=error)) from None
        return
    whole = file.suffix.lower() == ".json"
    try:
        entries: list[Any] = json.loads(text) if whole else text.split("\n")
    except ValueError as error:
        raise DataError(say("{path} cannot be read: {error}.", path=file, error=error)) from None
    for number, entry in enumerate(entries if isinstance(entries, list) else [entries], 1):
        where = f"{file.name}, {'entry' if whole else 'line'} {number}"
        if not whole and not entry.strip():
            continue
        try:
            value = entry if whole else json.loads(entry)
        except ValueError:
            value = None
        if isinstance(value, dict):
            yield where, {str(k).strip().lower(): v for k, v in value.items()}
        else:
            bad.append(say("{where}: it is no JSON object like {example}.", where=where, example='{"file_name": "a.png", "text": "..."}'))
