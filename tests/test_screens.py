# SPDX-License-Identifier: Apache-2.0
"""What a person sees at 80 and at 40 columns, in both languages, and what a log gets: everything fits, and nothing that is copied is broken."""

from __future__ import annotations

import re
import sys

import pytest
from builders import ROOT
from builders.screens import ill_fitting, in_pipe, in_terminal, whole

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")

SIGHTS = [(80, "en"), (40, "zh")]
LONG = "/srv/" + "/".join(["Mandanten und Akten"] + [f"Vorgang-{n:03}" for n in range(9)]) + "/config.yaml"


@pytest.fixture(scope="module")
def place(tmp_path_factory, base):
    """A folder with data and two configs, the second of them with faults."""
    from builders.tiny_text import write_config, write_rows

    folder = tmp_path_factory.mktemp("place")
    write_rows(folder / "data" / "metadata.csv")
    shared = {"train_data_dir": "data", "base_model": str(base), "lora_rank": 4, "learning_rate": 0.01, "save_steps": 0}
    write_config(folder / "c.yaml", output_dir="out", epochs=2, **shared)
    write_config(folder / "bad.yaml", output_dir="out", lora_rnak=4, epochs="many", **{**shared, "learning_rate": "fast"})
    return folder


COMMANDS = [
    ["train", "text", "c.yaml", "--fresh"],
    ["eval", "out", "--limit", "1"],
    ["check", "text", "c.yaml", "--show", "1"],
    ["check", "text", "bad.yaml"],
    ["check", "text", LONG],
    ["runs", "."],
    ["runs", "out"],
    ["verify", "out"],
    ["keys", "text"],
    ["list"],
    ["plugins"],
    ["trian"],
]


@pytest.fixture(scope="module", params=SIGHTS, ids=[f"{columns}-{language}" for columns, language in SIGHTS])
def sight(request, place):
    columns, language = request.param
    shown = in_terminal(COMMANDS, place, columns, language)
    piped = in_pipe(COMMANDS[2:], place, language)
    return columns, language, shown, piped


@pytest.mark.slow
def test_every_line_fits_and_nothing_that_is_copied_is_broken(sight):
    columns, _, shown, piped = sight
    assert shown.text.count("\nexit") == len(COMMANDS), shown.text[-2000:]
    assert not ill_fitting(shown.lines, columns)
    broken = {word for word in whole(piped.text) if word not in shown.text}
    assert not broken


@pytest.mark.slow
def test_the_summary_of_a_run_fits_one_screen(sight):
    columns, language, shown, _ = sight
    start, end = ("训练完成" if language == "zh" else "Done in"), "exit 0"
    summary = shown.after(start)
    summary = summary[: summary.index(end)]
    assert len(summary) <= (24 if columns == 80 else 40), "\n".join(summary)
    # What warns is there: too few questions, too few examples, the questions that the export carries.
    words = " ".join(" ".join(summary).split())
    for warning in (
        ("Too few independent questions", "Few examples", "golden_prompts.json") if language == "en" else ("golden_prompts.json",)
    ):
        assert warning in words


@pytest.mark.slow
def test_the_bar_keeps_its_times(sight):
    shown = sight[2]
    bars = [frame for frame in shown.frames if re.search(r"\d+/\d+ .*\d:\d\d:\d\d", frame)]
    assert bars and all(len(re.findall(r"(?:\d|-):(?:\d\d|--):(?:\d\d|--)", bar)) == 2 for bar in bars), bars
    assert any(re.search("loss|损失", bar) for bar in bars)


@pytest.mark.slow
def test_a_log_gets_no_bars_and_no_control_characters(place):
    commands = [["check", "text", "c.yaml"], ["runs", "."], ["list"], ["train", "text", "c.yaml", "--fresh", "--set", "eval_answers=false"]]
    for shown in (in_pipe(commands[:3], place), in_terminal(commands[3:], place, CI="true")):
        assert "exit 0" in shown.text
        assert not re.search(r"[\0-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]|\x1b\[[^m]*[A-Za-ln-z]|━|\r(?!\n)", shown.raw)
    plain = in_terminal(commands[:3], place, NO_COLOR="1").raw
    assert "\x1b" not in plain


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("columns", [80, 40])
def test_every_help_page_fits(columns, language):
    from builders.commands import every_command

    pages = [[*path, "--help"] for path, _ in every_command()]
    shown = in_terminal(pages, ROOT, columns, language)
    assert shown.text.count("exit 0") == len(pages)
    assert not ill_fitting(shown.lines, columns)
    assert not [line for line in shown.lines if re.search(r" .*\w\.\.\.$", line.strip()) and "[" not in line]  # cut
