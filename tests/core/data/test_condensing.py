# SPDX-License-Identifier: Apache-2.0
"""The same complaint about many rows."""

from __future__ import annotations

import re

import pytest

from loraforge.data.condensing import condense


def lines(count: int, complaint: str = "'output' is empty.") -> list[str]:
    return [f"d.csv, row {i}: {complaint}" for i in range(count)]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_rows_stand_each_on_a_line(count):
    assert condense(lines(count)) == lines(count)


def test_many_rows_are_one_sentence_with_a_count_where_the_first_stood():
    made = condense(["b.csv, row 1: is odd.", *lines(60), "without a place", "without a place"])
    assert made == [
        "b.csv, row 1: is odd.",
        "d.csv, row 0: 'output' is empty. The same holds for 59 more rows: "
        "d.csv, row 1; d.csv, row 2; d.csv, row 3; d.csv, row 4; d.csv, row 5; ...",
        "without a place", "without a place",
    ]  # fmt: skip
    assert condense(lines(6))[0].endswith("row 5")


def test_numbers_in_a_complaint_may_differ_and_pictures_are_rows_too():
    made = condense([f"cat {i}.png: is {i * 7} x 20 pixels." for i in range(9)])
    assert len(made) == 1 and made[0].startswith("cat 0.png: is 0 x 20 pixels. The same holds for 8 more rows: cat 1.png;")


@pytest.mark.parametrize(("places", "each"), [(10, 2), (7, 3), (6, 1), (2, 5)])
def test_a_row_that_complains_twice_counts_and_is_named_once(places, each):
    [made] = condense([f"d.csv, row {i}: message {n}: is empty." for i in range(places) for n in range(each)])
    named = re.split("more rows?: ", made)[1].split("; ")
    assert f"for {places - 1} more row{'s' * (places > 2)}:" in made and len(set(named)) == len(named) and "row 0" not in named


def test_one_row_that_complains_often_is_one_line():
    assert condense(["d.csv, row 1: message 1: is empty."] * 9) == ["d.csv, row 1: message 1: is empty. The same holds 8 times more there."]
