# SPDX-License-Identifier: Apache-2.0
"""How the hold-out is explained, and its two parts."""

from __future__ import annotations

import pytest

from loraforge.data import holdout, splitting
from loraforge.data.splitting import HELD_OUT, LEARNED, Split
from loraforge.data.wording import lesson
from loraforge.errors import DataError
from loraforge.plugin_api.types import Fingerprint, Record


def records(*groups):
    return [Record(where=f"row {i}", group=group) for i, group in enumerate(groups)]


def test_what_split_by_names():
    assert holdout.wanted("auto", records("a", None)) == ("auto", [None, None])
    assert holdout.wanted(" question ", records("a"))[0] == "question"
    assert holdout.wanted("patient", records("a ", None, " b\nc", "")) == ("patient", ["a", None, "b c", None])
    with pytest.raises(DataError, match="split_by: no row says anything in a column 'patient'"):
        holdout.wanted("patient", records(None, ""))


def split(sides: str, groups=None, known=()) -> Split:
    named = tuple({"l": LEARNED, "h": HELD_OUT}[c] for c in sides)
    return Split(named, tuple(groups or range(len(sides))), tuple(sides), (), frozenset(known))


def prints(*answers):
    return [Fingerprint(str(i), frozenset({i}), lessons=(lesson(answer),) if answer else ()) for i, answer in enumerate(answers)]


LONG = "应当在三十日内提出书面申请，逾期不予受理。"


@pytest.mark.parametrize(
    ("by", "said"),
    [("auto", "near-identical questions and near-identical answers stay"), ("answer", "near-identical questions and near-identical answers stay"),
     ("question", "near-identical questions stay"), ("topic", "near-identical examples and those with one topic stay")],
)  # fmt: skip
def test_one_line_says_what_was_done(by, said):
    (line,) = holdout.explained(split("llhh", [0, 1, 2, 2], {2}), prints(*[LONG] * 4), by, 0.2, False)
    assert (
        line.startswith("held out: 2 of 4 rows; ")
        and said in line
        and line.endswith("(3 groups); the answers of 1 of them are never learned")
    )


def test_a_given_hold_out_pictures_and_none_at_all():
    (line,) = holdout.explained(split("llh", None, {2}), prints(*[LONG] * 3), "auto", 0, True)
    assert line == "held out: 1 of 3 rows, as the data say; the answers of 0 of them are never learned"
    (line,) = holdout.explained(split("llh"), prints("", "", ""), "auto", 0.2, False)
    assert "near-identical examples stay" in line and "answers" not in line, "a task without answers"
    assert holdout.explained(split("lll"), prints("", "", ""), "auto", 0, False) == []


def test_classes_are_named():
    answers = ["是"] * 6 + ["否"] * 7 + ["也许"] * 5
    (line,) = holdout.explained(split("lh" * 9), prints(*answers), "auto", 0.2, False)
    assert "answers such as “否” “是” count as classes" in line
    (line,) = holdout.explained(split("lh" * 9), prints(*answers), "answer", 0.2, False)
    assert "classes" not in line


@pytest.mark.parametrize(
    ("by", "advice"),
    [("auto", "split_by: question"), ("answer", "split_by: question"), ("question", "test.csv"), ("topic", "a column with more values")],
)
def test_one_huge_group_is_told_with_what_to_set(by, advice):
    lines = holdout.explained(split("llll", [0, 0, 0, 0]), prints(*[LONG] * 4), by, 0.2, False)
    assert lines[0].startswith("no row could be held out") and lines[1].startswith("4 of 4 rows are one group") and advice in lines[1]
    lines = holdout.explained(split("l" * 10 + "hhh", [0] * 10 + [10, 11, 12]), prints(*[LONG] * 13), by, 0.2, False)
    assert len(lines) == 2 and lines[1].startswith("10 of 13 rows are one group") and advice in lines[1]
    for groups in ([0] * 9 + [9, 10, 11, 12], [0] * 10 + list(range(10, 30))):
        sides = "lh" * (len(groups) // 2) + "l" * (len(groups) % 2)
        assert len(holdout.explained(split(sides, groups), prints(*[LONG] * len(groups)), by, 0.2, False)) == 1


def test_each_measure_has_its_two_lines():
    found = {
        "comparisons": [{"measure": "loss"}, {"measure": "hits"}],
        "reworded": [{"measure": "hits"}, {"measure": "loss"}, {"measure": "more"}],
    }
    lines = [(one["measure"], new) for new, one in holdout.in_parts(found)]
    assert lines == [("loss", True), ("loss", False), ("hits", True), ("hits", False), ("more", False)]
    assert holdout.in_parts({"comparisons": [{"measure": "loss"}]}) == [(True, {"measure": "loss"})], "as earlier versions wrote it"
    assert holdout.in_parts({"comparisons": None, "reworded": "x"}) == []
    assert holdout.part_name(True, 3) == "never learned (3)" and "in other words (0)" in holdout.part_name(False, 0)


def test_the_values_that_name_no_column_are_those_of_the_key():
    assert {splitting.AUTO, splitting.ANSWER, splitting.QUESTION} == {"auto", "answer", "question"}
