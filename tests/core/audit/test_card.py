# SPDX-License-Identifier: Apache-2.0
"""The model card."""

from __future__ import annotations

import pytest
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
        "| loss | 1 | 2.500 | 1.250 | -1.250 [-2 … -0.500] | better |",
        "| hits | 1 | 50.0% | 75.0% | 25.0% [0.0% … 50.0%] | unclear |",
        "The adapter is better.",
        "4 word for word",
        "50 (held-out loss)",
        "Over-fitting since step 40.",
        "`ef`",
        "Only 1 example",
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


# --- section by section --------------------------------------------------------------------------------------------------------


def section(tmp_path, heading: str, evaluation=None, **manifest) -> list[str]:
    """The lines under a heading that begins so."""
    path = tmp_path / "runs" / "legal" / "model-card.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_card(manifest, evaluation, path)
    lines = path.read_text(encoding="utf-8").splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith(f"## {heading}")), None)
    if start is None:
        return []
    end = next((i for i in range(start + 1, len(lines)) if lines[i].startswith("## ")), len(lines))
    return [line for line in lines[start + 1 : end] if line]


@pytest.mark.parametrize(
    ("base", "config", "shown"),
    [({"name": "org/model"}, {}, "org/model"), ({"name": "modelscope:org/model"}, {}, "org/model"), ({"name": "/home/me/llama"}, {}, "llama"),
     ({"name": "C:\\models\\llama"}, {}, "llama"), ({}, {"base_model": "org/other"}, "org/other"), ({"name": "a/b/c"}, {}, "c"), ({"name": "tiny-chat"}, {"base_model": "x"}, "tiny-chat")],
)  # fmt: skip
def test_a_base_is_called_as_its_hub_calls_it_and_a_folder_by_its_name(tmp_path, base, config, shown):
    import yaml

    lines = section(
        tmp_path,
        "What it is for",
        base=base,
        config=config,
        task="text",
        data={"rows": [{"split": "train"}, {"split": "train"}, {"split": "held-out"}]},
    )
    assert lines[0].startswith(
        f"A LoRA adapter: a small file that changes what `{shown}` does. It was trained with LoRAForge on 2 examples (text)."
    )
    front = (tmp_path / "runs" / "legal" / "model-card.md").read_text(encoding="utf-8").split("---")[1]
    assert yaml.safe_load(front)["base_model"] == shown and len(lines) == 4
    assert len(section(tmp_path, "What it is for")) == 3


def test_the_front_matter_and_the_name(tmp_path):
    import yaml

    section(tmp_path, "x", language="zh", task="image")
    text = (tmp_path / "runs" / "legal" / "model-card.md").read_text(encoding="utf-8")
    assert text.startswith("---\n") and yaml.safe_load(text.split("---")[1]) == {
        "library_name": "peft",
        "tags": ["lora", "peft", "loraforge", "image"],
        "language": "zh",
    }
    assert "\n# legal\n" in text and text.endswith("\n") and not text.endswith("\n\n")
    section(tmp_path, "x", name="mine")
    assert "\n# mine\n" in (tmp_path / "runs" / "legal" / "model-card.md").read_text(encoding="utf-8")


def test_the_data_with_every_waiver_and_twenty_notes(tmp_path):
    rows = [{"split": side} for side in ["train"] * 5 + ["held-out"] * 3 + ["set aside"] * 2]
    data = {
        "rows": rows, "sha256": "ab", "notes": [f"note {i}" for i in range(25)], "review": {"reviewed": 4, "approved": 3, "unreviewed": 2, "rejected": 1, "reviewers": {"Li": 4}},
        "findings": {"error": 6, "warning": 7, "hint": 8, "waived": 9}, "waivers": [{"check": "c", "severity": "error", "where": ["row 1", "row 2"], "reason": "it|is fine"}],
    }  # fmt: skip
    lines = section(tmp_path, "Data", data=data, config={"train_data_dir": "/a/b", "metadata_path": "/a/b/m.csv"})
    assert lines[:6] == [
        "- source: `m.csv`",
        "- examples: 10: 5 learned; 3 held out and never learned; 2 in neither, because they resemble both",
        "- review: somebody answers for 4 rows (3 approved) and nobody for 2; 1 were rejected and left out",
        "- reviewers: `Li` (4)",
        "- findings of the checks: open: 6 errors, 7 warnings, 8 hints; besides, 9 were waived by somebody",
        "- SHA-256 of all rows: `ab`",
    ]
    assert lines[6:26] == [f"- note {i}" for i in range(20)]
    assert lines[26:] == [
        "| waived finding | severity | where | reason |",
        "|---|---|---|---|",
        "| `c` | error | row 1; row 2 | it\\|is fine |",
    ]
    bare = section(tmp_path, "Data", data={"rows": rows[:1], "notes": "x"}, config={"train_data_dir": "/a/b"})
    assert bare == ["- source: `b`", "- examples: 1: 1 learned; 0 held out and never learned; 0 in neither, because they resemble both"]
    assert section(tmp_path, "Data", data={"rows": rows[:1]})[0].startswith("- examples: ") and not section(
        tmp_path, "Data", data={"rows": []}
    )


def test_the_training_as_it_came_out(tmp_path):
    config = {"lora_rank": 8, "learning_rate": 0.001, "precision": "auto", "seed": 5, "lora_alpha": None, "output_dir": "/x"}
    facts = {"precision": "bf16", "steps": 120, "trainable_parameters": 4096}
    lines = section(
        tmp_path,
        "Training",
        config=config,
        facts=facts,
        seed=0,
        started="2026",
        chosen={"step": 0, "by": "held-out loss"},
        status="stopped",
    )
    assert lines == [
        "- begun: `2026`", "- steps: 120", "- the adapter is from step: 0 (held-out loss)", "- trained parameters: 4096", "- state of the run: stopped",
        "| setting | value |", "|---|---|", "| lora_rank | `8` |", "| learning_rate | `0.001` |", "| precision | `bf16` |", "| seed | `0` |",
    ]  # fmt: skip
    assert section(tmp_path, "Training", facts={"steps": 3}, status="finished", chosen={"step": 3}) == [
        "- steps: 3",
        "- the adapter is from step: 3",
    ]


def test_each_measure_has_two_lines(tmp_path):
    row = {"measure": "loss", "rows": 4, "base": 2.0, "adapter": 1.5, "difference": -0.5, "low": -0.75, "high": -0.25, "verdict": "better"}
    found = {"examples": 9, "comparisons": [row], "reworded": [{**row, "rows": 5, "adapter": 0.5}], "parts": {"new": 4, "reworded": 5}}
    lines = section(tmp_path, "Evaluation", found)
    assert lines[1] == "| measure | their answer | rows | base | adapter | difference, 95 % interval | verdict |"
    assert lines[3:5] == [
        "| loss | never learned | 4 | 2.000 | 1.500 | -0.500 [-0.750 … -0.250] | better |",
        "| loss | learned in other words | 5 | 2.000 | 0.500 | -0.500 [-0.750 … -0.250] | better |",
    ]
    none = section(tmp_path, "Evaluation", {**found, "comparisons": [], "parts": {"new": 0, "reworded": 5}})
    assert none[-1] == "| all measures | never learned | 0 |  |  |  | cannot be told |"
    figures = {"style": {"base": "1.0", "adapter": "0.5"}}
    few = {**found, "comparisons": [{**row, "too_few": True}], "parts": {"new": 4, "reworded": 0}, "figures": figures, "reworded": []}
    assert section(tmp_path, "Evaluation", few)[3:] == [
        "| loss | never learned | 4 | 2.000 | 1.500 | -0.500 [-0.750 … -0.250] | too few |",
        "| all measures | learned in other words | 0 |  |  |  |  |",
        "| style |  |  | 1.0 | 0.5 |  |  |",
    ]
    assert section(tmp_path, "Evaluation", {"memorisation": {"learned_asked": "x"}, "sentence": "One."}) == ["- One."]
    assert section(tmp_path, "Evaluation", {"memorisation": {"learned_asked": 2}})[0].endswith(
        "it answered 0 word for word as it was taught."
    )


def test_how_right_experts_found_what_was_learned_in_other_words(tmp_path):
    accuracy = {"base": {"mean": 0.125}, "adapter": {"mean": 0.75}}
    grades = {"sentence": "Better.", "files": [{"grader": "Li"}], "reworded": {"accuracy": accuracy}}
    assert section(tmp_path, "Evaluation", grades=grades) == [
        "- Judged blind by Li: 0 of 0 questions. Better.",
        "- Factual accuracy where the answer was learned in other words: base 12.5%, adapter 75.0%.",
    ]
    lacking = {**grades, "reworded": {"accuracy": {"base": {"mean": 1}}}}
    assert section(tmp_path, "Evaluation", grades=lacking)[1].endswith("base 100.0%, adapter –.")


def test_a_card_that_is_written_aside_is_of_the_run_that_it_goes_to(tmp_path):
    import hashlib

    run, aside = tmp_path / "mine", tmp_path / "aside"
    for place, content in ((run, b"old"), (aside, b"new")):
        (place / "adapter").mkdir(parents=True)
        (place / "adapter" / "adapter_model.safetensors").write_bytes(content)

    def last() -> tuple[str, str]:
        write_card({}, None, aside / "card.md", run)
        lines = (aside / "card.md").read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith("# ")), next(line for line in lines if "adapter, SHA-256" in line)

    assert last() == ("# mine", f"- adapter, SHA-256: `{hashlib.sha256(b'new').hexdigest()}`")  # what goes there together with it
    (aside / "adapter").rename(aside / "gone")
    assert last() == ("# mine", f"- adapter, SHA-256: `{hashlib.sha256(b'old').hexdigest()}`")


def test_the_evaluation_with_its_own_figures_and_what_experts_found(tmp_path):
    rows = [{"measure": "loss", "rows": 9, "base": 2.0, "adapter": 1.5, "difference": -0.5, "low": -0.75, "high": -0.25, "verdict": "better"},
            {"measure": "hits", "rows": 8, "base": 0.25, "adapter": 0.5, "difference": 0.25, "low": 0.125, "high": 0.375, "verdict": "better", "share": True}]  # fmt: skip
    found = {"examples": 9, "comparisons": rows, "figures": {"style": {"base": "1.0", "adapter": "0.5"}}, "sentence": ["One.", "", "Two."],
             "memorisation": {"learned_asked": 20, "learned_word_for_word": 3}}  # fmt: skip
    grades = {"sentence": "Better.", "graded": 7, "questions": 9, "files": [{"grader": "Li"}, {"grader": "Wu"}, {"grader": "Li"}]}
    wanted = [
        "Base and adapter were asked the same 9 held-out examples.",
        "| measure | rows | base | adapter | difference, 95 % interval | verdict |", "|---|---|---|---|---|---|",
        "| loss | 9 | 2.000 | 1.500 | -0.500 [-0.750 … -0.250] | better |", "| hits | 8 | 25.0% | 50.0% | 25.0% [12.5% … 37.5%] | better |", "| style |  | 1.0 | 0.5 |  |  |",
        "- One.", "- Two.", "- Of 20 questions that it had learned, it answered 3 word for word as it was taught.",
        "- Judged blind by Li, Wu: 7 of 9 questions. Better.",
    ]  # fmt: skip
    assert section(tmp_path, "Evaluation", found, grades=grades) == wanted, "what is given"
    write_card({"evaluation": found, "grades": grades}, None, tmp_path / "c.md")
    assert all(line in (tmp_path / "c.md").read_text(encoding="utf-8") for line in wanted), "or what the manifest says"
    losses = {"held_out_loss_base": 2.5, "held_out_loss": 1.25}
    assert section(tmp_path, "Evaluation", metrics=losses) == ["Loss on the held-out examples: 2.500 for the base, 1.250 for the adapter."]
    assert not section(tmp_path, "Evaluation", metrics={"held_out_loss": 1.0}) and not section(
        tmp_path, "Evaluation", metrics={"held_out_loss_base": 1.0}
    )
    bare = {
        "measure": "loss",
        "rows": 3,
        "base": 2.0,
        "adapter": 1.5,
        "difference": -0.5,
        "low": None,
        "high": None,
        "verdict": "no evidence",
    }
    assert "| loss | 3 | 2.000 | 1.500 | -0.500 | no evidence |" in section(tmp_path, "Evaluation", {"examples": 3, "comparisons": [bare]})
    assert section(tmp_path, "Evaluation", {"sentence": "Alone."}) == ["- Alone."] and not section(
        tmp_path, "Evaluation", grades={"graded": 3}
    )


@pytest.mark.parametrize(("held", "told"), [(49, True), (50, False), (0, True)])
def test_fewer_than_fifty_held_out_examples_are_few(tmp_path, held, told):
    rows = [{"split": "held-out"}] * held + [{"split": "train"}]
    lines = section(tmp_path, "Limits", {"examples": 1}, data={"rows": rows})
    assert lines == (
        [f"- Only {held} examples were held out: small differences between base and adapter cannot be told from chance."] if told else []
    )


def test_every_limit_is_told(tmp_path):
    data = {"review": {"unreviewed": 3}, "findings": {"error": 2, "warning": 4, "hint": 50, "waived": 7}}
    lines = section(tmp_path, "Limits", data=data, cautions=["Careful."], diagnosis=[{"sentence": "Over-fitting."}, {"kind": "x"}, 1])
    assert lines == [
        "- Careful.", "- 3 rows have nobody who answers for them.", "- The checks found 6 errors and warnings in the data; findings.csv lists them.",
        "- Base and adapter were not compared.", "- Over-fitting.",
    ]  # fmt: skip
    fine = {"review": {"unreviewed": 0}, "findings": {"error": 0, "warning": 0, "hint": 3}}
    assert not section(tmp_path, "Limits", {"examples": 1}, data=fine, cautions="x")


def test_earlier_runs_how_to_verify_and_the_machine(tmp_path):
    import hashlib

    lineage = [{"run": "/home/me/second", "started": "2", "seal": "ab", "adapter": "cd"}, {"run": "C:\\first"}, 3]
    assert section(tmp_path, "Earlier runs", lineage=lineage)[1:] == [
        "| run | begun | seal | adapter, SHA-256 |", "|---|---|---|---|", "| `second` | `2` | `ab` | `cd` |", "| `first` | – | – | – |",
    ]  # fmt: skip
    lines = section(tmp_path, "How to verify")
    assert lines[3:] == [
        "```", "loraforge verify legal --seal HEX", "loraforge verify legal --public-key FILE", "loraforge reproduce legal", "```",
    ]  # fmt: skip
    assert "`manifest.sha256`" in lines[0] and "`records`" in lines[1]
    weights = tmp_path / "runs" / "legal" / "adapter" / "adapter_model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"numbers")
    assert section(tmp_path, "How to verify")[-1] == f"- adapter, SHA-256: `{hashlib.sha256(b'numbers').hexdigest()}`"
    machine = section(tmp_path, "Versions", versions={"torch": "2", "peft": None}, machine={"cpu": "x"}, code={"loraforge": "ef"})
    assert machine == ["| what | value |", "|---|---|", "| torch | `2` |", "| cpu | `x` |", "| code of loraforge | `ef` |"]


def test_a_base_with_its_files_and_its_template(tmp_path):
    lines = section(
        tmp_path, "Base model", base={"name": "org/m", "revision": "main", "files": {"model.safetensors": "ab"}}, template={"name": "auto"}
    )
    assert lines == [
        "- name: `org/m`", "- revision: `main`", "- template of the prompts: `auto`", "| file | SHA-256 |", "|---|---|", "| `model.safetensors` | `ab` |",
    ]  # fmt: skip
    assert section(tmp_path, "Base model", template={"name": "x"}) == ["- template of the prompts: `x`"] and not section(
        tmp_path, "Base model"
    )
