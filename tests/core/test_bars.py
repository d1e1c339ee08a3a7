# SPDX-License-Identifier: Apache-2.0
"""The bar tells how much is done and how long it takes, at any width."""

from __future__ import annotations

import io
import re
import types

import pytest
from rich.cells import cell_len
from rich.console import Console

from loraforge import Bar, console
from loraforge.bars import line

PARTS = {"en": ("loss 1.234", "rate 1.0e-04", "1234 tokens/s"), "zh": ("损失 1.234", "学习率 1.0e-04", "每秒 1234 个词元")}


def shown(width, language, monkeypatch, total=4500, left=3725.0):
    monkeypatch.setenv("LORAFORGE_LANG", language)
    out = io.StringIO()
    task = types.SimpleNamespace(elapsed=71.0, total=total, completed=1234, time_remaining=left, fields={"parts": PARTS[language]})
    Console(file=out, width=width, color_system=None).print(line(task, width))
    return out.getvalue()


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("width", [40, 50, 60, 80, 120, 200])
def test_numbers_and_times_are_there_at_any_width(width, language, monkeypatch):
    said = shown(width, language, monkeypatch)
    assert said.count("\n") == 1 and cell_len(said.rstrip("\n")) <= width
    assert "1234/4500" in said and "0:01:11" in said and "1:02:05" in said and ("left" if language == "en" else "剩余") in said
    assert width < 80 or (PARTS[language][0] in said and "━" in said)
    assert width < 120 or PARTS[language][2] in said


def test_what_nobody_knows_yet(monkeypatch):
    assert "-:--:-- left" in shown(80, "en", monkeypatch, left=None)
    said = shown(80, "en", monkeypatch, total=None)
    assert "/" not in said.split("loss")[0] and "0:01:11" in said and "left" not in said


def test_a_bar_comes_and_goes(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    out = io.StringIO()
    with Bar(console(file=out, force_terminal=True, width=80)) as bar:
        assert not bar.shown
        bar.start(3)
        bar.update(2, 3, "loss 1.0")
        assert bar.shown
    assert not bar.shown and re.search(r"2/3", out.getvalue())


def test_nothing_is_drawn_where_nobody_looks():
    out = io.StringIO()
    with Bar(console(file=out)) as bar:
        bar.start(3)
        bar.update(2, 3)
        assert not bar.shown
    assert out.getvalue() == ""
