# SPDX-License-Identifier: Apache-2.0
"""Answers that do not lead with the conclusion."""

from __future__ import annotations

import pytest
from builders.text_checks import PLAIN, rows, run_check


@pytest.mark.parametrize(
    "answer",
    [
        "根据《劳动合同法》第46条，公司应当支付经济补偿。",
        "《劳动合同法》第46条规定，公司应当支付经济补偿。",
        "依照我国法律规定，公司应当支付经济补偿。",
        "首先，要看双方有没有签订书面合同。",
        "关于经济补偿的问题，公司应当支付。",
        "这个问题比较复杂，公司应当支付。",
        "您好，公司应当支付经济补偿。",
        "我们先来看法律的规定，公司应当支付。",
        "According to Article 46, the employer must pay.",
    ],
)
def test_an_answer_that_does_not_lead_with_the_conclusion(answer):
    found = run_check("conclusion_first", rows(*PLAIN, ("可以要求补偿吗？", answer)))
    assert [f.rows for f in found] == [(12,)] and "92%" in found[0].message


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("可以要求补偿吗？", "依法应当支付经济补偿。"),
        ("依据是什么？", "《劳动合同法》第46条，期满不续签的应当支付。"),
        ("鼻出血怎么处理？", "首先要捏紧两侧鼻翼，然后张口呼吸。"),
        ("剂量怎么定？", "根据体重计算，每千克10毫克。"),
        ("首选什么药？", "首选肾上腺素。"),
        ("幼儿可以用吗？", "对于此类儿童禁用。"),
        ("哪部法律规定？", "根据《劳动法》的规定，由劳动部门处理。"),
        ("可以要求补偿吗？", "<think>首先，要看合同。</think>可以。"),
    ],
)
def test_good_openings(question, answer):
    assert run_check("conclusion_first", rows(*PLAIN, (question, answer))) == []


def test_another_style_is_a_style():
    reversed_ = [(q, "根据" + a.split("根据")[1]) for q, a in PLAIN]
    assert run_check("conclusion_first", rows(*reversed_)) == []
    assert run_check("conclusion_first", rows(*reversed_, *PLAIN[:3])) == [], "the others are in the minority"
    assert run_check("conclusion_first", rows(*PLAIN[:5], *reversed_[:1])) == [], "six rows show no style"
    greeting = [(q, "您好，" + a) for q, a in PLAIN]
    assert run_check("conclusion_first", rows(*PLAIN[:10], *reversed_[:5], *greeting[:5])) == [], "half of the rows are no rule"
    assert len(run_check("conclusion_first", rows(*PLAIN, *reversed_[:3]))) == 3
