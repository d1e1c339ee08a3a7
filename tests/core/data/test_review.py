# SPDX-License-Identifier: Apache-2.0
"""The columns in which people say of a row who looked at it and what they decided."""

from __future__ import annotations

import pytest

from loraforge import Review
from loraforge.data.review import REVIEW_COLUMNS, decides, match_columns, read_review

COLUMNS = {"reviewer": "who", "approved": "ok?", "waive": "may stay"}


@pytest.mark.parametrize(
    ("names", "given", "decisions", "found", "doubtful"),
    [
        (["Reviewer", "APPROVED", "waive"], {}, (), {"reviewer": "Reviewer", "approved": "APPROVED", "waive": "waive"}, {}),
        (["reviewed_by", "通过", "豁免"], {}, (), {"reviewer": "reviewed_by", "approved": "通过", "waive": "豁免"}, {}),
        (["审核人", "复核人"], {}, (), {}, {"reviewer": ["审核人", "复核人"]}),
        (["审核人", "reviewer", "复核人"], {}, (), {"reviewer": "reviewer"}, {}),  # our own name is meant
        (["reviewer", "Reviewer "], {}, (), {}, {"reviewer": ["reviewer", "Reviewer "]}),
        (["审核"], {}, (), {"reviewer": "审核"}, {}),
        (["审核"], {}, ("审核",), {"approved": "审核"}, {}),  # it holds decisions, so it is no reviewer
        (["审核", "通过"], {}, ("审核", "通过"), {"approved": "通过"}, {}),  # what is called a decision comes first
        (["审核", "复核人"], {}, ("审核",), {"reviewer": "复核人", "approved": "审核"}, {}),
        (["reviewer", "x"], {"reviewer": "x"}, (), {"reviewer": "x"}, {}),  # known already
        (["reviewer"], {"question": "reviewer"}, (), {"question": "reviewer"}, {}),  # taken already
        (["something"], {}, ("something",), {}, {}),
    ],
)
def test_which_column_is_what(names, given, decisions, found, doubtful):
    assert match_columns(names, REVIEW_COLUMNS, given, decisions) == (found, doubtful)


@pytest.mark.parametrize(
    ("values", "are"),
    [(["yes", "no"], True), (["通过", "", None, "待审"], True), ([True, False, 1.0, "0"], True), (["Dr Li", "yes"], False), ([], False),
     (["待审", "-"], False), (["ＹＥＳ ", "☑️"], True)],
)  # fmt: skip
def test_a_column_of_decisions(values, are):
    assert decides(values) is are


@pytest.mark.parametrize(
    ("written", "approved"),
    [("yes", True), ("Y", True), (1, True), (1.0, True), (True, True), ("通过", True), ("☑️", True), ("✓", True), ("no", False), (0, False),
     (False, False), ("不通过", False), ("x", False), ("×", False), ("", None), (None, None), ("  ", None)],
)  # fmt: skip
def test_decisions(written, approved):
    problems: list[str] = []
    assert read_review({"approved": written}, COLUMNS, problems) == Review("", approved) and not problems


@pytest.mark.parametrize(
    ("written", "reviewer"),
    [("Dr Li", "Dr Li"), (["Dr Li", " ", "Dr Wu"], "Dr Li、Dr Wu"), ("待审核", ""), ("N/A", ""), ("-", ""), (None, ""), (7.0, "7"), (7.5, "7.5")],
)  # fmt: skip
def test_reviewers(written, reviewer):
    problems: list[str] = []
    assert read_review({"reviewer": written}, COLUMNS, problems) == Review(reviewer) and not problems


@pytest.mark.parametrize(
    ("written", "waived"),
    [("hedging", ("hedging",)), ("hedging, similar；hedging", ("hedging", "similar")), (["a_1", "b-2"], ("a_1", "b-2")), ("*", ("*",)), ("", ())],
)  # fmt: skip
def test_waivers(written, waived):
    problems: list[str] = []
    assert read_review({"waive": written}, COLUMNS, problems) == Review(waived=waived) and not problems


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"reviewer": "yes"}, "who: 'yes' is nobody's name"),
        ({"reviewer": ["Dr Li", "是"]}, "who: 'Dr Li, 是' is nobody's name"),
        ({"reviewer": {"name": "Li"}}, "who: expected text, found a dict"),
        ({"reviewer": [["Li"]]}, "who: expected text, found a list"),
        ({"approved": "perhaps"}, "ok?: 'perhaps' is no decision"),
        ({"approved": 2.0}, "ok?: '2' is no decision"),
        ({"approved": []}, "ok?: '[]' is no decision"),
        ({"approved": {}}, "ok?: '{}' is no decision"),
        ({"waive": "hedging, it is fine!"}, "may stay: 'fine!' is no check's name"),
        ({"waive": "1st"}, "may stay: '1st' is no check's name"),
        ({"waive": "**"}, "may stay: '**' is no check's name"),
        ({"waive": [{}]}, "may stay: expected text, found a list"),
    ],
)
def test_what_cannot_be_meant_is_told_once(values, told):
    problems: list[str] = []
    read_review(values, COLUMNS, problems)
    assert len(problems) == 1 and problems[0].startswith(told)
