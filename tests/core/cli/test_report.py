# SPDX-License-Identifier: Apache-2.0
"""The table of base against adapter."""

from __future__ import annotations

from rich.console import Console

from loraforge.cli import report

ROW = {
    "measure": "loss",
    "rows": 4,
    "share": False,
    "base": 2.0,
    "adapter": 1.5,
    "difference": -0.5,
    "low": -0.75,
    "high": -0.25,
    "verdict": "better",
}


def shown(**result) -> list[list[str]]:
    console = Console(record=True, width=200, highlight=False)
    report.evaluation(console, {"examples": 9, "sentence": ["Said."], "rows": [], "reworded": [], **result}, None)
    return [[cell for cell in line.split("  ") if cell.strip()] for line in console.export_text().splitlines()]


def words(line: list[str]) -> list[str]:
    return [cell.strip() for cell in line]


def test_each_measure_has_two_lines():
    other = {**ROW, "rows": 5, "adapter": 0.5}
    head, new, reworded, said = shown(comparisons=[ROW], reworded=[other], parts={"new": 4, "reworded": 5})
    assert words(head) == ["on 9 held-out examples", "their answer", "base", "adapter", "difference, 95 % interval"]
    assert words(new) == ["loss", "never learned (4)", "2.000", "1.500", "-0.500 [-0.750, -0.250]", "better"]
    assert words(reworded)[:4] == ["loss", "learned in other words (5)", "2.000", "0.500"] and words(said) == ["Said."]


def test_a_part_without_examples_says_so():
    _, reworded, new, _ = shown(comparisons=[], reworded=[ROW], parts={"new": 0, "reworded": 4})
    assert words(new) == ["all measures", "never learned (0)", "-", "-", "-", "cannot be told"] and words(reworded)[0] == "loss"
    _, new, reworded, _ = shown(comparisons=[ROW], parts={"new": 4, "reworded": 0})
    assert words(reworded) == ["all measures", "learned in other words (0)", "-", "-", "-"]


def test_figures_of_a_task_of_its_own_have_no_parts():
    head, loss, style, _ = shown(comparisons=[ROW], figures={"style": {"base": "1", "adapter": "2"}})
    assert words(head)[1] == "base" and words(loss)[:2] == ["loss", "2.000"] and words(style) == ["style", "1", "2"]


def test_a_table_on_a_part_of_the_questions_says_so():
    cut = {"answered": 20, "of": 54, "again": 0, "minutes": 10.0}
    assert words(shown(comparisons=[ROW], cut=cut)[0])[0] == "on 20 of 54 held-out examples (eval_minutes: 10)"
    for whole in ({**cut, "answered": 54}, {**cut, "answered": 0}):
        assert words(shown(comparisons=[ROW], cut=whole)[0])[0] == "on 9 held-out examples"


def test_the_list_of_runs_says_what_was_found():
    told = {"comparisons": [ROW], "headline": "loss"}
    assert report._verdict({"evaluation": told}) == "better" and report._verdict({}) is None
    assert report._verdict({"evaluation": {"comparisons": [], "reworded": [ROW], "verdict": "cannot be told"}}) == "cannot be told"
