# SPDX-License-Identifier: Apache-2.0
"""The examples that base and adapter are compared on: those of the run that are still in its data, and those of the run before."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from ..data import splitting
from ..data.lineage import parent_of
from ..errors import LoraForgeError, RunError
from ..messages import speaker
from ..plan import Plan, make_plan
from ..plugin_api.types import Record
from ..runs.opened import LoadedRun, load_run

if TYPE_CHECKING:
    from ..plugin_api.host import PluginHost

say = speaker(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Rows:
    """The run's examples that are still in its data, by side.

    Attributes:
        group: the cluster of rows that stayed on one side of each row, by its hash.
        all_held: how many rows the run held out.
        missing: how many of these are not in the data any more.
        earlier: held-out examples of the run that this one continues.
        earlier_group: their clusters.
        known: hashes of held-out rows whose answer was learned: they ask for it in other words.
        question: of each row the cluster of near-identical questions alone.
    """

    heldout: tuple[Record, ...]
    learned: tuple[Record, ...]
    group: Mapping[str, int]
    all_held: int = 0
    missing: int = 0
    earlier: tuple[Record, ...] = ()
    earlier_group: tuple[int, ...] = ()
    known: Collection[str] = ()
    question: Mapping[str, int] = field(default_factory=dict)

    def part(self, learned: bool) -> list[int]:
        """The places of the held-out rows whose answer was learned, or of those whose was not."""
        return [i for i, record in enumerate(self.heldout) if (record.content_hash() in self.known) is learned]

    def groups(self, records: Sequence[Record]) -> list[int]:
        """The clusters of ``records``: near-identical questions, and questions with one answer, are one observation, not several."""
        return [self.group.get(record.content_hash(), -1 - i) for i, record in enumerate(records)]


def find_rows(host: PluginHost, opened: LoadedRun, planned: Plan, limit: int | None) -> Rows:
    """The examples of a run that are still in its data, by side; at most ``limit`` held-out ones, the first in ``fair_order``."""
    mine = _recorded(opened)
    found = [r for r in planned.loader.load(planned.config, planned.keys, lambda text: None) if r.content_hash() in mine]
    sides = {side: [r for r in found if mine[r.content_hash()].get("split") == side] for side in (splitting.HELD_OUT, splitting.LEARNED)}
    group = {sha: int(row["group"]) for sha, row in mine.items() if isinstance(row.get("group"), int)}
    held = sides[splitting.HELD_OUT]
    count = sum(1 for row in mine.values() if row.get("split") == splitting.HELD_OUT)
    missing = max(0, count - len({r.content_hash() for r in held}))
    earlier = _earlier(host, opened, {sha for sha, row in mine.items() if row.get("split") == splitting.LEARNED})
    question = {sha: int(row["question"]) for sha, row in mine.items() if isinstance(row.get("question"), int)}
    known = _known(opened, mine, held, sides[splitting.LEARNED])
    asked = [held[i] for i in sorted(fair_order(held, known)[:limit])]
    return Rows(tuple(asked), tuple(sides[splitting.LEARNED]), group, count, missing, *_paired(spread(earlier, limit)), known, question)


def _known(opened: LoadedRun, mine: Mapping[str, Mapping[str, Any]], held: Sequence[Record], learned: Sequence[Record]) -> frozenset[str]:
    """The hashes of held-out rows whose answer was learned: as the run found it, or, for one of an earlier version, found now."""
    if all("answer_learned" in mine[record.content_hash()] for record in held):
        return frozenset(sha for sha, row in mine.items() if row.get("answer_learned") is True)
    fingerprint = splitting.fingerprinter(opened.task)
    rows = [*learned, *held]
    sides = [splitting.LEARNED] * len(learned) + [splitting.HELD_OUT] * len(held)
    return frozenset(rows[i].content_hash() for i in splitting.known([fingerprint(row) for row in rows], sides))


def _paired(rows: Sequence[tuple[Record, int]]) -> tuple[tuple[Record, ...], tuple[int, ...]]:
    return tuple(record for record, _ in rows), tuple(group for _, group in rows)


def _recorded(opened: LoadedRun) -> dict[str, Mapping[str, Any]]:
    """The rows of the manifest by their hash.

    Raises:
        RunError: if the manifest has none.
    """
    data = opened.manifest.get("data")
    rows = data.get("rows") if isinstance(data, Mapping) else None
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) and "sha256" in row for row in rows):
        raise RunError(say("{path} cannot be read: {error}.", path=opened.run.manifest_file, error=say("it lists no rows")))
    return {str(row["sha256"]): row for row in rows}


def spread(rows: Sequence[T], limit: int | None) -> list[T]:
    """At most ``limit`` of the rows, evenly over all of them."""
    if limit is None or len(rows) <= limit:
        return list(rows)
    return [rows[i * len(rows) // limit] for i in range(limit)]


def fair_order(records: Sequence[Record], known: Collection[str]) -> list[int]:
    """The places of the records in an order whose every beginning is a fair sample: drawn by their hashes, whatever order they stand in,
    and with as large a share of those whose answer was learned as they all have, to within one.

    Args:
        known: hashes of those whose answer was learned.
    """
    hashes = [record.content_hash() for record in records]
    drawn = sorted(range(len(records)), key=lambda i: (hashlib.sha256(f"asked first {hashes[i]}".encode()).digest(), i))
    parts = [[i for i in drawn if (hashes[i] in known) is learned] for learned in (False, True)]
    placed = [((rank + 0.5) / len(part), side, i) for side, part in enumerate(parts) for rank, i in enumerate(part)]
    return [i for _, _, i in sorted(placed)]


def _earlier(host: PluginHost, opened: LoadedRun, learned: Collection[str]) -> list[tuple[Record, int]]:
    """The held-out examples of the run before, with their clusters; none if its data are gone, or its adapter is another one by now.

    Args:
        learned: hashes of the rows that this run has learned.
    """
    parent = parent_of(start_of(opened))
    if parent is None or parent.digest() != _recorded_start(opened):
        return []
    try:
        before = load_run(host, parent.run.path)
        planned = make_plan(host, before.task.name, before.run.config_file, paths=False, exporting=False)
        rows = _recorded(before)
        records = list(planned.loader.load(planned.config, planned.keys, lambda text: None))
    except (LoraForgeError, KeyError, TypeError):
        return []
    held = [r for r in records if rows.get(r.content_hash(), {}).get("split") == splitting.HELD_OUT and r.content_hash() not in learned]
    return [(r, int(rows[r.content_hash()].get("group", -1 - i))) for i, r in enumerate(held)]


def start_of(opened: LoadedRun) -> str | None:
    """The adapter that the run began with, as its config named it."""
    start = opened.manifest.get("init_from_adapter")
    return start if isinstance(start, str) else None


def _recorded_start(opened: LoadedRun) -> str | None:
    """The hash of the adapter that the run began with."""
    lineage = opened.manifest.get("lineage")
    first = lineage[0] if isinstance(lineage, list) and lineage else None
    return first.get("adapter") if isinstance(first, Mapping) else None
