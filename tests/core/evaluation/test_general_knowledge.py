# SPDX-License-Identifier: Apache-2.0
"""Probe questions with several answers: what counts as right, as guessing, and as forgotten."""

from __future__ import annotations

import pytest

from loraforge.evaluation.general_knowledge import GeneralKnowledge


class Losses:
    """Stands for a Scorer: the loss of every record under each side; those that are None do not fit."""

    def __init__(self, base, adapter=()):
        self._sides = {None: base, "a": adapter}

    def losses(self, rows, adapter):
        return [self._sides[adapter][row] for row in rows]

    def fits(self, row):
        return self._sides[None][row] is not None


def asked(base_right: int, adapter_right: int, count: int = 40):
    def side(right):
        return [0.1 if (choice == 0) == (i < right) else 1.0 for i in range(count) for choice in range(4)]

    probe = GeneralKnowledge(tuple(tuple(range(4 * i, 4 * i + 4)) for i in range(count)), ("zh",) * 10 + ("en",) * (count - 10))
    return probe.compare(Losses(side(base_right), side(adapter_right)), "a")


@pytest.mark.parametrize(("right", "said"), [(16, "no evidence of forgetting"), (15, "knows little (38% right, guessing gives 25%)")])
def test_less_than_fifteen_points_above_guessing_is_nothing_to_forget(right, said):
    assert said in asked(right, right)["sentence"]


def test_every_figure_is_its_own():
    found = asked(30, 5)
    assert (found["base"], found["adapter"], found["chance"], found["rows"], found["measure"]) == (
        0.75,
        0.125,
        0.25,
        40,
        "general knowledge",
    )
    assert found["by_group"] == {"en": {"base": 20 / 30, "adapter": 0.0}, "zh": {"base": 1.0, "adapter": 0.5}} and list(
        found["by_group"]
    ) == ["en", "zh"]
    assert found["sentence"].startswith("General knowledge was forgotten: 75% of 40 questions right before, 12% after.")
    assert asked(30, 36)["sentence"] == "General knowledge: 75% of 40 questions right before, 90% after; no evidence of forgetting."
    better = asked(20, 40)
    assert better["verdict"] == "better" and "no evidence of forgetting" in better["sentence"]


@pytest.mark.parametrize(
    ("losses", "right"), [([1, 2, 3], 1.0), ([2, 2, 3], 0.0), ([2, 3, 2], 0.0), ([3, 2, 1], 0.0), ([2, 3, 1], 0.0), ([1, 3, 2], 1.0)]
)
def test_the_first_answer_is_right_if_it_is_likelier_than_each_other(losses, right):
    found = GeneralKnowledge(((0, 1, 2),), ("g",)).compare(Losses(losses, [9, 0, 0]), "a")
    assert (found["base"], found["adapter"]) == (right, 0.0)


def test_guessing_follows_from_the_number_of_answers():
    found = GeneralKnowledge(((0, 1), (0, 1, 2, 3)), ("a", "b")).compare(Losses([1] * 4, [1] * 4), "a")
    assert found["chance"] == pytest.approx((1 / 2 + 1 / 4) / 2)


def test_questions_with_an_answer_that_is_too_long_are_left_out():
    probe = GeneralKnowledge(((0, 1), (2, 3), (4, 5), (6, 7)), ("a", "b", "c", "d"))
    assert probe.that_fit(Losses([1, 1, None, 1, 1, None, 1, 1])) == GeneralKnowledge(((0, 1), (6, 7)), ("a", "d"))
