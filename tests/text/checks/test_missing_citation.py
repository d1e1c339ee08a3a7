# SPDX-License-Identifier: Apache-2.0
"""Answers without an article where the others cite one."""

from __future__ import annotations

from builders.text_checks import PLAIN, rows, run_check, severity


def test_a_missing_citation_is_a_finding_only_where_the_others_cite():
    found = run_check("missing_citation", rows(*PLAIN, ("可以要求补偿吗？", "可以。"), ("怎么算？", "按《工资支付暂行规定》计算。")))
    assert [(f.rows, severity("missing_citation", f)) for f in found] == [((12,), "warning"), ((13,), "hint")] and "86%" in found[0].message
    forms = (
        "根据民法典第500条。",
        "依據《民法典》第五百條。",
        "依据第五百条，《民法典》。",
        "See Article 500 of the Civil Code.",
        "根据《民法典》第十至十二条。",
        "依「民法典」第廿条。",
    )
    cited = run_check(
        "missing_citation", rows(*PLAIN, *((f"第{i}问？", form) for i, form in enumerate(forms)), ("无依据？", "按民法典办。"))
    )
    assert [(f.rows, severity("missing_citation", f)) for f in cited] == [((18,), "hint")]
    bare = [(q, a.split("根据")[0]) for q, a in PLAIN]
    assert run_check("missing_citation", rows(*bare, *PLAIN[:6])) == []
    assert run_check("missing_citation", rows(*bare[:2], *PLAIN[:5])) == []
