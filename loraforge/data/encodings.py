# SPDX-License-Identifier: Apache-2.0
"""Text files to text, whatever they were saved as: UTF-8, or the likeliest of a dozen encodings of six languages."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from ..errors import DataError
from ..messages import speaker
from .likelihood import HANZI, PRIVATE_USE, SURE, TYPICAL, Reading, readings, shared

say = speaker(__name__)

_UTF_32 = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"))  # the first of them begins like UTF-16
# ISO-2022-JP and its like switch to another script by ESC $, HZ by ~{.
_ESCAPES = re.compile(rb"\x1b\$[@A-Z()]|~\{(?:[\x21-\x77][\x21-\x7e])+~\}")
_FEWEST = 3  # characters in which UTF-16 without a mark is recognised


@dataclass(frozen=True)
class _Source:
    """A file: what errors call it, what notes call it, and its bytes."""

    path: str
    name: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Decoded:
    """A text and what it was read as.

    Attributes:
        sure: ``utf-8``, ``given``, a byte order mark, or escapes say what it is; ``likely``: the other readings make less sense.
    """

    text: str
    encoding: str
    sure: Literal["utf-8", "given", "mark", "likely"]


def decode_text(data: bytes, encoding: str, note: Callable[[str], None], path: str, name: str = "") -> str:
    """The text of a file: UTF-8 or UTF-16 with or without BOM, otherwise the likeliest of ``LANGUAGES``.

    Args:
        encoding: ``auto``, or a name that Python knows.
        note: told what it was read as, with a sample, where that is not plain UTF-8.
        path: what the user calls the file in errors.
        name: the same in notes, without folders.

    Raises:
        DataError: if it is no text in that encoding, or no encoding is clearly the likeliest.
    """
    found = decoded(data, encoding, path)
    if found.sure == "mark":
        note(
            say(
                "{file}: read as {encoding}, because it begins with that byte order mark",
                file=name or path,
                encoding=found.encoding.upper(),
            )
        )
    elif found.sure == "likely":
        note(
            say(
                '{file}: read as {encoding}, because it is not UTF-8: "{sample}"; if that looks wrong, set encoding',
                file=name or path,
                encoding=found.encoding.upper(),
                sample=sample_of(found.text),
            )
        )
    return found.text


def decoded(data: bytes, encoding: str, path: str) -> Decoded:
    """As ``decode_text``, with the encoding instead of a note."""
    source = _Source(path, path, data)
    if encoding != "auto":
        return Decoded(_named(source, encoding), encoding, "given")
    for bom, utf in ((codecs.BOM_UTF8, "utf-8-sig"), *_UTF_32, (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if data.startswith(bom):
            try:
                text = data.decode(utf)
            except UnicodeDecodeError as error:
                raise DataError(_not_decodable(source, utf, error)) from None
            # Almost any bytes are UTF-16; those that are no text show in signs that do not exist.
            if utf == "utf-16" and any(sign < "\U00010000" and unicodedata.category(sign) == "Cn" for sign in text):
                raise DataError(_not_decodable(source, utf, None))
            return Decoded(text, utf, "mark")
    if _ESCAPES.search(data):
        return _escaped(source)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return _decode_other(source, error)
    return _decode_other(source, None) if "\0" in text else Decoded(text, "utf-8", "utf-8")


def _escaped(source: _Source) -> Decoded:
    """Text whose bytes are all ASCII, with marks where another script begins.

    Raises:
        DataError: if it is in none of these encodings.
    """
    for name in ("iso2022_jp", "iso2022_jp_ext", "iso2022_kr", "iso2022_jp_2", "hz"):
        try:
            text = source.data.decode(name)
        except UnicodeDecodeError:
            continue
        if "\x1b" not in text and not text.isascii():
            return Decoded(text, name, "likely")
    raise DataError(_not_decodable(source, "UTF-8, ISO-2022-JP, ISO-2022-KR, HZ", None))


def _named(source: _Source, encoding: str) -> str:
    try:
        text = source.data.decode(encoding).removeprefix("\ufeff")
        text.encode("utf-8")  # UTF-7 and others can hold halves of characters
    except UnicodeDecodeError as error:
        raise DataError(_not_decodable(source, encoding, error)) from None
    except UnicodeEncodeError:
        raise DataError(_not_decodable(source, encoding, None)) from None
    except (LookupError, ValueError):
        raise DataError(
            say("encoding: Python knows no encoding '{value}'. Usual are utf-8, gb18030, big5, utf-16.", value=encoding)
        ) from None
    private = PRIVATE_USE.search(text)
    if private is not None and codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        raise DataError(
            say(
                "{path}:{line}: has characters that no script knows when it is read as {encoding} ({sample}), so it is something else.",
                path=source.path,
                line=text[: private.start()].count("\n") + 1,
                encoding=encoding,
                sample=_excerpt(text, private.start()),
            )
        )
    return text


def _decode_other(source: _Source, reason: UnicodeDecodeError | None) -> Decoded:
    data = source.data
    zeros = [data[i::2].count(0) / max(1, len(data) // 2) for i in (0, 1)]
    if max(zeros) > 0.02:
        name = "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
        try:
            text = data.decode(name)
        except UnicodeDecodeError as error:
            raise DataError(_not_decodable(source, name.upper(), error)) from None
        if "\0" not in text:
            return Decoded(text, name, "likely")
    if "\0" in data.decode("latin-1") or (reason is not None and _is_damaged_utf8(data)):
        raise DataError(_not_decodable(source, "UTF-8, UTF-16, GB18030", reason))
    best, *others = readings(data)
    close = [one for one in others if one.likelihood > best.likelihood - SURE and one.text != best.text]
    settled = not (best.bad or close or best.typical < TYPICAL)
    if not settled and (wide := _bare_utf16(data)):
        return wide
    few = best.bad <= 2 or best.bad * 20 <= sum(c > "\x7f" for c in best.text)  # else it is another encoding, which is not looked for
    if best.bad and few and best.typical >= TYPICAL and not close:
        first = best.text.index("\ufffd")
        raise DataError(
            say(
                "{path}:{line}: a byte is damaged in what is otherwise {encoding} ({sample}). Mend that line, or save the file as UTF-8.",
                path=source.path,
                line=best.text[:first].count("\n") + 1,
                encoding=best.encoding.upper(),
                sample=_excerpt(best.text, first),
            )
        )
    if not settled:
        raise DataError(_unsure(source, [one for one in (best, *others) if not one.bad], reason))
    return Decoded(best.text, best.encoding, "likely")


def _bare_utf16(data: bytes) -> Decoded | None:
    """UTF-16 without a mark and without a single Latin letter or blank, whose zeros would tell: nearly all of it is common Chinese or
    Japanese."""
    for name in ("utf-16-le", "utf-16-be"):
        try:
            text = data.decode(name)
        except UnicodeDecodeError:
            continue
        kinds = [shared(c) or HANZI(c) for c in text.removesuffix("\n")]
        known = sum(kind in ("ascii", "mark", "common") or "\u3041" <= c <= "\u30ff" for c, kind in zip(text, kinds, strict=False))
        if len(kinds) >= _FEWEST and known >= 0.95 * len(kinds):
            return Decoded(text, name, "likely")
    return None


def sample_of(text: str) -> str:
    """A piece of a text around its first foreign character, as it may be shown."""
    return _excerpt(text, _first_foreign(text))


def _unsure(source: _Source, candidates: list[Reading], reason: UnicodeDecodeError | None) -> str:
    if not candidates:
        return _not_decodable(source, "UTF-8, UTF-16, GB18030", reason)
    shown = "; ".join(f'encoding: {one.encoding} → "{_excerpt(one.text, _first_foreign(one.text))}"' for one in candidates[:4])
    return say(
        "{path}: is not UTF-8, and what it is cannot be told for sure. Write the line that reads rightly into the config: {candidates}; "
        "or another, such as cp1251 or koi8-r. Or save the file as UTF-8.",
        path=source.path,
        candidates=shown,
    )


def _not_decodable(source: _Source, tried: str, error: UnicodeDecodeError | None) -> str:
    line = source.data[: error.start].count(b"\n") + 1 if error is not None else 1
    return say(
        "{path}:{line}: is not text in {tried}. Save it as UTF-8, or set encoding to what it is (big5, for example).",
        path=source.path,
        line=line,
        tried=tried,
    )


def _is_damaged_utf8(data: bytes) -> bool:
    """Whether nearly all that is not ASCII is UTF-8: other encodings hardly ever look like it."""
    text = data.decode("utf-8", "replace")
    foreign = len(text) - len(text.encode("ascii", "ignore"))
    return text.count("\ufffd") * 3 < foreign


def _first_foreign(text: str) -> int:
    return next((i for i, c in enumerate(text) if c > "\x7f"), 0)


def _excerpt(text: str, at: int) -> str:
    piece = text[max(0, at - 6) : at + 18]
    return " ".join("".join("�" if unicodedata.category(c) in ("Co", "Cc") and c not in "\n\r\t" else c for c in piece).split())
