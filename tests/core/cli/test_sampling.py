# SPDX-License-Identifier: Apache-2.0
"""Who answers `sample`, in which strengths, and what the files are called."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from pydantic import create_model

from loraforge.cli import answering
from loraforge.cli.sampling import _sides
from loraforge.plugin_api.types import File
from loraforge.runs.opened import _kept


@pytest.mark.parametrize(
    ("names", "scales", "together", "wanted"),
    [
        (["a"], [], False, {"a": {"a": 1.0}}), (["a"], [0.5], False, {"a": {"a": 0.5}}),
        (["a"], [0.5, 1.0, 0.5], False, {"a × 0.5": {"a": 0.5}, "a × 1": {"a": 1.0}}),
        (["a"], [0.5, 1.0], True, {"a × 0.5": {"a": 0.5}, "a × 1": {"a": 1.0}}),
        (["a", "a", "b"], [0.5, 1.0, 1.0], False, {"a × 0.5": {"a": 0.5}, "a × 1": {"a": 1.0}, "b × 1": {"b": 1.0}}),
        (["a", "b"], [0.5, 1.0], False, {"a": {"a": 0.5}, "b": {"b": 1.0}}), (["a", "b"], [0.5], True, {"a + b": {"a": 0.5, "b": 0.5}}),
    ],
)  # fmt: skip
def test_one_adapter_in_several_strengths_answers_once_in_each(names, scales, together, wanted):
    assert _sides(names, scales, together) == wanted


def test_strengths_that_belong_to_nobody_are_refused():
    with pytest.raises(click.UsageError, match="one for each of the 2 adapters"):
        _sides(["a", "b"], [0.5, 1.0, 2.0], False)


@pytest.mark.parametrize(("scales", "together"), [([], False), ([0.5], False), ([0.5, 0.5], False), ([0.5, 1.0], True)])
def test_an_adapter_that_is_named_twice_is_not_drawn_twice_alike(scales, together):
    with pytest.raises(click.UsageError, match="a is there 2 times. Give a --scale of its own each time"):
        _sides(["a", "a"], scales, together)


@pytest.mark.parametrize("scale", ["nan", "inf", "-inf", "much"])
def test_a_strength_is_a_number(scale, command, tmp_path):
    code, _, err = command("sample", tmp_path, "a", "--scale", scale)
    assert code == 2 and "--scale" in err and scale in err


def test_the_names_of_files_are_the_words_of_the_prompt_and_the_strength(tmp_path):
    opened = type("Run", (), {"task": type("T", (), {"sampling": type("S", (), {"side_by_side": None})})})
    found = _kept(opened, "a street, three houses", {"neon × 0.5": File(b"x", ".png"), "base": File(b"y", ".png")}, tmp_path)
    assert {name: Path(path).name for name, path in found.items()} == {
        "neon × 0.5": "a-street-three-houses.neon-0.5.png", "base": "a-street-three-houses.base.png",
    }  # fmt: skip
    (path,) = _kept(opened, "霓虹" * 200, {"名" * 200: File(b"x", ".png")}, tmp_path).values()
    assert Path(path).is_file() and len(Path(path).name.encode()) < 220


def test_the_bar_and_the_answers_share_a_console(command, tmp_path, monkeypatch):
    """What another one prints stays behind the bar's last line, and the bar stays on the screen."""
    task = SimpleNamespace(sampling=SimpleNamespace(settings=create_model("Nothing")))
    opened = SimpleNamespace(
        task=task,
        run=SimpleNamespace(path=tmp_path),
        names=lambda given: ["a"],
        adapters=lambda given: {},
        inference_model=lambda found: None,
    )
    monkeypatch.setattr("loraforge.runs.opened.load_run", lambda host, run: opened)
    monkeypatch.setattr("loraforge.runs.opened.ask", lambda *given: [("how?", {"a": "so"})])
    used = []
    ticker, answers = answering.ticker, answering.answers
    monkeypatch.setattr(answering, "ticker", lambda out, what: used.append(out) or ticker(out, what))
    monkeypatch.setattr(answering, "answers", lambda out, question, given: used.append(out) or answers(out, question, given))
    code, out, err = command("sample", tmp_path, "how?")
    assert code == 0 and "so" in out, err
    assert len(used) == 2 and used[0] is used[1]
