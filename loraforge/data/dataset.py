# SPDX-License-Identifier: Apache-2.0
"""The examples of a run: read, reviewed, rendered, checked, split. Torch is not imported."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import ConfigError, DataError, LoraForgeError
from ..messages import speaker
from ..plan import Plan
from ..plugin_api.components import Template
from ..plugin_api.contracts import of_kind, owner_of
from ..plugin_api.models import Examination
from ..plugin_api.types import Record, Span
from . import findings, holdout, splitting
from .condensing import condense
from .findings import PlacedFinding
from .lineage import parent_of, require_adapter
from .patience import patiently
from .splitting import HELD_OUT, LEARNED, Split

say = speaker(__name__)


@dataclass(frozen=True)
class Data:
    """The examples of a run, rendered and looked at.

    Attributes:
        found: what the checks found.
        review: how many rows somebody answers for: ``reviewed``, ``unreviewed``, ``rejected``, and ``reviewers`` by name.
        skipped: the hashes of the rows that were left out.
        inherited: sides of questions of earlier runs that are no longer among the rows.
    """

    records: tuple[Record, ...]
    texts: tuple[Sequence[Span], ...]
    split: Split
    template: Template[Any]
    examination: Examination
    notes: tuple[str, ...]
    found: tuple[PlacedFinding, ...]
    review: dict[str, Any]
    skipped: tuple[str, ...] = ()
    inherited: dict[str, str] = field(default_factory=dict)

    def pick(self, heldout: bool) -> list[int]:
        """The indices of one side of the split."""
        return sorted(self.split.of(HELD_OUT if heldout else LEARNED))

    def shareable(self, rows: Sequence[int]) -> list[int]:
        """Those rows in which no check found what must not be handed on, waived or not."""
        private = {where for one in self.found if one.private for where in one.where}
        return [i for i in rows if self.records[i].where not in private]

    def learned(self) -> list[int]:
        """The indices of one pass over the training examples: those with repeats stand there as often."""
        return [i for i in self.pick(False) for _ in range(self.records[i].repeats)]

    def digest(self) -> str:
        """SHA-256 over the content of all rows, in order."""
        return hashlib.sha256("".join(record.content_hash() for record in self.records).encode()).hexdigest()

    def rows(self) -> list[dict[str, Any]]:
        """Every row for the manifest: where it stands, its hash, what it asks (hashed), its side and its cluster; where there is any, what
        it stands together by besides (hashed), and of a held-out one whether its answer is learned."""
        return [
            {
                "where": record.where,
                "sha256": record.content_hash(),
                "asks": self.split.keys[i],
                "split": self.split.sides[i],
                "group": self.split.groups[i],
                **({"question": self.split.questions[i]} if self.split.questions else {}),
                "reviewer": record.review.reviewer,
                **({"beside": self.split.companions[i]} if self.split.companions and self.split.companions[i] else {}),
                **({"answer_learned": i in self.split.known} if self.split.sides[i] == HELD_OUT else {}),
            }
            for i, record in enumerate(self.records)
        ]


def load_data(
    plan: Plan, note: Callable[[str], None] | None = None, *, stop: bool = True, progress: Callable[[str], None] | None = None
) -> Data:
    """Reads, renders, examines, checks and splits the examples.

    Args:
        note: told each decision; without it an error tells them too, as they may say why rows are bad or none is left.
        stop: whether findings of the checks that stop a run are raised.
        progress: told how far a slow template is.

    Raises:
        DataError: with every row that cannot be used, unless ``on_bad_row`` is skip; and with the findings that stop a run.
    """
    notes: list[str] = []

    def remember(text: str) -> None:
        notes.append(text)
        if note is not None:
            note(text)

    try:
        return _load(plan, notes, remember, stop, progress)
    except (DataError, ConfigError) as error:
        if note is not None or not notes:
            raise
        raise type(error)([*error.problems, *(say("note: {text}", text=text) for text in notes)]) from None


def _load(plan: Plan, notes: Sequence[str], remember: Callable[[str], None], stop: bool, progress: Callable[[str], None] | None) -> Data:
    """See ``load_data``."""
    early: list[str] = []
    try:
        records: list[Record] = list(plan.loader.load(plan.config, plan.keys, remember))
    except DataError as error:
        early = condense(error.problems)
        records = _sound_rows(plan)
        if not records:
            raise DataError(early) from None
    if not records:
        raise DataError(say("there are no examples in {path}.", path=plan.config.metadata_path or plan.config.train_data_dir))
    of_kind(owner_of(plan.loader), plan.loader, records, plan.task.record)
    every = records
    records = _accepted(records, remember)
    try:
        template = plan.template.prepare(plan.config, plan.keys, records)
        texts, examination, problems = _examine(plan, template, records, progress)
    except LoraForgeError as error:
        raise (DataError([*early, *error.problems]) if early else error) from None
    good = [i for i in range(len(records)) if i not in problems]
    kept = tuple(records[i] for i in good)
    found = findings.run_checks(plan, kept)
    lapsed = findings.lapsed(plan, found)
    if lapsed:
        remember(
            say("{n} reasons in {path} hold no longer: their rows or findings have changed since.", n=lapsed, path=plan.config.waivers)
        )
    for name, where in findings.unknown_waivers(plan, kept).items():
        remember(say("{where}: waives '{name}', but there is no such check; `loraforge list` names them.", where=where, name=name))
    stops = findings.explain(findings.stopping(found, plan.config.stop_on)) if stop else []
    bad = len(problems)
    lines = condense(f"{records[i].where}: {problems[i]}" for i in sorted(problems))
    if early:
        raise DataError([*early, *lines, *stops])
    if lines and plan.config.on_bad_row == "stop":
        hint = say("on_bad_row: skip leaves such rows out and goes on.")
        raise DataError([*lines, say("{n} of {all} rows cannot be used. {hint}", n=bad, all=len(records), hint=hint), *stops])
    for line in lines:
        remember(say("skipped: {line}", line=line))
    if not good:
        raise DataError([*lines, say("no row can be used.")])
    if stops:
        raise DataError(stops)
    if examination.shown:
        examination = Examination({}, examination.facts, [examination.shown[i] for i in good], examination.lines)
    parted, inherited = _split(plan, kept, remember)
    review = _review([*kept, *(record for record in every if record.review.approved is False)])
    there = {record.where for record in kept}
    skipped = tuple(record.content_hash() for record in every if record.where not in there)
    return Data(kept, tuple(texts[i] for i in good), parted, template, examination, tuple(notes), found, review, skipped, inherited)


def _split(plan: Plan, records: Sequence[Record], note: Callable[[str], None]) -> tuple[Split, dict[str, str]]:
    """The sides of the rows, how they came about and every leak told; and the sides of earlier runs' questions that are not among them.

    Raises:
        DataError: if ``split_by`` names a column that there is not.
    """
    if not plan.family.adapter_files:
        require_adapter(plan.config.init_from_adapter, plan.config.lora_rank)
    parent = parent_of(plan.config.init_from_adapter)
    if parent is None and plan.config.init_from_adapter:
        note(say("init_from_adapter: no run is around that adapter, so nobody knows what it has learned; held-out rows may be among it."))
    elif parent is not None and not parent.knows_questions:
        note(say("the earlier run is of an earlier version: of its rows, only those that are exactly the same are recognised."))
    before = parent.sides() if parent else {}
    by, values = holdout.wanted(plan.config.split_by, records)
    fingerprints = [splitting.fingerprinter(plan.task)(record) for record in records]
    keys = [splitting.key_of(fingerprint) for fingerprint in fingerprints]
    beside = tuple(splitting.companions(one, by, value) for one, value in zip(fingerprints, values, strict=True))
    fixed = [
        _given(record, before.get(key) or before.get(record.content_hash()) or _of_any(before, others))
        if record.can_be_held_out
        else splitting.LEARNED
        for key, record, others in zip(keys, records, beside, strict=True)
    ]
    given = any(record.side == HELD_OUT for record in records)
    parted = splitting.split(fingerprints, 0 if given else plan.config.eval_ratio, fixed, by, values)
    earlier = {i for i in parted.of(HELD_OUT) if before and any(before.get(one) == LEARNED for one in beside[i])}
    parted = replace(parted, companions=beside, known=parted.known | earlier)
    for line in condense(_leak(leak, records) for leak in parted.leaks):
        note(line)
    for line in holdout.explained(parted, fingerprints, by, 0 if given else plan.config.eval_ratio, given):
        note(line)
    inherited = {*keys, *(one for others in beside for one in others)}
    return parted, {key: side for key, side in before.items() if key not in inherited}


def _of_any(before: Mapping[str, str], names: Sequence[str]) -> str | None:
    """The side that the earlier run gave one of the answers of a row, or its group; learned, if it gave both."""
    sides = {before[name] for name in names if name in before}
    return LEARNED if LEARNED in sides else next(iter(sides), None)


def _given(record: Record, before: str | None) -> str | None:
    """The side that the data or the earlier run gives a row; ASIDE if they say different things."""
    sides = {side for side in (record.side, before) if side}
    return splitting.ASIDE if len(sides) > 1 else next(iter(sides), None)


def _leak(leak: splitting.Leak, records: Sequence[Record]) -> str:
    """A row that is kept out of both sides, and why."""
    row = records[leak.row]

    def other(index: int) -> str:
        return records[index].where if index != leak.row else say("a row of the earlier run")

    learned, heldout = other(leak.learned), other(leak.heldout)
    if leak.learned == leak.heldout:
        return say("{row}: the data give it another side than the earlier run did; it is kept out of both.", row=row.where)
    if row.side == LEARNED and leak.learned == leak.row:
        return say("{row}: is nearly the same as {heldout}, which is held out, so it is not learned.", row=row.where, heldout=heldout)
    if row.side == HELD_OUT and leak.heldout == leak.row:
        return say("{row}: is nearly the same as {learned}, which is learned, so it is not held out.", row=row.where, learned=learned)
    return say(
        "{row}: is nearly the same as {learned}, which is learned, and as {heldout}, which is held out; it is kept out of both.",
        row=row.where,
        learned=learned,
        heldout=heldout,
    )


def _review(records: Sequence[Record]) -> dict[str, Any]:
    """How many rows somebody answers for."""
    rejected = sum(1 for record in records if record.review.approved is False)
    reviewed = sum(1 for record in records if record.review.passed)
    names = Counter(record.review.reviewer for record in records if record.review.reviewer)
    return {
        "reviewed": reviewed,
        "approved": sum(1 for record in records if record.review.approved),
        "rejected": rejected,
        "unreviewed": len(records) - reviewed - rejected,
        "reviewers": dict(sorted(names.items())),
    }


def _accepted(records: list[Record], note: Callable[[str], None]) -> list[Record]:
    """The rows without those that somebody rejected, which is told.

    Raises:
        DataError: if none is left.
    """
    kept = [record for record in records if record.review.approved is not False]
    if not kept:
        raise DataError(say("every row is marked as not approved; there is nothing to learn."))
    gone = [record.where for record in records if record.review.approved is False]
    if gone:
        note(say("left out because they are marked as not approved: {rows}", rows="; ".join(gone)))
    return kept


def _sound_rows(plan: Plan) -> list[Record]:
    """The rows that could be read of data that has bad ones, so that what is wrong with these is told in the same breath."""
    try:
        return list(plan.loader.load(plan.config.model_copy(update={"on_bad_row": "skip"}), plan.keys, lambda text: None))
    except DataError:
        return []


def _examine(
    plan: Plan, template: Template[Any], records: Sequence[Record], progress: Callable[[str], None] | None
) -> tuple[list[Sequence[Span]], Examination, dict[int, str]]:
    """The text of every row, what the model family says of them, and the rows that cannot be used with the reason."""
    texts: list[Sequence[Span]] = []
    problems: dict[int, str] = {}
    for index, record in enumerate(patiently(records, progress)):
        if plan.config.require_review and not record.review.passed:
            problems[index] = say("nobody answers for it: it names no reviewer and is not approved (require_review is on).")
        try:
            texts.append(template.render(record))
            if not texts[-1]:
                problems[index] = say("the template '{name}' makes no text of it.", name=template.name)
        except DataError as error:
            texts.append(())
            problems[index] = str(error)
    examination = plan.family.examine(plan.config, plan.keys, list(zip(records, texts, strict=True)))
    return texts, examination, {**examination.problems, **problems}
