# SPDX-License-Identifier: Apache-2.0
"""Word lists that people edit. Their format is described at the head of each list (``colloquial.txt``)."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pydantic import Field

from loraforge import ConfigError, DataError, Keys, decode_text, speaker

from ..data.readers.rows import Source
from .folding import narrow

say = speaker(__name__)

SECTIONS = ("hedging", "colloquial", "abbreviations", "empty_phrases")
_HEADING = re.compile(r"^\[\s*(\w+)(\s+only)?\s*\]$", re.IGNORECASE)
# An answer that says so little beside the phrase says nothing.
_LITTLE = 30
_GAP = re.compile(r"…|\.\.\.")
# Short titles are searched: 《民诉法》 is an abbreviation itself.
_QUOTED = re.compile(r"《[^《》\n]{6,80}》|“[^“”\n]{1,24}”|「[^「」\n]{1,24}」|‘[^‘’\n]{1,24}’|\"[^\"\n]{1,24}\"")
_BLANK = "\0"


class WordListKeys(Keys):
    """The key of the checks that look for words: one class for all of them, because a key has one owner."""

    word_list: str | None = Field(
        None,
        description="Your own words for hedging, colloquial, abbreviations and empty_phrases: a text file that adds to the shipped lists.",
        json_schema_extra={"path": "input"},
    )


@dataclass(frozen=True)
class Entry:
    """One line of a list.

    Attributes:
        written: the word or phrase, as the list has it.
        better: what to write instead; empty if the list does not say.
        weak: only a hint.
        alone: counts only where the answer says little else.
    """

    written: str
    better: str = ""
    weak: bool = False
    alone: bool = False

    @functools.cached_property
    def literal(self) -> str:
        """Its longest piece without a gap, for a quick look whether it can be there at all."""
        piece = max(_GAP.split(self.written.rstrip("|")), key=len)
        return piece if self.exact else piece.lower()

    @property
    def exact(self) -> bool:
        """Whether case counts."""
        # CT is not "ct" but maybe is "Maybe".
        return any(c.isascii() and c.isupper() for c in self.written)

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        """Finds it in narrowed text: a gap bridges up to 20 characters of one sentence, Latin words count as wholes."""
        pieces = [re.escape(piece.strip()) for piece in _GAP.split(self.written.rstrip("|"))]
        text = r"[^。;!\n]{0,20}?".join(pieces)
        word = self.written.rstrip("|")
        text = (r"(?<![A-Za-z0-9])" if _latin(word[0]) else "") + text + (r"(?![A-Za-z0-9])" if _latin(word[-1]) else "")
        if self.written.endswith("|"):
            text += r"(?=[\s,.;:!?。、~)]|$)"
        return re.compile(text, 0 if self.exact else re.IGNORECASE)


@dataclass(frozen=True)
class Hit:
    """An entry where it was found: ``text[start:end]``."""

    entry: Entry
    start: int
    end: int


@dataclass(frozen=True)
class WordList:
    """The entries of one section, and the phrases inside which none of them counts."""

    entries: tuple[Entry, ...]
    exceptions: tuple[Entry, ...] = ()

    def find(self, text: str) -> list[Hit]:
        """The entries that the text contains, each once, in the order of the text; not in quotes, titles and exceptions."""
        plain = _QUOTED.sub(lambda match: _BLANK * len(match[0]), narrow(text))
        low = plain.lower()
        for exception in self.exceptions:
            if exception.literal in (plain if exception.exact else low):
                plain = exception.pattern.sub(lambda match: _BLANK * len(match[0]), plain)
                low = plain.lower()
        found: list[Hit] = []
        for entry in self.entries:
            if entry.literal not in (plain if entry.exact else low):
                continue
            if entry.alone and len(text) - len(entry.written) > _LITTLE:
                continue
            match = entry.pattern.search(plain)
            if match:
                found.append(Hit(entry, match.start(), match.end()))
        # The longer of two that overlap says it better: 考虑…不排除, not 不排除.
        found.sort(key=lambda hit: (hit.start - hit.end, hit.start))
        kept: list[Hit] = []
        for hit in found:
            if all(hit.end <= other.start or hit.start >= other.end for other in kept):
                kept.append(hit)
        return sorted(kept, key=lambda hit: hit.start)


def word_list(section: str, own: str | None) -> WordList:
    """The shipped list of one section, with the user's own file on top.

    Raises:
        ConfigError: if the file cannot be read or understood, with every line that is wrong.
    """
    return _merged(section, own, Path(own).stat().st_mtime_ns if own and Path(own).is_file() else 0)


@functools.lru_cache(maxsize=16)  # four checks read one file
def _merged(section: str, own: str | None, changed: int) -> WordList:
    lines = list(_shipped(section))
    if own:
        try:
            text = decode_text(Source.of(Path(own)).data, "auto", lambda note: None, str(own))
        except DataError as error:
            raise ConfigError([f"word_list: {problem}" for problem in error.problems]) from None
        added, alone = _sections(Path(own), text)[section]
        lines = added if alone else lines + added
    entries: dict[str, Entry] = {}
    exceptions: list[str] = []
    for line in lines:
        sign, rest = (line[0], line[1:].strip()) if line[0] in "?~!-" else ("", line)
        word, _, better = (part.strip() for part in narrow(rest).partition("="))
        if sign == "!":
            exceptions.append(word)
        elif sign == "-":
            entries.pop(word, None)
            if word in exceptions:
                exceptions.remove(word)
        else:
            entries[word] = Entry(word, better, weak=sign == "?", alone=sign == "~")
    return WordList(tuple(entries.values()), tuple(Entry(word) for word in sorted(exceptions, key=len, reverse=True)))


def _shipped(section: str) -> Sequence[str]:
    file = resources.files(__package__) / f"{section}.txt"
    return _sections(Path(f"{section}.txt"), file.read_text(encoding="utf-8"))[section][0]


def _sections(path: Path, text: str) -> dict[str, tuple[list[str], bool]]:
    """The lines of every section, and whether they stand instead of the shipped ones."""
    found: dict[str, tuple[list[str], bool]] = {name: ([], False) for name in SECTIONS}
    problems: list[str] = []
    current = ""
    for number, line in _lines(text):
        heading = _HEADING.match(line)
        if heading:
            current = heading[1].lower()
            if current not in SECTIONS:
                problems.append(
                    say(
                        "{path}:{line}: there is no list '{name}'. There are: {names}.",
                        path=path,
                        line=number,
                        name=current,
                        names=", ".join(SECTIONS),
                    )
                )
            elif heading[2]:
                found[current] = (found[current][0], True)
        elif not current:
            problems.append(
                say("{path}:{line}: which list is this for? Write its name in a line above, such as [colloquial].", path=path, line=number)
            )
        elif not line.lstrip("?~!- ").partition("=")[0].strip("|… ."):
            problems.append(say("{path}:{line}: there is no word in this line: '{text}'.", path=path, line=number, text=line))
        elif current in found:
            found[current][0].append(line)
    if problems:
        raise ConfigError(problems)
    return found


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Numbered lines without comments and blanks."""
    for number, line in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        if line:
            yield number, line


def _latin(character: str) -> bool:
    return character.isascii() and character.isalnum()
