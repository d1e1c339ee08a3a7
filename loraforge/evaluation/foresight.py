# SPDX-License-Identifier: Apache-2.0
"""Before a run: what its comparison with the base will be able to tell, by the rule that the comparison itself goes by."""

from __future__ import annotations

import math

from ..data.dataset import Data
from ..messages import speaker
from ..plan import Plan
from .bootstrap import FEWEST_GROUPS

say = speaker(__name__)

_MOST = 0.5  # a larger share held out leaves too little to learn


def independent(data: Data) -> int:
    """How many observations the verdict will rest on: groups of held-out rows whose answer is not learned."""
    return len({data.split.groups[i] for i in data.pick(True) if i not in data.split.known})


def too_few(plan: Plan, data: Data) -> list[str]:
    """A remark on a hold-out from which no verdict can be given, and what would give one."""
    held, groups, rows = len(data.pick(True)), independent(data), len(data.records)
    if groups >= FEWEST_GROUPS:
        return []
    ratio, items = plan.config.eval_ratio, say(plan.task.items)
    if not held:
        text = say("nothing is held out, so whether the adapter is better than the base will not be told.")
    else:
        text = say(
            "{held} {items} are held out, {groups} of them independent: too few to tell whether the adapter is better than the base; it "
            "takes {fewest}.",
            held=held, items=items, groups=groups, fewest=FEWEST_GROUPS,
        )  # fmt: skip
    if not ratio or data.split.known:
        return [text]
    there = len(set(data.split.groups))  # what is held out is so many of these, whatever the number of their rows
    needed = math.ceil(FEWEST_GROUPS / ratio * rows / there)
    text += say(
        " With eval_ratio: {ratio:g} that is about {needed} {items}; here are {rows}.", ratio=ratio, needed=needed, items=items, rows=rows
    )
    share = math.ceil(100 * FEWEST_GROUPS / there) / 100
    if ratio < share <= _MOST:
        text += say(" Or set eval_ratio: {share:g}.", share=share)
    return [text + say(" Training goes on all the same.")]
