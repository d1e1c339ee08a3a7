# SPDX-License-Identifier: Apache-2.0
"""The text of a config, whatever it was saved as; and what a file is that was given as a config and is none."""

from __future__ import annotations

import codecs
import json
import zipfile
from pathlib import Path

from ..errors import ConfigError
from ..files import open_file, require_file
from ..messages import speaker
from ..terminal import command

say = speaker(__name__)

_LARGEST = 1_000_000  # bytes; a config is a page
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".xlsx", ".xls", ".xlsm", ".ods", ".parquet", ".arrow", ".docx", ".doc", ".md")
_MODELS = (".gguf", ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".onnx")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
# How files begin, whatever they are called.
_MAGIC = {
    b"GGUF": "model",
    b"PAR1": "data",
    b"ARROW1": "data",
    b"\xd0\xcf\x11\xe0": "data",
    b"PK\x03\x04": "zip",
    b"%PDF": "document",
    b"\x1f\x8b": "archive",
    b"\x89PNG": "picture",
    b"\xff\xd8\xff": "picture",
    b"GIF8": "picture",
    b"Rar!": "archive",
    b"7z\xbc\xaf": "archive",
}


def config_text(path: Path) -> tuple[str, tuple[str, ...]]:
    """The text of a config, and what must be said about how it was read.

    Raises:
        ConfigError: if it cannot be read, or is something else.
    """
    try:
        if path.is_dir():
            raise ConfigError(_folder(path))
        told = require_file(path)
        with open_file(path) as file:
            data = file.read(_LARGEST + 1)
        _refuse_others(path, data)
        if told.st_size > _LARGEST:
            raise ConfigError(
                say(
                    "{path}: is {n} MB large, so it is no config, which is a page of 'key: value' lines.",
                    path=path,
                    n=told.st_size // _LARGEST,
                )
            )
    except FileNotFoundError:
        hint = _similar(path)
        raise ConfigError(
            say("{path}: there is no such file (looked at {absolute}).", path=path, absolute=path.absolute()) + hint
        ) from None
    except OSError as error:
        raise ConfigError(say("{path}: cannot be read: {error}.", path=path, error=error)) from None
    except ValueError as error:  # a name that no file can have
        raise ConfigError(say("{path}: cannot be read: {error}.", path=repr(str(path)), error=error)) from None
    return _decode(path, data)


def _similar(path: Path) -> str:
    """The configs beside a missing one, or the same name with the other ending."""
    folder = path.parent
    try:
        there = sorted(file for file in folder.iterdir() if file.suffix in (".yaml", ".yml")) if folder.is_dir() else []
    except OSError:
        return ""
    import difflib

    close = difflib.get_close_matches(path.name, [file.name for file in there], n=1)
    return say(" Did you mean '{word}'?", word=folder / close[0]) if close else ""


def _folder(path: Path) -> str:
    inside = sorted(file.name for file in path.iterdir() if file.suffix in (".yaml", ".yml"))[:10]
    if inside:
        return say("{path}: is a folder. Name one of the configs in it: {names}.", path=path, names=", ".join(inside))
    return say(
        "{path}: is a folder, and a config is a text file that names it. `{command}` makes one, my.yaml.",
        path=path,
        command=command("loraforge", "init", "--data", path),
    )


def _refuse_others(path: Path, data: bytes) -> None:
    """Raises: ConfigError: if the file is a table, a document, a model, a picture or an archive."""
    suffix = path.suffix.lower()
    kind = next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), "")
    if kind == "zip":
        kind = "data" if suffix in _TABLES or _is_office(path) else "archive"
    for endings, named in ((_TABLES, "data"), (_MODELS, "model"), (_PICTURES, "picture")):
        kind = kind or (named if suffix in endings else "")
    if not kind and suffix == ".json" and _lists_rows(data):
        kind = "data"
    if kind == "data":
        raise ConfigError(
            say(
                "{path}: is a table or document, not a config. `{command}` makes a config of it, my.yaml; give that file here.",
                path=path,
                command=command("loraforge", "init", "text", "--data", path),
            )
        )
    if kind == "model":
        raise ConfigError(say("{path}: is a model, not a config. A config is a text file that names it in base_model.", path=path))
    if kind:
        raise ConfigError(say("{path}: is no config, which is a text file of 'key: value' lines.", path=path))


def _is_office(path: Path) -> bool:
    try:
        with open_file(path) as raw, zipfile.ZipFile(raw) as file:
            return any(name in ("[Content_Types].xml", "content.xml") for name in file.namelist())
    except (OSError, zipfile.BadZipFile, ValueError):
        return False


def _lists_rows(data: bytes) -> bool:
    """Whether JSON is a list, or an object whose values are lists of objects: rows, not keys."""
    if data.lstrip().startswith(b"["):
        return True
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and any(isinstance(v, list) and v and isinstance(v[0], dict) for v in value.values())


def _decode(path: Path, data: bytes) -> tuple[str, tuple[str, ...]]:
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            try:
                return data.decode(name), () if name == "utf-8-sig" else _read_as(path, name.upper(), data.decode(name))
            except UnicodeDecodeError:
                raise ConfigError(_unreadable(path)) from None
    zeros = [data[i::2].count(0) / max(1, len(data) // 2) for i in (0, 1)]
    if max(zeros) > 0.3 and min(zeros) < 0.05:  # every other byte: letters in UTF-16
        name = "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
        try:
            return data.decode(name), _read_as(path, name.upper(), data.decode(name))
        except UnicodeDecodeError:
            raise ConfigError(_unreadable(path)) from None
    try:
        return data.decode("utf-8"), ()
    except UnicodeDecodeError:
        text = _chinese(data)
        if not text:
            raise ConfigError(_unreadable(path)) from None
        return text, _read_as(path, "GB18030", text)


def _chinese(data: bytes) -> str:
    """``data`` as GB18030, which includes GBK and GB2312, if that is likely; empty if it might be something else.

    Big5, Shift-JIS and Windows-1252 decode as well, but to characters outside of GB2312, which holds nearly all that is in use: theirs have
    second bytes below 0xA1 as often as not.
    """
    try:
        text = data.decode("gb18030")
    except UnicodeDecodeError:
        return ""
    foreign = [c for c in text if ord(c) > 127]
    rare = [c for c in foreign if not _in_gb2312(c)]
    if any(not "\u4e00" <= c <= "\u9fff" and not "\u2000" <= c <= "\u303f" and not "\uff00" <= c <= "\uffef" for c in rare):
        return ""
    return text if len(rare) * 10 <= len(foreign) and (not rare or len(foreign) >= 20) else ""


def _in_gb2312(character: str) -> bool:
    try:
        return bool(character.encode("gb2312"))
    except UnicodeEncodeError:
        return False


def _read_as(path: Path, encoding: str, text: str) -> tuple[str, ...]:
    sample = next((line.strip() for line in text.splitlines() if not line.isascii()), text.strip().split("\n")[0])
    return (
        say(
            "{path}: is read as {encoding}: '{sample}'. If that is wrong, save the file as UTF-8.",
            path=path,
            encoding=encoding,
            sample=sample[:60],
        ),
    )


def _unreadable(path: Path) -> str:
    return say(
        "{path}: is not UTF-8 text, and what else it is cannot be told (Big5? Shift-JIS?). "
        "Save it as UTF-8 (in Notepad: Save as, Encoding: UTF-8).",
        path=path,
    )
