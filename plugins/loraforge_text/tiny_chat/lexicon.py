# SPDX-License-Identifier: Apache-2.0
"""Reads the texts under ``data/`` that the corpus of tiny-chat is put together from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Topic:
    """A subject people ask about: its canonical name, other wordings, and the field it belongs to."""

    name: str
    wordings: tuple[str, ...]
    sources: tuple[str, ...]
    field: str


@dataclass(frozen=True)
class Rule:
    """One rule of an invented rulebook, with questions it answers."""

    book: str
    number: int
    text: str
    questions: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """Facts of one kind: a sentence with the places {k} and {v}, question patterns, and the pairs."""

    answer: str
    questions: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Concept:
    """A word with its synonyms."""

    name: str
    synonyms: tuple[str, ...]


def _sections(file: str) -> list[tuple[str, list[str]]]:
    """The ``# heading`` sections of a data file and their lines."""
    sections: list[tuple[str, list[str]]] = []
    for line in (DATA / file).read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            sections.append((line[2:], []))
        elif line.strip():
            sections[-1][1].append(line)
    return sections


@cache
def topics(file: str) -> tuple[Topic, ...]:
    """Topics of ``legal_topics.txt`` or ``medical_topics.txt``; `sources` are the statutes or the hospital departments of their field."""
    found = []
    for heading, lines in _sections(file):
        _, sources, field = heading.split("|")
        for line in lines:
            name, *wordings = line.split("|")
            found.append(Topic(name, tuple(wordings), tuple(sources.split(",")), field))
    return tuple(found)


@cache
def rules() -> tuple[Rule, ...]:
    """Rules of the invented rulebooks."""
    found = []
    for book, lines in _sections("rules.txt"):
        for line in lines:
            number, text, *questions = line.split("|")
            found.append(Rule(book, int(number), text, tuple(questions)))
    return tuple(found)


@cache
def facts() -> tuple[Facts, ...]:
    """General-knowledge facts by kind."""
    found = []
    for heading, lines in _sections("facts.txt"):
        answer, *questions = heading.split(":", 1)[1].split("|")
        pairs = [tuple(pair.replace("_", " ").split("=", 1)) for line in lines for pair in line.split()]
        found.append(Facts(answer, tuple(questions), tuple((key, value) for key, value in pairs)))
    return tuple(found)


@cache
def concepts(heading: str) -> tuple[Concept, ...]:
    """Words with synonyms under a heading of ``compose.txt``."""
    lines = dict(_sections("compose.txt"))[heading]
    entries = [entry.split("=", 1) for line in lines for entry in line.split()]
    return tuple(Concept(name, tuple(synonyms.split(","))) for name, synonyms in entries)


@cache
def phrases(heading: str) -> tuple[str, ...]:
    """Turns of phrase under a heading of ``phrases.txt``; there, ``~`` stands for nothing."""
    lines = dict(_sections("phrases.txt"))[heading]
    return tuple(phrase.replace("~", "") for line in lines for phrase in line.split("|"))


@cache
def terms() -> tuple[tuple[str, ...], ...]:
    """Lists of single words: legal, medical and everyday ones."""
    return tuple(tuple(" ".join(lines).split()) for _, lines in _sections("terms.txt"))


@cache
def small_talk() -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    """Things people say and the replies that fit, in pairs of alternatives."""
    lines = [line.split("=>") for line in (DATA / "chat.txt").read_text(encoding="utf-8").splitlines() if line.strip()]
    return tuple((tuple(said.split("|")), tuple(replies.split("|"))) for said, replies in lines)
