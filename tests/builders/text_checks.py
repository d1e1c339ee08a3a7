# SPDX-License-Identifier: Apache-2.0
"""Rows for the checks of the text task, and what a check says of them."""

from __future__ import annotations

from loraforge_text.checks import checks
from loraforge_text.checks.wordlists import WordListKeys
from loraforge_text.records import Conversation

from loraforge import Finding, KeySet, RunConfig

CHECKS = {check.name: check for check in checks()}


LEGAL = "公司应当支付经济补偿。根据《劳动合同法》第46条，合同期满公司不续签的，应当支付。"


def rows(*pairs: tuple[str, str], **more) -> list[Conversation]:
    return [Conversation(where=f"d.csv, row {i}", instruction=q, output=a, **more) for i, (q, a) in enumerate(pairs, 2)]


def run_check(name: str, data: list[Conversation], **keys) -> list[Finding]:
    config = RunConfig(train_data_dir="x", base_model="x")
    return list(CHECKS[name].run(config, KeySet({RunConfig: config, WordListKeys: WordListKeys(**keys)}), data))


def said(name: str, answer: str, **keys) -> list[Finding]:
    return run_check(name, rows(("问题是什么？", answer)), **keys)


def severity(name: str, finding: Finding) -> str:
    return finding.severity or CHECKS[name].severity


Q = "劳动合同到期后公司不再续签，应当支付经济补偿吗？"


CONTRADICTING = [
    ("应当支付。根据《劳动合同法》第46条。", "应当支付。根据《劳动合同法》第47条。"),
    ("公司应当支付经济补偿。", "公司无需支付经济补偿。"),
    ("可以。", "不可以。"),
    ("试用期最长为六个月。", "试用期最长为三个月。"),
    ("不得低于百分之八十。", "不得低于60%。"),
    ("根据《民法典》第705条，租赁期限不得超过二十年。", "根据《民法典》第705条，租赁期限不得超过三十年。"),
    ("每次口服75毫克，每日2次。", "每次口服150毫克，每日2次。"),
    ("Yes, the notice period is 30 days.", "No, the employer may dismiss without notice."),
    ("禁止合用。", "可以合用。"),
    ("期限为三十日。", "期限为15天。"),
]


AGREEING = [
    ("应当支付。根据《劳动合同法》第46条。", "应当支付经济补偿，依据是《中华人民共和国劳动合同法》第四十六条。"),
    ("应当支付。根据《劳动合同法》第46条。", "应当支付。根据《劳动合同法》第46条、《劳动合同法》第47条。"),
    ("试用期最长为六个月。", "试用期最长6个月，三年以上合同适用。"),
    ("不得低于百分之八十。", "不得低于80%。"),
    ("可以。", "可以，但是应当提前三十日书面通知。"),
    ("时效为一年。", "时效为一年，自知道权利被侵害之日起计算，30日内可以申请。"),
    ("依据《指南（2020年版）》，7.0 mmol/L。", "依据《指南（2024年修订版）》，7.0 mmol/L。"),
    ("违法解除的赔偿金为经济补偿标准的二倍。", "公司应当按二倍支付。"),
    ("每日2次，连服5天。", "每日两次，连服5日。"),
]


PLAIN = [(f"第{i}种情形下公司应当怎么做？", f"公司应当支付第{i}笔补偿。根据《劳动合同法》第{i}条，应当支付。") for i in range(1, 13)]
