# SPDX-License-Identifier: Apache-2.0
"""Before a run it is said whether its hold-out will do for a verdict, by the rule of the comparison itself."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from loraforge.evaluation import bootstrap, foresight


def known(rows: int, held: int, *, ratio: float = 0.2, groups: int | None = None, learned: int = 0):
    """A plan and data with so many rows held out, in ``groups`` groups, of which ``learned`` have an answer that is learned."""
    places = list(range(held))
    split = SimpleNamespace(groups=[i % (groups or rows) for i in range(rows)], known=frozenset(places[:learned]))
    data = SimpleNamespace(records=[None] * rows, split=split, pick=lambda heldout: places)
    return SimpleNamespace(config=SimpleNamespace(eval_ratio=ratio), task=SimpleNamespace(items="pictures")), data


@pytest.mark.parametrize("held", range(1, 12))
def test_what_is_said_before_is_what_the_comparison_says_after(held):
    plan, data = known(5 * held, held)
    compared = bootstrap.compare(
        "loss", [1.0 + i for i in range(held)], [0.5 + i / 2 for i in range(held)], list(range(held)), lower_is_better=True
    )
    assert bool(foresight.too_few(plan, data)) is compared.too_few


def test_five_pictures_are_told_how_many_it_takes():
    (line,) = foresight.too_few(*known(5, 1))
    assert line.startswith("1 picture is held out, 1 of them independent: too few")
    assert "it takes 8." in line and "eval_ratio: 0.2 that is about 40 pictures; here are 5." in line and "Or set" not in line
    (line,) = foresight.too_few(*known(20, 4))
    assert line.endswith(" Or set eval_ratio: 0.4. Training goes on all the same.")


def test_near_duplicates_and_learned_answers_are_no_observations():
    assert "12 pictures are held out, 3 of them independent" in foresight.too_few(*known(60, 12, groups=3))[0]
    assert "12 pictures are held out, 7 of them independent" in foresight.too_few(*known(60, 12, learned=5))[0]
    assert not foresight.too_few(*known(60, 12, learned=4))


def test_rows_that_stand_together_are_counted_together_in_the_advice_too():
    """20 topics in three wordings each: the 60 rows are 20 observations, and 8 of these are four rows in ten."""
    (line,) = foresight.too_few(*known(60, 7, groups=20))
    assert "eval_ratio: 0.2 that is about 120 pictures; here are 60. Or set eval_ratio: 0.4." in line
    assert "Or set" not in foresight.too_few(*known(60, 7, groups=9))[0]
    assert "Or set" not in foresight.too_few(*known(30, 7, groups=14, ratio=0.8))[0]  # it is set already


def test_nothing_held_out_is_said_too():
    assert foresight.too_few(*known(60, 0, ratio=0)) == [
        "nothing is held out, so whether the adapter is better than the base will not be told."
    ]


def test_check_says_it(project, command):
    code, out, _ = command("check", "text", project())
    assert code == 0 and "too few to tell whether the adapter is better" in out
