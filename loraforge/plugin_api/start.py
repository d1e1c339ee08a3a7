# SPDX-License-Identifier: Apache-2.0
"""How somebody begins with a task: ``loraforge init``, and ``--example`` of ``check`` and ``train``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from ..config.schema import KeySet, RunConfig
from .components import ModelFamily
from .types import Record

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class ConfigLine:
    """One line of a config that is written for somebody.

    Attributes:
        why: the comment behind it, in the user's language: what the key is, or why it has this value.
    """

    key: str
    value: Any
    why: str = ""


@dataclass(frozen=True)
class Seen(Generic[R]):
    """What was seen of somebody's data: they were read, rendered and examined as ``check`` does it.

    Attributes:
        config, keys: the values under which that was done.
        records: the rows that can be used.
        learned: how many examples one pass has, repeats included.
        facts: those of the family's ``Examination``.
    """

    config: RunConfig
    keys: KeySet
    family: ModelFamily
    records: Sequence[R]
    learned: int
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Given:
    """A config of another program, as its ``OtherTrainer`` gets it.

    Attributes:
        values: by key; sections are taken apart already.
        read: the values of another file that a value names: relative to the working directory, or to the config's folder or one around it.
            None: there is no such file, or nothing that can be read.
        find: where such a file or folder is, or None.
    """

    values: Mapping[str, Any]
    read: Callable[[str], Mapping[str, Any] | None]
    find: Callable[[str], Path | None]


@dataclass(frozen=True)
class Translation:
    """What such a config says, in keys that ours know: by their own names, or by what other programs call them (``aliases``).

    Attributes:
        values: what was given; the core renames and converts them by the tables that hold for every config.
        defaults: our keys with the values that the program takes where nothing is given.
        origins: for keys of ``values`` that the config has under another name or inside of another value, that key.
        used: keys of the config that only say how others are meant.
        lost: what has no counterpart, by the config's own key, each with a sentence that says why or what to do.
        notes: other sentences that somebody should read.
    """

    values: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    used: Sequence[str] = ()
    lost: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class OtherTrainer:
    """A program whose configs ``loraforge init --from`` takes.

    Attributes:
        name: as people call it.
        marks: keys of which its configs hold some and those of others none or fewer.
    """

    name: str
    marks: frozenset[str]
    translate: Callable[[Given], Translation]


@dataclass(frozen=True)
class Start(Generic[R]):
    """How somebody begins with a task. Every part has a default; without any, ``init`` writes the keys of every run.

    Attributes:
        base: the base of a config that is written before anybody has chosen one.
        lines: what a first config for a base says beside, or instead of, the keys of every run.
        probe: values of keys under which data are looked at, so that nothing is refused that ``suggest`` is to decide.
        guess: lines with which data could perhaps be read that cannot be read without; they are taken only if that is so.
        suggest: the lines that follow from the data; each takes the place of the line of the same key. Imports no torch.
        examples: the configs that ``--example`` knows, by name; the data of each lie where its ``train_data_dir`` says, from its folder.
        trainers: whose configs can be translated.
    """

    base: str = ""
    lines: Callable[[str], Sequence[ConfigLine]] = field(default=lambda base: ())
    probe: Mapping[str, Any] = field(default_factory=dict)
    guess: Callable[[RunConfig, KeySet], Sequence[ConfigLine]] = field(default=lambda config, keys: ())
    suggest: Callable[[Seen[R]], Sequence[ConfigLine]] = field(default=lambda seen: ())
    examples: Callable[[], Mapping[str, Path]] = field(default=lambda: {})
    trainers: tuple[OtherTrainer, ...] = ()
