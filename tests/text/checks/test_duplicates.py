# SPDX-License-Identifier: Apache-2.0
"""Rows that say the same twice."""

from __future__ import annotations

import pytest
from builders.text_checks import LEGAL, Q, rows, run_check
from loraforge_text.records import Conversation


def test_the_same_row_twice_is_said_once_for_each_copy():
    data = rows(
        (Q, LEGAL.replace("。根", "。  根")),
        ("另一个问题怎么办？", LEGAL),
        (f" {Q}\n", LEGAL.replace("。根", "。\n根")),
        (Q, LEGAL.replace("。根", "。 根")),
    )
    found = run_check("duplicates", data)
    assert [f.rows for f in found] == [(2, 0), (3, 0)] and "d.csv, row 2" in found[0].message
    assert run_check("near_duplicates", data) == [], "it is said once"


def test_another_context_is_another_question():
    first = Conversation(where="a", instruction="继续。", output=LEGAL, history=(("甲", "乙"),))
    second = Conversation(where="b", instruction="继续。", output=LEGAL, history=(("丙", "丁"),))
    material = [Conversation(where="c", instruction="总结。", output=LEGAL, input=text) for text in ("租赁合同", "买卖协议")]
    assert run_check("duplicates", [first, second, *material]) == []


@pytest.mark.parametrize(
    "other",
    [
        "劳动合同到期后公司不再续签,应当支付经济补偿吗?",
        "劳动合同到期后公司不再续签，应当支付经济补偿呢",
        "请问劳动合同到期后，公司不再续签，应当支付经济补偿吗？",
        "劳动合同到期后公司不再续签的应当支付经济补偿吗",
    ],
)
def test_width_punctuation_and_particles_make_no_new_question(other):
    found = run_check("near_duplicates", rows((Q, LEGAL), (other, LEGAL)))
    assert [f.rows for f in found] == [(1, 0)] and "%" in found[0].message


@pytest.mark.parametrize(
    "other",
    [
        "合同到期了公司不跟我续签，有补偿拿吗？",
        "试用期工资怎么算？",
        "劳动合同到期后公司仍要续签，应当支付经济补偿吗？",
    ],
)
def test_other_wordings_are_welcome(other):
    assert run_check("near_duplicates", rows((Q, LEGAL), (other, LEGAL))) == []


def test_a_table_of_cases_is_no_pile_of_duplicates():
    ages = [("零点二", 3), ("零点三", 5), ("零点四", 8)]
    data = rows(*((f"{age}岁儿童发热时每次口服对乙酰氨基酚混悬液的剂量是多少？", f"每次{dose}克。") for dose, age in ages))
    assert run_check("near_duplicates", data) == [] and run_check("contradictions", data) == []
    data = rows(("男方在离婚后可以探望由女方直接抚养的子女吗？", "可以。"), ("女方在离婚后可以探望由男方直接抚养的子女吗？", "不得探望。"))
    assert run_check("contradictions", data) == []
