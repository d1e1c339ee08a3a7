# SPDX-License-Identifier: Apache-2.0
"""Rows that are one picture at several resolutions are looked at once: they are no copies of each other."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from loraforge import Finding, KeySet, RunConfig

from ..records import Picture

C = TypeVar("C")
Run = Callable[[C, RunConfig, KeySet, Sequence[Picture]], Iterable[Finding]]


def each_once(run: Run[C]) -> Run[C]:
    """Makes the ``run`` of a check see the first row of each picture alone."""

    @functools.wraps(run)
    def once(self: C, config: RunConfig, keys: KeySet, rows: Sequence[Picture]) -> Iterator[Finding]:
        seen: dict[tuple[str, bool], int] = {}
        for index, row in enumerate(rows):
            seen.setdefault((row.path, row.prior), index)
        first = list(seen.values())
        for finding in run(self, config, keys, [rows[index] for index in first]):
            yield replace(finding, rows=tuple(first[row] for row in finding.rows))

    return once
