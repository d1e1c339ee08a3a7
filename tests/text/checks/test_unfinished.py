# SPDX-License-Identifier: Apache-2.0
"""Answers that break off."""

from __future__ import annotations

import pytest
from builders.text_checks import PLAIN, rows, run_check, said, severity


@pytest.mark.parametrize("end", ["应当支付下列费用：", "应当支付经济补偿，", "依据《劳动合同法", "应当支付（包括加班费", "包括工资、"])
def test_answers_that_break_off(end):
    found = said("unfinished", end)
    assert len(found) == 1 and severity("unfinished", found[0]) == "warning"


def test_a_missing_full_stop_counts_only_where_the_others_have_one():
    data = rows(*PLAIN, ("为什么？", "因为合同期满后公司没有续签而且"), ("多少？", "三十日"), ("是否？", "应当支付全部费用（含税）"))
    found = run_check("unfinished", data)
    assert [(f.rows, severity("unfinished", f)) for f in found] == [((12,), "hint")]
    assert run_check("unfinished", rows(*((q, a.rstrip("。")) for q, a in PLAIN))) == []


@pytest.mark.parametrize(
    ("text", "mark"), [("我是{{name}}。", "{{name}}"), ("请致电${phone}。", "${phone}"), ("<image>这是什么？", "<image>")]
)
def test_placeholders_that_nobody_filled_in(text, mark):
    for row in ((text, "答案。"), ("问题？", text)):
        found = run_check("unfinished", rows(row))
        assert len(found) == 1 and mark in found[0].message
    assert run_check("unfinished", rows(("{a}与{b}？", "集合{1, 2}。"))) == []
