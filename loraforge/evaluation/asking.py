# SPDX-License-Identifier: Apache-2.0
"""Base and adapter answer the same questions: several at once, both sides before the next ones, until time is up or all are answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..plugin_api.types import Answer, Record, prompt_of
from ..runs.opened import LoadedRun, watched

if TYPE_CHECKING:
    from ..plugin_api.models import InferenceModel

_FIRST = 2  # questions of the first batch, so that soon there is something to tell the time left by
_SHOWN = 1.0  # seconds between two reports from within a batch


class _TimeIsUp(Exception):
    """Ends a batch; its answers count nowhere."""


@dataclass
class Asked:
    """What was answered.

    Attributes:
        answers: of each side, to the questions at ``places``.
        places: of the questions that both sides answered, in the order of the questions.
        again: the adapter's answers to the first of the learned questions.
        cut: whether time was up before all had been answered.
    """

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    places: list[int] = field(default_factory=list)
    again: list[Answer] = field(default_factory=list)
    cut: bool = False


class Questioner:
    """Asks a model in batches as large as it takes, and says how far it is.

    Args:
        tick: called with (done, all) answers: before the first, from within a batch once a second, and after each.
        minutes: that all answers together may take; 0: any.
    """

    def __init__(
        self,
        opened: LoadedRun,
        model: InferenceModel,
        settings: dict[str, Any],
        total: int,
        tick: Callable[[int, int], None],
        minutes: float,
    ) -> None:
        self._opened, self._model, self._settings = opened, model, settings
        self._done, self._total, self._tick = 0, total, tick
        self._until = time.monotonic() + 60 * minutes if minutes else float("inf")
        self._told = time.monotonic()
        tick(0, total)

    def both(self, questions: Sequence[Record], order: Sequence[int], adapter: str) -> Asked:
        """The base's and the adapter's answers to the questions at the places in ``order``."""
        given: dict[int, tuple[Answer, Answer]] = {}
        asked = Asked()
        try:
            for batch in self._batches(order):
                some = [questions[i] for i in batch]
                before, after = self._answers(some, None), self._answers(some, adapter)
                given |= zip(batch, zip(before, after, strict=True), strict=True)
        except _TimeIsUp:
            asked.cut = True
        asked.places = sorted(given)
        asked.answers = {side: [given[i][number] for i in asked.places] for number, side in enumerate(("base", "adapter"))}
        return asked

    def again(self, questions: Sequence[Record], adapter: str, asked: Asked) -> None:
        """The adapter's answers to what it has learned, in ``asked``; as many as there is time for."""
        try:
            for batch in self._batches(range(len(questions))):
                asked.again += self._answers([questions[i] for i in batch], adapter)
        except _TimeIsUp:
            asked.cut = True

    def _batches(self, order: Sequence[int]) -> Iterator[Sequence[int]]:
        """The same ones in every comparison of these questions: who stands beside whom may change the last digits of a score."""
        size = int(getattr(self._model, "batch_size", 1))
        starts = [0, *range(min(_FIRST, size), len(order), size)]
        for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
            if start < end:
                yield order[start:end]

    def _answers(self, records: Sequence[Record], adapter: str | None) -> list[Answer]:
        prompts = [prompt_of(self._opened.template.render(record)) for record in records]
        self._watch(0)
        with watched(self._model, self._watch):
            given = self._model.generate(prompts, adapter, **self._settings)
        self._done += len(records)
        self._tick(self._done, self._total)
        return [answer if isinstance(answer, Answer) else Answer(str(answer)) for answer in given]

    def _watch(self, ended: int) -> None:
        now = time.monotonic()
        if now > self._until:
            raise _TimeIsUp
        if ended and now - self._told >= _SHOWN:
            self._told = now
            self._tick(self._done + ended, self._total)
