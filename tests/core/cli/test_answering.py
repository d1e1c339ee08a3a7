# SPDX-License-Identifier: Apache-2.0
"""What is shown of answers, and how far a model is."""

from __future__ import annotations

import io

from rich.console import Console

from loraforge.cli import answering


def test_an_answer_that_only_repeats_itself_is_marked():
    from loraforge import Answer

    console = Console(record=True, width=200, highlight=False)
    answering.answers(console, "Q?", {"base": Answer("la la", False, True), "mine": Answer("la la", False), "file": "a.png"})
    _, base, mine, file = console.export_text().rstrip().splitlines()
    assert base == "  base: la la  [ended here: it only repeats itself]" and mine == "  mine: la la" and file == "  file: a.png"


def test_how_far_it_is_is_told_on_a_terminal_alone():
    for terminal in (True, False):
        shown = io.StringIO()
        with answering.ticker(Console(file=shown, force_terminal=terminal, width=100), "answers") as tick:
            tick(0, 34)
            tick(17, 34)
        assert ("17/34" in shown.getvalue()) is terminal and bool(shown.getvalue()) is terminal


def test_the_bar_begins_anew_with_the_answers():
    shown = io.StringIO()
    with answering.ticker(Console(file=shown, force_terminal=True, width=100), "answers") as tick:
        tick(90, 90, "losses")
        tick(0, 34)
    assert "losses" in shown.getvalue() and "answers" in shown.getvalue() and "0/34" in shown.getvalue()
