# SPDX-License-Identifier: Apache-2.0
"""Nothing in a name or a path becomes a heading, a link, a tag or a cell."""

from __future__ import annotations

import pytest

from loraforge.audit.markdown import code, items, number, plain, table, text


@pytest.mark.parametrize(("value", "shown"), [("a\n# b\t c ", "a # b c"), ("a\x1bb\u200bc", "a b c"), (3, "3"), (None, "None"), ("", "")])
def test_one_line_of_what_shows(value, shown):
    assert plain(value) == shown


@pytest.mark.parametrize("sign", list(r"\`*_[]<>|#~!&$"))
def test_every_sign_with_a_meaning_loses_it(sign):
    assert text(f"a{sign}b{sign}") == f"a\\{sign}b\\{sign}"
    assert text("a.b-c(d)，“e”") == "a.b-c(d)，“e”"


@pytest.mark.parametrize(
    ("value", "shown"),
    [("a", "`a`"), ("a`b", "``a`b``"), ("a``b`c", "```a``b`c```"), ("`a", "`` `a ``"), ("a`", "`` a` ``"), ("a|b", "`a\\|b`"), ("", "–"), (0, "`0`"), ("*a*", "`*a*`")],
)  # fmt: skip
def test_a_name_as_it_is_written(value, shown):
    assert code(value) == shown


def test_tables_and_items():
    assert table(("a", "b"), [("1", "2"), ("3", "4")]) == ["| a | b |", "|---|---|", "| 1 | 2 |", "| 3 | 4 |"] and table(("a",), []) == []
    assert items([("a", "1"), ("b", None), ("c", ""), ("d", "2")]) == ["- a: 1", "- d: 2"]


@pytest.mark.parametrize(
    ("value", "shown"), [(1.23456, "1.235"), (2.0, "2.000"), (7, "7"), (True, "True"), (None, "–"), ("a*", "a\\*"), (-0.5, "-0.500")]
)
def test_figures(value, shown):
    assert number(value) == shown
