# SPDX-License-Identifier: Apache-2.0
"""What base against adapter comes to: over every combination of verdicts, being right leads."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from loraforge import terminal
from loraforge.cli import report
from loraforge.evaluation.bootstrap import Comparison
from loraforge.evaluation.judgement import judge

ENDS = {"better": (0.1, 0.3), "worse": (-0.3, -0.1), "no evidence": (-0.1, 0.1)}
TRUTH = ("right", "proven", "wrong")


def compared(measure: str, verdict: str, groups: int = 30, difference: float | None = None) -> Comparison:
    low, high = ENDS[verdict]
    lower = measure in ("loss", "wrong")
    low, high = (-high, -low) if lower else (low, high)
    middle = (low + high) / 2 if difference is None else difference
    ends = (low, high) if groups >= 8 else (None, None)
    return Comparison(measure, 40, groups, 0.5, 0.5 + middle, *ends, lower_is_better=lower, share=measure != "loss")


def judged(*comparisons: Comparison, truth: tuple[str, ...] = TRUTH, headline: str = "wording"):
    return judge(comparisons, SimpleNamespace(truth=truth, headline=headline), "questions")


@pytest.mark.parametrize("kinds", list(itertools.product(ENDS, repeat=5)), ids=lambda kinds: "-".join(k[0] for k in kinds))
def test_only_being_right_makes_an_adapter_better(kinds):
    """Three measures of being right, the wording and the loss, each with each verdict: 243 cases."""
    names = (*TRUTH, "wording", "loss")
    found = judged(*map(compared, names, kinds))
    by = dict(zip(names, kinds, strict=True))
    right = [by[name] for name in TRUTH]
    wanted = "better" if by["right"] == "better" else "no evidence"
    if "worse" in right:
        wanted = "mixed" if by["right"] == "better" else "worse"
    assert found.verdict == wanted
    first = {
        "better": "The adapter is better",
        "worse": "The adapter is worse",
        "mixed": "Partly better",
        "no evidence": "No evidence that",
    }
    assert found.lines[0].startswith(first[wanted])
    assert sum("The adapter is better" in line for line in found.lines) == (wanted == "better"), "no other line says so"
    sounds = [name for name in ("loss", "wording") if by[name] == "better"]
    told = [line for line in found.lines if "is how answers sound" in line]
    assert len(told) == bool(sounds and wanted in ("worse", "no evidence")) and all(name in line for line in told for name in sounds)
    assert any("The adapter is worse" in line for line in found.lines) == (wanted == "worse"), "no line says so beside another verdict"
    for name, kind in by.items():
        assert (kind == "worse") == any(
            "orse than the base" in line and f" {name}: base" in line for line in found.lines[wanted == "mixed" :]
        )


def test_a_run_that_invents_citations_is_worse_however_far_its_loss_fell():
    """None right before and after, 93 % invented: as in a run of twelve steps."""
    found = judged(compared("loss", "better"), compared("wording", "better"), compared("right", "no evidence"), compared("wrong", "worse"))
    assert (found.verdict, found.measure) == ("worse", "wrong")
    assert (
        found.lines[1] == "loss, wording: better than the base, but that is how answers sound; that they are right more often is not shown."
    )


@pytest.mark.parametrize(
    ("headline", "loss", "verdict"), [("better", "worse", "nearer"), ("worse", "better", "worse"), ("no evidence", "better", "no evidence")]
)
def test_without_a_measure_of_being_right_nothing_is_called_better(headline, loss, verdict):
    found = judged(compared("wording", headline), compared("loss", loss))
    assert (found.verdict, found.measure) == (verdict, "wording") and not any("is better" in line for line in found.lines)
    assert found.lines[0].startswith("The adapter is nearer to the held-out examples") is (verdict == "nearer")
    assert judged(compared("loss", headline), headline="").verdict == verdict


@pytest.mark.parametrize(
    ("difference", "verdict", "told"),
    [(0.2, "nearer", "Whether it is right more often cannot be told: right applies to 7 independent questions only."), (0.0, "nearer", "Whether"),
     (-0.2, "no evidence", "right became worse, on too few questions to be certain.")],
)  # fmt: skip
def test_too_few_rows_with_something_to_be_right_do_not_lead(difference, verdict, told):
    """Nor are they forgotten: fewer right answers forbid a good word, and the reader is told that it is not known."""
    found = judged(compared("right", "no evidence", 7, difference), compared("wording", "better"), compared("loss", "better"))
    assert found.verdict == verdict and any(told in line for line in found.lines)
    wrong = judged(compared("wrong", "no evidence", 7, -difference), compared("wording", "better"), compared("loss", "better"))
    assert wrong.verdict == verdict


def test_the_first_measure_that_has_enough_rows_leads():
    found = judged(compared("right", "no evidence", 7), compared("proven", "better"), compared("loss", "better"))
    assert (found.verdict, found.measure) == ("better", "proven")


@pytest.mark.parametrize(
    ("manifest", "verdict"),
    [
        ({"evaluation": {"verdict": "mixed"}}, "mixed"),
        ({"evaluation": {"verdict": "nearer"}, "grades": {"comparison": {"verdict": "worse"}}}, "worse"),
        ({"evaluation": {"verdict": "nearer"}, "grades": None}, "nearer"),
        ({"evaluation": {"headline": "x", "comparisons": [{"measure": "x", "verdict": "worse"}]}}, "worse"),
        ({}, None),
    ],
)
def test_the_list_of_runs_shows_what_experts_found_before_what_was_measured(manifest, verdict):
    assert report._verdict(manifest) == verdict


@pytest.mark.parametrize("code", ["en", "zh"])
def test_every_verdict_has_its_word_in_the_tables(code, monkeypatch):
    monkeypatch.setenv("LORAFORGE_LANG", code)
    words = [report._verdict_word(one) for one in ("better", "worse", "mixed", "nearer", "no evidence", "too few", "cannot be told")]
    assert len(set(words)) == 7 and all(word.isascii() == (code == "en") for word in words)


def test_a_table_prints_no_interval_where_there_is_none(capsys):
    rows = [
        compared("right", "no evidence", 7, 0.2).as_json(),
        compared("wording", "better").as_json(),
        compared("loss", "better", 7).as_json(),
    ]
    report.evaluation(terminal.console(), {"examples": 7, "comparisons": rows, "sentence": [], "rows": []}, None)
    lines = capsys.readouterr().out.splitlines()
    assert "+20.0 " in lines[1] and "[" not in lines[1] and lines[1].rstrip().endswith("too few")
    assert "[+10.0, +30.0]" in lines[2] and lines[2].rstrip().endswith("better")
    assert "-0.200" in lines[3] and "[" not in lines[3]
