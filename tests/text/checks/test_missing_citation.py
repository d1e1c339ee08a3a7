"""Answers without an article where the others cite one."""

from __future__ import annotations

from builders.text_checks import PLAIN, rows, run_check, severity


def test_a_missing_citation_is_a_finding_only_where_the_others_cite():
    found = run_check("missing_citation", rows(*PLAIN, ("可以要求补偿吗？", "可以。"), ("怎么算？", "按《工资支付暂行规定》计算。")))
    assert [(f.rows, severity("missing_citation", f)) for f in found] == [((12,), "warning"), ((13,), "hint")] and "86%" in found[0].message
    bare = [(q, a.split("根据")[0]) for q, a in PLAIN]
    assert run_check("missing_citation", rows(*bare, *PLAIN[:6])) == []
    assert run_check("missing_citation", rows(*bare[:2], *PLAIN[:5])) == []
