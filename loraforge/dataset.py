"""The examples of a run: read, rendered, looked at, split. Torch is not imported."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import DataError, LoraForgeError
from .interfaces import Examination, Template
from .messages import speaker
from .planning import Plan
from .types import Record, Span

say = speaker(__name__)


@dataclass(frozen=True)
class Data:
    """The examples of a run, rendered and looked at. ``heldout`` are indices of ``records``."""

    records: tuple[Record, ...]
    texts: tuple[Sequence[Span], ...]
    heldout: frozenset[int]
    template: Template[Any]
    examination: Examination
    notes: tuple[str, ...]

    def pick(self, heldout: bool) -> list[int]:
        """The indices of one side of the split."""
        return [i for i in range(len(self.records)) if (i in self.heldout) == heldout]

    def learned(self) -> list[int]:
        """The indices of one pass over the training examples: those with repeats stand there as often."""
        return [i for i in self.pick(False) for _ in range(self.records[i].repeats)]

    def digest(self) -> str:
        """SHA-256 over the content of all rows, in order."""
        return hashlib.sha256("".join(record.fingerprint() for record in self.records).encode()).hexdigest()


def load_data(plan: Plan, note: Callable[[str], None] = lambda text: None) -> Data:
    """Reads, renders, examines and splits the examples.

    Raises:
        DataError: with every row that cannot be used, unless ``on_bad_row`` is skip.
    """
    notes: list[str] = []

    def remember(text: str) -> None:
        notes.append(text)
        note(text)

    early: list[str] = []
    try:
        records: list[Record] = list(plan.loader.load(plan.config, plan.keys, remember))
    except DataError as error:
        early = list(error.problems)
        records = _sound_rows(plan)
        if not records:
            raise
    if not records:
        raise DataError(say("there are no examples in {path}.", path=plan.config.metadata_path or plan.config.train_data_dir))
    try:
        template = plan.template.prepare(plan.config, plan.keys, records)
        texts, examination, problems = _examine(plan, template, records)
    except LoraForgeError as error:
        raise (DataError([*early, *error.problems]) if early else error) from None
    lines = [f"{records[i].where}: {problems[i]}" for i in sorted(problems)]
    if early:
        raise DataError([*early, *lines])
    if lines and plan.config.on_bad_row == "stop":
        hint = say("on_bad_row: skip leaves such rows out and goes on.")
        raise DataError([*lines, say("{n} of {all} rows cannot be used. {hint}", n=len(lines), all=len(records), hint=hint)])
    for line in lines:
        remember(say("skipped: {line}", line=line))
    good = [i for i in range(len(records)) if i not in problems]
    if not good:
        raise DataError([*lines, say("no row can be used.")])
    if examination.shown:
        examination = Examination({}, examination.facts, [examination.shown[i] for i in good])
    kept = tuple(records[i] for i in good)
    return Data(kept, tuple(texts[i] for i in good), split(kept, plan.config.eval_ratio), template, examination, tuple(notes))


def _sound_rows(plan: Plan) -> list[Record]:
    """The rows that could be read of data that has bad ones, so that what is wrong with these is told in the same breath."""
    try:
        return list(plan.loader.load(plan.config.model_copy(update={"on_bad_row": "skip"}), plan.keys, lambda text: None))
    except DataError:
        return []


def _examine(plan: Plan, template: Template[Any], records: Sequence[Record]) -> tuple[list[Sequence[Span]], Examination, dict[int, str]]:
    """The text of every row, what the model family says of them, and the rows that cannot be used with the reason."""
    texts: list[Sequence[Span]] = []
    problems: dict[int, str] = {}
    for index, record in enumerate(records):
        try:
            texts.append(template.render(record))
        except DataError as error:
            texts.append(())
            problems[index] = str(error)
    examination = plan.family.examine(plan.config, plan.keys, list(zip(records, texts, strict=True)))
    return texts, examination, {**examination.problems, **problems}


def split(records: Sequence[Record], ratio: float) -> frozenset[int]:
    """The indices that are held out: those whose content hash falls below ``ratio``.

    A row's side depends on that row alone, so it stays when rows are appended, and equal rows never stand on both sides. Very small
    data still get one held-out row.
    """
    if ratio <= 0 or len(records) < 2:
        return frozenset()
    points = [int(record.fingerprint()[32:48], 16) / 16**16 for record in records]
    chosen = frozenset(i for i, point in enumerate(points) if point < ratio)
    if len(chosen) == len(records):
        return chosen - {max(chosen, key=lambda i: points[i])}
    if not chosen:
        lowest = min(points)
        chosen = frozenset(i for i, point in enumerate(points) if point == lowest)
    return chosen if len(chosen) < len(records) else frozenset()
