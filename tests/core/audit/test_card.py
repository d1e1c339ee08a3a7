"""The model card."""

from __future__ import annotations

from builders.sealed_runs import MANIFEST

from loraforge.audit.card import write_card


def test_a_card_holds_what_a_reviewer_asks_for(tmp_path):
    import yaml

    write_card(MANIFEST, None, tmp_path / "c.md")
    text = (tmp_path / "c.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---")[1])
    assert front == {"base_model": "org/model", "library_name": "peft", "tags": ["lora", "peft", "loraforge", "text"]}
    for word in (
        "4: 2 learned; 1 held out",
        "3 rows (2 approved) and nobody for 1; 1 were rejected",
        "0 errors, 2 warnings",
        "| loss | 1 | 2.500 | 1.250 | -2 … -0.500 | better |",
        "| hits | 1 | 50.0% | 75.0% | 0.0% … 50.0% | unclear |",
        "The adapter is better.",
        "4 word for word",
        "50 (held-out loss)",
        "Over-fitting since step 40.",
        "`ef`",
        "Only 1 examples",
    ):
        assert word in text, word
    assert "/home/me" not in text, "where things lie is nobody's business"


def test_nothing_in_the_data_becomes_markdown(tmp_path):
    write_card(MANIFEST, None, tmp_path / "c.md")
    text = (tmp_path / "c.md").read_text(encoding="utf-8")
    assert "<script>" not in text.replace("\\<script", "") and "](http" not in text.replace("\\](", "")
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# 法律\\<script\\>",
        "## What it is for, and what not / 用途与禁忌",
        "## Base model / 基座模型",
        "## Data / 数据",
        "## Training / 训练",
        "## Evaluation / 评估",
        "## Limits and cautions / 局限与注意事项",
        "## Earlier runs / 来历",
        "## How to verify / 如何核验",
        "## Versions and machine / 版本与机器",
    ]
    assert "``王`医生\\| ## x`` (3)" in text


def test_what_the_manifest_does_not_say_is_left_out(tmp_path):
    write_card({}, None, tmp_path / "c.md")
    text = (tmp_path / "c.md").read_text(encoding="utf-8")
    assert "## Data" not in text and "## Evaluation" not in text and "None" not in text and "base_model" not in text
