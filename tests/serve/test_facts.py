# SPDX-License-Identifier: Apache-2.0
"""The facts of the page are those that the run wrote: figures of eval.json, sentences of the model card."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from builders.sealed_runs import MANIFEST, evaluated, made_run, put
from loraforge_serve.facts import facts_of

from loraforge.audit.card import write_card
from loraforge.evaluation.bootstrap import compare
from loraforge.runs.opened import LoadedRun

HITS = compare("cites the right article", [0, 0, 0, 0, 0, 0, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1, 1, 0])
FEW = compare("loss", [2.0, 3.0], [1.0, 1.5], lower_is_better=True)
RESULT = {
    "examples": 12,
    "verdict": "better",
    "headline": "cites the right article",
    "comparisons": [HITS.as_json()],
    "reworded": [FEW.as_json()],
    "sentence": ["The adapter is <b>better</b>.", "*Nothing* was forgotten."],
}


@pytest.fixture
def run(tmp_path):
    """A run's folder as LoRAForge writes it, without an adapter."""
    folder = tmp_path / "legal"
    (folder / "export" / "peft").mkdir(parents=True)
    (folder / "eval.json").write_text(json.dumps(RESULT), encoding="utf-8")
    write_card({**MANIFEST, "cautions": ["Whether an answer is right, experts judge."]}, RESULT, folder / "model-card.md")
    return folder


def test_figures_and_intervals_are_those_of_the_evaluation(run):
    found = facts_of(run)
    assert (found["verdict"], found["headline"], found["examples"]) == ("better", "cites the right article", 12)
    new, reworded = found["lines"]
    assert new == {
        "measure": "cites the right article", "stratum": "new", "n": 10, "groups": 10, "base": 0.1, "adapter": 0.9, "difference": pytest.approx(0.8),
        "interval": [HITS.low, HITS.high], "share": True, "lower_is_better": False, "verdict": "better",
    }  # fmt: skip
    assert (reworded["stratum"], reworded["interval"], reworded["verdict"]) == ("reworded", None, "too few")


def test_sentences_and_cautions_are_those_of_the_card_without_its_markdown(run):
    found = facts_of(run)
    assert found["sentences"][:2] == ["The adapter is <b>better</b>.", "*Nothing* was forgotten."]
    assert found["caution"] == [
        "Whether an answer is right, experts judge.",
        "Only 1 example was held out: small differences between base and adapter cannot be told from chance.",
        "1 row has nobody who answers for them.",
        "The checks found 2 errors and warnings in the data; findings.csv lists them.",
        "Over-fitting since step 40.",
    ]


def test_that_a_run_looks_healthy_is_no_caution(run):
    diagnosis = [{"kind": "healthy", "sentence": "Over-fitting since step 40."}]
    opened = SimpleNamespace(manifest={"diagnosis": diagnosis}, require_sound=lambda names: None)
    assert facts_of(run, opened)["caution"] == facts_of(run)["caution"][:-1]


def test_an_export_within_its_run_has_the_facts_of_the_run(run):
    assert facts_of(run / "export" / "peft") == facts_of(run)


def test_an_export_alone_says_that_nothing_is_known(tmp_path):
    alone = tmp_path / "peft"
    alone.mkdir()
    found = facts_of(alone)
    assert (found["verdict"], found["lines"], found["sentences"]) == (None, [], [])
    assert found["caution"] == ["No model card lies beside this adapter: nothing is known here of its data, its limits or its figures."]


@pytest.mark.parametrize(
    "written",
    [
        "",
        "[]",
        "{",
        "[" * 100_000,
        json.dumps({"comparisons": 3, "reworded": [None, {"measure": 4}], "verdict": [], "examples": True, "figures": 1}),
        '{"comparisons": [{"measure": "loss", "base": NaN, "adapter": Infinity, "low": "x", "rows": "many"}]}',
        "\udcff",
    ],
)
def test_a_file_of_another_form_is_no_error_and_nothing_that_json_has_not(run, written):
    (run / "eval.json").write_bytes(written.encode("utf-8", "surrogateescape"))
    found = facts_of(run)
    assert found["caution"] and json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["verdict"] is None and all(line["difference"] is None for line in found["lines"])


def test_figures_of_pictures_are_passed_on_in_words(run):
    (run / "eval.json").write_text(json.dumps({"figures": {"style distance": {"base": "0.412", "adapter": "0.198"}}}), encoding="utf-8")
    assert facts_of(run)["figures"] == [{"measure": "style distance", "base": "0.412", "adapter": "0.198"}]


def test_figures_of_an_opened_run_are_those_under_its_seal_and_an_altered_card_is_not_believed(tmp_path):
    made, _ = made_run(tmp_path)
    evaluated(made, verdict="better")
    opened = LoadedRun(made, None, None, None, None, made.manifest())
    put(made, "eval.json", json.dumps({**RESULT, "verdict": "worse"}))
    assert (facts_of(made.path)["verdict"], facts_of(made.path, opened)["verdict"]) == ("worse", "better")
    assert not any("altered" in one for one in facts_of(made.path, opened)["caution"])
    put(made, "model-card.md", "# legal\n\n## Limits and cautions\n\n- It is always right.\n")
    assert facts_of(made.path, opened)["caution"] == [
        "The model card of this adapter was altered since it was recorded, so it is not shown. `loraforge verify` says more."
    ]
