# SPDX-License-Identifier: Apache-2.0
"""Who waits for slow rows is told how far they are, and nobody else."""

from __future__ import annotations

import pytest

from loraforge.data import patience


@pytest.fixture
def clock(monkeypatch):
    """Time that passes when it is told to."""
    now = [1000.0]
    monkeypatch.setattr(patience.time, "monotonic", lambda: now[0])

    def passes(seconds: float) -> None:
        now[0] += seconds

    return passes


def said(rows: int, seconds, clock) -> list[str]:
    told: list[str] = []
    for index, row in enumerate(patience.patiently(range(rows), told.append)):
        assert row == index
        clock(seconds(index) if callable(seconds) else seconds)
    return told


def test_rows_that_take_no_time_are_silent(clock):
    assert said(10_000, 0.001, clock) == []
    assert said(1, 100, clock) == []


def test_a_minute_is_counted_down(clock):
    assert said(60, 1, clock) == [
        "15 of 60 rows are rendered, about 45 s left",
        "30 of 60 rows are rendered, about 30 s left",
        "45 of 60 rows are rendered, about 15 s left",
    ]


def test_what_takes_long_is_said_once_by_the_first_rows(clock):
    told = said(1000, 2, clock)
    assert told[0].startswith("the template takes 2.0 s for each row, about 33 min 20 s for all 1000, before anything is trained.")
    assert told[1] == "8 of 1000 rows are rendered, about 33 min 4 s left"
    assert sum("the template takes" in one for one in told) == 1 and len(told) == 1 + 1999 // 16
    # After 15 of so many rows of a second each three minutes are left, or one second more.
    assert [said(rows, 1, clock)[0].startswith("the template takes") for rows in (195, 196)] == [False, True]


def test_rows_that_become_slow_are_told_from_then_on(clock):
    told = said(100, lambda index: 0.0 if index < 90 else 4.0, clock)
    assert told == ["94 of 100 rows are rendered, about 1 s left", "98 of 100 rows are rendered, about 1 s left"]


def test_nobody_needs_to_listen(clock):
    assert list(patience.patiently("ab", None)) == ["a", "b"]
