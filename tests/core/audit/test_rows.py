"""Rows of two lists are matched."""

from __future__ import annotations

from loraforge.audit.rows import match


def test_rows_are_matched_by_their_neighbours():
    assert match(list("abcd"), list("abcd")) == ([], [], [], False)
    assert match(list("abcd"), list("aXcd")) == ([(1, 1)], [], [], False)
    assert match(list("abcd"), list("acXd")) == ([], [1], [2], False)
    assert match(list("abcde"), list("bXde")) == ([(2, 1)], [0], [], False)
    assert match(list("abc"), list("cab")) == ([], [], [], True)
    assert match(list("aab"), list("ab")) == ([], [0], [], False) or match(list("aab"), list("ab")) == ([], [1], [], False)
    assert match([], list("ab")) == ([], [], [0, 1], False)
