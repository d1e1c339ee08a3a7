"""Formats that are not understood leave a value as it is stored, and none raises."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loraforge_text.data.readers.number_formats import cell_text, shown

VALUES = [
    0.15,
    -3,
    0,
    1e20,
    12,
    datetime.datetime(2024, 5, 1, 9, 30),
    datetime.date(2024, 5, 1),
    datetime.time(9),
    datetime.timedelta(hours=30),
]


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(st.sampled_from(["0", "#", ",", ".", "%", "y", "m", "d", "h", "s", "年", '"', "\\", "[", "]", "$", ";", "E+", "/", "AM/PM", "@", "General", "_", "*", "?"]), max_size=12))  # fmt: skip
def test_no_format_raises(parts):
    for value in VALUES:
        assert isinstance(shown(value, "".join(parts)), str)


@pytest.mark.parametrize(
    ("value", "code"), [(0.5, "# ?/?"), (1500, "0,"), (1e5, "0.00E+00"), (datetime.date(2024, 5, 1), "[DBNum1]yyyy年"), (5, "yyyy")]
)
def test_what_is_not_understood_stays_as_stored(value, code):
    assert shown(value, code) == cell_text(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(12.0, "12"), (True, "true"), (None, ""), (datetime.datetime(2024, 5, 1), "2024-05-01"), (datetime.timedelta(hours=30), "30:00")],
)
def test_values_without_a_format(value, text):
    assert cell_text(value) == text == shown(value, "General")
