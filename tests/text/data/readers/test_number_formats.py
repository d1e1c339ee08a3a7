# SPDX-License-Identifier: Apache-2.0
"""Formats that are not understood are not guessed, and none raises."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loraforge_text.data.readers.number_formats import as_shown, cell_text

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
        assert isinstance(as_shown(value, "".join(parts)), str | None)


@pytest.mark.parametrize(
    ("value", "code"), [(0.5, "# ?/?"), (1500, "0,"), (1e5, "0.00E+00"), (datetime.date(2024, 5, 1), "[DBNum1]yyyy年"), (5, "yyyy")]
)
def test_what_is_not_understood_is_not_guessed(value, code):
    assert as_shown(value, code) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(12.0, "12"), (True, "true"), (None, ""), (datetime.datetime(2024, 5, 1), "2024-05-01"), (datetime.timedelta(hours=30), "30:00")],
)
def test_values_without_a_format(value, text):
    assert cell_text(value) == text == as_shown(value, "General")


# As TEXT() of Excel shows Wednesday, 1 May 2024 in these formats; None where that depends on the computer.
@pytest.mark.parametrize(
    ("code", "text"),
    [("[$-409]mmmm d, yyyy", "May 1, 2024"), ("[$-409]d-mmm-yy;@", "1-May-24"), ("[$-809]dd mmmm yyyy", "01 May 2024"),
     ('[$-409]dddd, mmmm dd, yyyy', "Wednesday, May 01, 2024"), ("[$-en-US]mmm d, yyyy", "May 1, 2024"), ("[$-409]mmmmm-yy", "M-24"),
     ('[$-804]yyyy"年"m"月"d"日" dddd', "2024年5月1日 星期三"), ("[$-804]aaaa", "星期三"), ("[$-804]aaa;@", "三"), ("[$-zh-CN]mmmm", "五月"),
     ("[$-409]yyyy-mm-dd hh:mm", "2024-05-01 09:30"), ("[$-804]yyyy/m/d", "2024/5/1"), ("yyyy.mm.dd", "2024.05.01"),
     ("mm-dd-yy", None), ("m/d/yy h:mm", None), ("[$-F800]dddd, mmmm dd, yyyy", None), ("[$-F400]h:mm:ss AM/PM", None), ("[$-x-sysdate]dddd, mmmm dd, yyyy", None),
     ("d-mmm-yy", None), ("mmmm d, yyyy", None), ("[$-407]d. mmmm yyyy", None), ("aaaa", None), ("[$-411]ggge年m月d日", None)],
)  # fmt: skip
def test_days_in_the_format_of_a_country(code, text):
    assert as_shown(datetime.datetime(2024, 5, 1, 9, 30), code) == text
