"""Text files to text, whatever they were saved as."""

from __future__ import annotations

import codecs
import functools
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from loraforge import DataError, speaker

from .rows import Source

say = speaker(__name__)

_PRIVATE_USE = re.compile("[\ue000-\uf8ff\U000f0000-\U0010fffd]")
_UTF_32 = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"))  # the first of them begins like UTF-16
# ISO-2022-JP and its like switch to another script by ESC $, HZ by ~{.
_ESCAPES = re.compile(rb"\x1b\$[@A-Z()]|~\{(?:[\x21-\x77][\x21-\x7e])+~\}")
_SAMPLE = 20_000  # characters that are looked at
_SURE = 4.0  # how much likelier the best reading must be than the second, as a logarithm
_TYPICAL = 0.65  # the share of its foreign characters that must be common ones
_GLUED = -4.0  # a foreign character right after a Latin letter: B超 is seldom, qu弾st is what a misread apostrophe makes
_BAD = -25.0  # the likelihood of a byte that the encoding does not know


def decode(source: Source, encoding: str, note: Callable[[str], None]) -> str:
    """The text of a file: UTF-8 or UTF-16 with or without BOM, otherwise the likeliest of ``LANGUAGES``.

    Args:
        encoding: ``auto``, or a name that Python knows.

    Raises:
        DataError: if it is no text in that encoding, or no encoding is clearly the likeliest.
    """
    data = source.data
    if encoding != "auto":
        return _named(source, encoding)
    for bom, name in ((codecs.BOM_UTF8, "utf-8-sig"), *_UTF_32, (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if data.startswith(bom):
            try:
                text = data.decode(name)
            except UnicodeDecodeError as error:
                raise DataError(_not_decodable(source, name, error)) from None
            note(say("{file}: read as {encoding}, because it begins with that byte order mark", file=source.name, encoding=name.upper()))
            return text
    if _ESCAPES.search(data):
        return _escaped(source, note)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return _decode_other(source, error, note)
    return _decode_other(source, None, note) if "\0" in text else text


def _escaped(source: Source, note: Callable[[str], None]) -> str:
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
            _tell(source, name, text, note)
            return text
    raise DataError(_not_decodable(source, "UTF-8, ISO-2022-JP, ISO-2022-KR, HZ", None))


def _named(source: Source, encoding: str) -> str:
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
    private = _PRIVATE_USE.search(text)
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


def _decode_other(source: Source, reason: UnicodeDecodeError | None, note: Callable[[str], None]) -> str:
    data = source.data
    zeros = [data[i::2].count(0) / max(1, len(data) // 2) for i in (0, 1)]
    if max(zeros) > 0.02:
        name = "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
        try:
            text = data.decode(name)
        except UnicodeDecodeError as error:
            raise DataError(_not_decodable(source, name.upper(), error)) from None
        if "\0" not in text:
            _tell(source, name, text, note)
            return text
    if "\0" in data.decode("latin-1") or (reason is not None and _is_damaged_utf8(data)):
        raise DataError(_not_decodable(source, "UTF-8, UTF-16, GB18030", reason))
    best, *others = sorted((_Reading.of(data, language) for language in LANGUAGES), key=lambda one: -one.likelihood)
    close = [one for one in others if one.likelihood > best.likelihood - _SURE and one.text != best.text]
    few = best.bad <= 2 or best.bad * 20 <= sum(c > "\x7f" for c in best.text)  # else it is another encoding, which is not looked for
    if best.bad and few and best.typical >= _TYPICAL and not close:
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
    if best.bad or close or best.typical < _TYPICAL:
        raise DataError(_unsure(source, [one for one in (best, *others) if not one.bad], reason))
    _tell(source, best.encoding, best.text, note)
    return best.text


def _tell(source: Source, encoding: str, text: str, note: Callable[[str], None]) -> None:
    note(
        say(
            '{file}: read as {encoding}, because it is not UTF-8: "{sample}"; if that looks wrong, set encoding',
            file=source.name,
            encoding=encoding.upper(),
            sample=_excerpt(text, _first_foreign(text)),
        )
    )


def _unsure(source: Source, candidates: list[_Reading], reason: UnicodeDecodeError | None) -> str:
    if not candidates:
        return _not_decodable(source, "UTF-8, UTF-16, GB18030", reason)
    shown = "; ".join(f'encoding: {one.encoding} → "{_excerpt(one.text, _first_foreign(one.text))}"' for one in candidates[:4])
    return say(
        "{path}: is not UTF-8, and what it is cannot be told for sure. Write the line that reads rightly into the config: {candidates}; "
        "or another, such as cp1251 or koi8-r. Or save the file as UTF-8.",
        path=source.path,
        candidates=shown,
    )


def _not_decodable(source: Source, tried: str, error: UnicodeDecodeError | None) -> str:
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


# --- likelihood ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Language:
    """How likely the characters of an encoding are: (share of a text, number of characters) for each class of them.

    Attributes:
        before: how likely the encoding is before a file is looked at, as a logarithm: a word or two do not tell Korean from Chinese.
    """

    encoding: str
    classify: Callable[[str], str]
    classes: Mapping[str, tuple[float, int]]
    before: float = 0.0

    def __hash__(self) -> int:
        return hash(self.encoding)


@dataclass(frozen=True)
class _Reading:
    """A file as one encoding reads it.

    Attributes:
        likelihood: the logarithm of how likely such a text is.
        typical: the share of its foreign characters that are common ones.
        bad: how many bytes mean nothing.
    """

    encoding: str
    text: str
    likelihood: float
    typical: float
    bad: int

    @classmethod
    def of(cls, data: bytes, language: Language) -> _Reading:
        text = data.decode(language.encoding, "replace")
        # What is plain ASCII to its end says nothing. Cut by bytes all readings would end at another character.
        start = max(0, next((i for i, byte in enumerate(data) if byte > 127), 0) - 1)
        piece = data[start : start + _SAMPLE].decode(language.encoding, "replace")
        likelihood, common, foreign = language.before, 0, 0
        before = "  "
        for character in piece:
            kind = language.classify(character)
            if kind == "letter" and not (before[0].isascii() or before[1].isascii()):
                kind = "rare"  # ÖÐ¹ú: hardly ever do three such letters stand together
            likelihood += _weight(language, kind)
            if character > "\x7f" and kind not in ("letter", "mark") and before[1].isascii() and before[1].isalpha():
                likelihood += _GLUED
            if character > "\x7f" and kind != "mark":
                foreign += 1
                common += kind in ("common", "letter", "kanji")
            before = before[1] + character
        private = _PRIVATE_USE.search(text) is not None
        if private:
            likelihood -= 1e6
        return cls(language.encoding, text, likelihood, common / foreign if foreign else 1.0, text.count("\ufffd") + private)


@functools.cache
def _weight(language: Language, kind: str) -> float:
    if kind == "bad":
        return _BAD
    share, count = language.classes.get(kind, (1e-6, 1000))
    return math.log(share / count)


def _shared(character: str) -> str | None:
    if character < "\x80":
        return "ascii" if character >= " " or character in "\t\r\n" else "bad"
    if character == "\ufffd":
        return "bad"
    if "\u3000" <= character <= "\u3011" or "\uff01" <= character <= "\uff5e" or character in "“”‘’—…·《》「」『』【】、。":
        return "mark"
    return None


def _by_bytes(codec: str, common: tuple[int, int], rare: tuple[int, int]) -> Callable[[str], str]:
    """Hanzi by where the national standard puts them: its first level holds those that are used daily, its second the others."""

    @functools.cache
    def classify(character: str) -> str:
        kind = _shared(character)
        if kind:
            return kind
        try:
            lead = character.encode(codec)[0]
        except UnicodeEncodeError:
            return "foreign"
        return "common" if common[0] <= lead <= common[1] else "second" if rare[0] <= lead <= rare[1] else "foreign"

    return classify


def _japanese(character: str) -> str:
    if "\u3041" <= character <= "\u30ff":
        return "common"
    return "foreign" if "\uff61" <= character <= "\uff9f" else _JIS(character)


def _euc_japanese(character: str) -> str:
    """Hanzi in GB2312 have the same bytes as kanji in EUC-JP; only the kana tell."""
    kind = _japanese(character)
    return "kanji" if kind == "common" and not "\u3041" <= character <= "\u30ff" else kind


def _korean(character: str) -> str:
    kind = _shared(character)
    if kind:
        return kind
    if "\uac00" <= character <= "\ud7a3":
        try:
            return "common" if len(character.encode("euc_kr")) == 2 else "second"
        except UnicodeEncodeError:
            return "second"
    return "hanja" if "\u4e00" <= character <= "\u9fff" else "foreign"


def _western(character: str) -> str:
    if character < "\x80" or character == "\ufffd":
        return _shared(character) or "ascii"
    return "letter" if character in "àâäáãåæçéèêëíìîïñóòôöõøœúùûüÿßÀÂÄÁÃÅÆÇÉÈÊËÍÎÏÑÓÔÖÕØŒÚÙÛÜ’‘“”–—…•€£§°«»·¿¡©®™" else "rare"


_JIS = _by_bytes("shift_jis", (0x88, 0x97), (0x98, 0xEA))
# The shares are round numbers: what decides are the sizes of the classes and that a wrong reading falls into rare ones. Plain ASCII
# weighs the same everywhere, so that a word of Chinese in a page of English counts as it would alone. Of the syllables of Korean and
# the letters of Japanese few are in use, hence their smaller numbers. Python's cp932 and cp949 are what Windows calls Shift-JIS and
# Korean; big5hkscs is Big5 with what Hong Kong and Windows added.
LANGUAGES = (
    Language(
        "gb18030",
        _by_bytes("gb2312", (0xB0, 0xD7), (0xD8, 0xF7)),
        {"ascii": (0.4, 95), "mark": (0.12, 80), "common": (0.55, 3755), "second": (0.02, 3008), "foreign": (0.002, 16000)},
    ),
    Language(
        "big5hkscs",
        _by_bytes("big5", (0xA4, 0xC6), (0xC9, 0xF9)),
        {"ascii": (0.4, 95), "mark": (0.12, 80), "common": (0.55, 5401), "second": (0.02, 7650), "foreign": (0.001, 5000)},
        -4,
    ),
    Language(
        "cp932",
        _japanese,
        {"ascii": (0.4, 95), "mark": (0.12, 80), "common": (0.55, 1500), "second": (0.02, 3390), "foreign": (0.002, 500)},
        -6,
    ),
    Language(
        "euc_jp",
        _euc_japanese,
        {
            "ascii": (0.4, 95),
            "mark": (0.12, 80),
            "common": (0.4, 170),
            "kanji": (0.2, 2965),
            "second": (0.01, 3390),
            "foreign": (0.001, 900),
        },
        -10,
    ),
    Language(
        "cp949",
        _korean,
        {
            "ascii": (0.4, 95),
            "mark": (0.08, 80),
            "common": (0.6, 1200),
            "second": (0.003, 8822),
            "hanja": (0.01, 4888),
            "foreign": (0.001, 900),
        },
        -8,
    ),
    Language("cp1252", _western, {"ascii": (0.4, 95), "letter": (0.07, 75), "rare": (0.0005, 40)}, -2),
)
