# SPDX-License-Identifier: Apache-2.0
"""One question with answers that cannot both be right."""

from __future__ import annotations

import pytest
from builders.text_checks import AGREEING, CONTRADICTING, Q, rows, run_check, severity
from loraforge_text.checks.contradictions import conflict


@pytest.mark.parametrize(("first", "second"), CONTRADICTING)
def test_contradictions_are_found_either_way(first, second):
    assert conflict(first, second) and conflict(second, first)
    found = run_check("contradictions", rows((Q, first), ("请问，" + Q.replace("？", "?"), second)))
    assert [f.rows for f in found] == [(1, 0)] and severity("contradictions", found[0]) == "warning"


@pytest.mark.parametrize(("first", "second"), AGREEING)
def test_answers_that_can_both_be_right_do_not_contradict(first, second):
    assert not conflict(first, second) and not conflict(second, first)


def test_the_reason_names_both_sides():
    found = run_check("contradictions", rows((Q, CONTRADICTING[0][0]), (Q, CONTRADICTING[0][1])))
    assert "《劳动合同法》46" in found[0].message and "《劳动合同法》47" in found[0].message and "row 2" in found[0].message
    assert run_check("contradictions", rows((Q, "可以。"), ("试用期最长几个月？", "不可以。"))) == []
