# SPDX-License-Identifier: Apache-2.0
"""An answer that comes in pieces is cut as the whole one would be."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from loraforge_serve.stops import StopText


@settings(max_examples=40)
@given(st.lists(st.text("ab \n答", max_size=4), max_size=12), st.lists(st.text("ab 答", min_size=1, max_size=4), max_size=3))
def test_pieces_make_what_the_whole_would(pieces, stops):
    shown = StopText(stops)
    told = "".join(shown.push(piece) for piece in pieces) + shown.rest()
    whole = "".join(pieces)
    # A stop text counts as soon as it is there, so the one that ends first, and of those the one that begins first.
    ends = [(whole.find(stop) + len(stop), whole.find(stop)) for stop in stops if stop in whole]
    if not ends:
        assert (told, shown.stopped) == (whole.strip(), False)
    else:
        assert shown.stopped
        assert told.strip() == told
        assert whole.lstrip().startswith(told)
        assert not any(stop in told for stop in stops)
        assert len(whole) - len(whole.lstrip()) + len(told) <= max(start for _, start in ends) or told == ""


def test_what_may_be_a_stop_or_a_blank_at_the_end_is_held_back():
    shown = StopText(["###"])
    assert [shown.push(piece) for piece in (" ", "答案 ", "是 #", "#x", "\n", "#", "##")] == ["", "答案", " 是", " ##x", "", "", ""]
    assert (shown.stopped, shown.rest()) == (True, "")
