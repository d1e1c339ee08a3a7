# SPDX-License-Identifier: Apache-2.0
"""Did training make a model forget what it knew? Probe questions with several answers, of which base and adapter each choose one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..messages import speaker
from . import bootstrap
from .bootstrap import Comparison
from .scoring import Scorer

say = speaker(__name__)

_KNOWS = 0.15  # a base that is less than this above guessing has nothing to forget that the questions could show


@dataclass(frozen=True)
class GeneralKnowledge:
    """Multiple-choice questions among the records of a ``Scorer``.

    Attributes:
        rows: for every question, the records with one of its answers each; the first is right.
        groups: for every question, what kind it is.
    """

    rows: tuple[tuple[int, ...], ...]
    groups: tuple[str, ...]

    def that_fit(self, scorer: Scorer) -> GeneralKnowledge:
        """Those whose answers can all be measured."""
        fitting = [i for i, choices in enumerate(self.rows) if all(scorer.fits(row) for row in choices)]
        return GeneralKnowledge(tuple(self.rows[i] for i in fitting), tuple(self.groups[i] for i in fitting))

    def compare(self, scorer: Scorer, adapter: str) -> dict[str, Any]:
        """Base and adapter each choose the answer that they find likeliest: shares that are right, with an interval and a sentence."""
        right: dict[str, list[float]] = {}
        for side, name in (("base", None), ("adapter", adapter)):
            losses = [scorer.losses(choices, name) for choices in self.rows]
            right[side] = [float(all(first < other for other in others)) for first, *others in losses]
        compared = bootstrap.compare("general knowledge", right["base"], right["adapter"], None)
        by_group = {
            group: {side: _mean([v for v, g in zip(values, self.groups, strict=True) if g == group]) for side, values in right.items()}
            for group in sorted(set(self.groups))
        }
        chance = _mean([1 / len(choices) for choices in self.rows])
        return {**compared.as_json(), "chance": chance, "by_group": by_group, "sentence": _forgot(compared, chance)}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _forgot(compared: Comparison, chance: float) -> str:
    if compared.base - chance < _KNOWS:
        return say(
            "General knowledge: the base itself knows little ({base:.0%} right, guessing gives {chance:.0%}), so nothing can be said "
            "of forgetting.",
            base=compared.base,
            chance=chance,
        )
    figures = {"base": f"{compared.base:.0%}", "adapter": f"{compared.adapter:.0%}", "n": compared.rows}
    if compared.verdict == "worse":
        return say(
            "General knowledge was forgotten: {base} of {n} questions right before, {adapter} after. Fewer epochs or a lower "
            "learning_rate forget less.",
            **figures,
        )
    return say("General knowledge: {base} of {n} questions right before, {adapter} after; no evidence of forgetting.", **figures)
