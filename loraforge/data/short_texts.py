# SPDX-License-Identifier: Apache-2.0
"""Many short texts of one hand, such as the captions of a folder: what one of them does not tell, the others do.

A caption of a few characters says little of its encoding. 一只猫 (a cat) in GB18030 is valid UTF-8, and a word of Korean may be Chinese. So
those that are not UTF-8 are weighed together, and each is read as all of them are unless it says something else clearly.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import DataError
from ..messages import speaker
from ..terminal import first_few
from .encodings import Decoded, decoded, sample_of
from .likelihood import LANGUAGES, SURE, TYPICAL, Reading, readings

say = speaker(__name__)

_BY_NAME = {language.encoding: language for language in LANGUAGES}
_PLAIN = 0.9  # the share of common characters with which the folder's encoding is taken for a text without trying others
_SWAYED = 8.0  # how much likelier, as a logarithm, another encoding may be where that of the folder makes sense too


@dataclass
class Texts:
    """The texts by name; those that cannot be read with the reason; and what to tell the user."""

    texts: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def decode_texts(files: Mapping[str, bytes], encoding: str = "auto") -> Texts:
    """Reads them, whatever they were saved as.

    Args:
        files: the bytes by what the user calls the file.
        encoding: ``auto``, or a name that Python knows.
    """
    found, problems = _each(files, encoding)
    if encoding != "auto":
        return Texts({name: one.text for name, one in found.items()}, problems)
    other = [name for name, data in files.items() if name in problems or found[name].sure == "likely" or _is_mixed(found[name])]
    common = _common({name: files[name] for name in other})
    for name in other:
        better = _as_the_others(files[name], common, found.get(name))
        if better is not None:
            found[name] = better
            problems.pop(name, None)
    notes = _told(found) + _doubtful(files, found, common)
    return Texts({name: one.text for name, one in found.items()}, problems, notes)


def _each(files: Mapping[str, bytes], encoding: str) -> tuple[dict[str, Decoded], dict[str, str]]:
    found: dict[str, Decoded] = {}
    problems: dict[str, str] = {}
    for name, data in files.items():
        try:
            found[name] = decoded(data, encoding, name)
        except DataError as error:
            problems[name] = str(error)
    return found, problems


def _common(files: Mapping[str, bytes]) -> str:
    """The encoding in which those texts together make sense; nothing, if that cannot be told."""
    pieces = [data for data in files.values() if b"\0" not in data]
    if not pieces:
        return ""
    best, *others = readings(b"\n".join(pieces))
    close = any(one.likelihood > best.likelihood - SURE and one.text != best.text for one in others)
    # Texts of two encodings, or one that is damaged, among many: what most of it is still shows.
    damaged = best.bad * 50 > len(best.text)
    return "" if close or damaged or best.typical < TYPICAL else best.encoding


def _as_the_others(data: bytes, common: str, own: Decoded | None) -> Decoded | None:
    """The text as the folder's encoding reads it, where that makes sense and nothing says clearly that it is another."""
    if not common or b"\0" in data or (own is not None and own.encoding == common):
        return None
    reading = Reading.of(data, _BY_NAME[common])
    if reading.bad or reading.typical < TYPICAL:
        return None
    if reading.typical < _PLAIN and readings(data)[0].likelihood - reading.likelihood > _SWAYED:
        return None
    return Decoded(reading.text, common, "likely")


def _is_mixed(one: Decoded) -> bool:
    """Whether what seems to be UTF-8 is none: foreign letters of two scripts side by side, as no language has them (一只猫 in GB18030 is
    a Cyrillic, a Hebrew and a Latin one)."""
    if one.encoding != "utf-8" or any(sign > "\u07ff" for sign in one.text):
        return False
    return any(
        a > "\x7f" and b > "\x7f" and {unicodedata.category(c)[0] for c in (a, b)} <= {"L", "M"} and _script(a) != _script(b)
        for a, b in itertools.pairwise(unicodedata.normalize("NFC", one.text))
    )


def _script(sign: str) -> str:
    return unicodedata.name(sign, "?").split()[0]


def _told(found: Mapping[str, Decoded]) -> list[str]:
    """A line for each encoding but UTF-8."""
    notes = []
    for other in sorted({one.encoding for one in found.values()} - {"utf-8", "utf-8-sig"}):
        those = [name for name, one in found.items() if one.encoding == other]
        notes.append(
            say(
                '{n} captions are read as {encoding}, because they are not UTF-8 ({names}): "{sample}"; if that looks wrong, set encoding, '
                "or save them as UTF-8",
                n=len(those),
                encoding=other.upper(),
                names=first_few(those),
                sample=next((sample_of(found[name].text) for name in those if not found[name].text.isascii()), found[those[0]].text[:18]),
            )
        )
    return notes


def _doubtful(files: Mapping[str, bytes], found: dict[str, Decoded], common: str) -> list[str]:
    """Reads valid UTF-8 that may be the folder's other encoding all the same as most of the folder is read, and tells it."""
    if common not in ("gb18030", "big5hkscs", "cp932", "euc_jp", "cp949"):
        return []
    plain = [name for name, one in found.items() if one.encoding == "utf-8" and not one.text.isascii()]
    doubtful = [name for name in plain if _may_be(files[name], common)]
    if not doubtful:
        return []
    most = Counter("other" if one.encoding == common else "utf-8" if name in plain else "" for name, one in found.items())
    taken = common if most["other"] > most["utf-8"] - len(doubtful) else "utf-8"
    for name in doubtful:
        found[name] = Decoded(files[name].decode(taken), taken, "likely")
    return [
        say(
            "{n} short captions could be UTF-8 or {other} ({names}); they are read as {encoding}, like most of the folder",
            n=len(doubtful),
            other=common.upper(),
            names=first_few(doubtful),
            encoding=taken.upper(),
        )
    ]


def _may_be(data: bytes, common: str) -> bool:
    """Whether valid UTF-8 makes sense in another encoding too: as UTF-8 it holds no Chinese, Japanese or Korean at all; or as GB2312, whose
    common characters most captions keep to, it is text as well."""
    names: Sequence[str] = (common, "gb2312") if common == "gb18030" else (common,)
    reads = [_fits(data, name) for name in names]
    return reads[0] and (all(sign < "\u0800" for sign in data.decode("utf-8")) or (len(reads) > 1 and reads[1]))


def _fits(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
