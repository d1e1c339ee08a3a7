# SPDX-License-Identifier: Apache-2.0
"""What base against adapter comes to, in one word and a few sentences: being right leads, wording and loss follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..messages import speaker
from . import bootstrap

if TYPE_CHECKING:
    from ..plugin_api.task import Evaluation
    from .bootstrap import Comparison

say = speaker(__name__)

LOSS = "loss"
# The measures that are about being right decide "better" and "mixed"; without one, only nearness to the examples can be shown.
BETTER, WORSE, MIXED, NEARER, UNKNOWN, UNTOLD = "better", "worse", "mixed", "nearer", "no evidence", "cannot be told"


@dataclass(frozen=True)
class Judgement:
    """The verdict on a run.

    Attributes:
        verdict: ``better``: right more often than the base, and by no measure of that less often. ``worse``. ``mixed``: both. ``nearer``:
            nearer to the held-out examples by the headline or the loss, where nothing says what is right. ``no evidence``.
            ``cannot be told``: nothing new was held out.
        measure: what the verdict is about.
        lines: sentences, the verdict first.
    """

    verdict: str
    measure: str
    lines: tuple[str, ...]


def judge(comparisons: Sequence[Comparison], evaluation: Evaluation[Any], items: str) -> Judgement:
    """Sums up what was compared.

    The first of ``evaluation.truth`` that enough rows have leads: it alone can say ``better``, so that the chance of saying so by luck is
    that of one measure. Every other one can say ``worse``. A loss or a wording that improved changes neither.

    Args:
        comparisons: one per measure; the loss is among them. Empty if nothing new was held out.
        items: what rows are called.
    """
    if not comparisons:
        return Judgement(UNTOLD, evaluation.headline or LOSS, (untold(),))
    by = {c.measure: c for c in comparisons}
    right = [by[name] for name in evaluation.truth if name in by]
    lead = next((c for c in right if not c.too_few), None)
    if lead is None:
        return _by_nearness(by.get(evaluation.headline) or by[LOSS], right, comparisons, items)
    worse = [c for c in right if c.verdict == "worse"]
    told = lead if not worse or lead.verdict == "better" else worse[0]
    verdict = MIXED if worse and told is lead and lead.verdict == "better" else told.verdict
    if verdict == MIXED:
        lines = [say("Partly better and partly worse than the base, both in being right: read its answers. {figures}",
                     figures=bootstrap.figures(lead, items))]  # fmt: skip
    else:
        lines = [bootstrap.sentence(told, items)]
    improved = [c for c in comparisons if c.verdict == "better" and c not in right]
    if verdict in (WORSE, UNKNOWN) and improved:
        lines.append(
            say(
                "{measures}: better than the base, but that is how answers sound; that they are right more often is not shown.",
                measures=_listed(improved),
            )
        )
    return Judgement(verdict, told.measure, (*lines, *_worse(comparisons, told, items)))


def _by_nearness(lead: Comparison, right: Sequence[Comparison], comparisons: Sequence[Comparison], items: str) -> Judgement:
    """Where no measure of being right has enough rows."""
    worse = [c for c in right if (c.difference > 0) == c.lower_is_better and c.difference]
    if lead.verdict != "better":
        verdict, lines = lead.verdict, [bootstrap.sentence(lead, items)]
    elif worse:
        verdict = UNKNOWN
        lines = [say("No evidence that the adapter is better than the base: {measures} became worse, on too few {items} to be certain.",
                     measures=_listed(worse), items=say(items)),
                 bootstrap.figures(lead, items)]  # fmt: skip
    else:
        figures = bootstrap.figures(lead, items)
        verdict, lines = NEARER, [say("The adapter is nearer to the held-out examples than the base. {figures}", figures=figures)]
    if right and not worse:
        lines.append(
            say(
                "Whether it is right more often cannot be told: {measures} applies to {n} independent {items} only.",
                measures=say(right[0].measure),
                n=right[0].groups,
                items=say(items),
            )
        )
    return Judgement(verdict, lead.measure, (*lines, *_worse(comparisons, lead, items)))


def _worse(comparisons: Sequence[Comparison], told: Comparison, items: str) -> list[str]:
    """The other measures that became worse: what they show, without a second verdict."""
    return [
        say("Worse than the base: {figures}", figures=bootstrap.figures(c, items))
        for c in comparisons
        if c is not told and c.verdict == "worse"
    ]


def untold() -> str:
    """What is said where nothing new was held out."""
    return say(
        "Whether the adapter is better cannot be told: nothing new was held out. Every held-out question asks in other words for an answer "
        "that was learned."
    )


def _listed(comparisons: Sequence[Comparison]) -> str:
    return ", ".join(say(c.measure) for c in comparisons)
