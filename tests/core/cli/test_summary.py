# SPDX-License-Identifier: Apache-2.0
"""What a run says at its end: one screen, and every warning."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from loraforge import console
from loraforge.cli import summary

GOOD = {
    "measure": "exact answer",
    "base": 0.1,
    "adapter": 0.6,
    "difference": 0.5,
    "low": 0.4,
    "high": 0.6,
    "share": True,
    "verdict": "better",
}
WORSE = {**GOOD, "measure": "never stops", "base": 0.0, "adapter": 0.3, "difference": 0.3, "low": 0.2, "high": 0.4, "verdict": "worse"}
OTHERS = [{**GOOD, "measure": f"measure {n}", "verdict": "no evidence"} for n in range(12)]
SENTENCES = ["The adapter is better than the base.", "Worse than the base: never stops.", "Only 9 examples were held out."]
USAGE = {
    "peft": ("vllm serve " + "base " * 30, "# llama.cpp: see there", "# ! it holds 2 questions of your data"),
    "webui": ("cp a.* models/Lora/", "# in the prompt: <lora:a:0.8>", "# a third line", "# ! a second warning"),
}


def said(tmp_path, verbose, width=80, exports=("peft", "webui")):
    run = SimpleNamespace(path=Path("out"), adapter=tmp_path)
    result = {
        "examples": 9,
        "comparisons": [GOOD, WORSE, *OTHERS],
        "sentence": SENTENCES,
        "rows": [1],
        "headline": "exact answer",
        "reworded": [],
    }
    result["memorisation"] = {"learned_asked": 9, "learned_word_for_word": 3}
    diagnoses = [SimpleNamespace(sentence="A warning of the losses.", evidence="Its evidence.")]
    done = SimpleNamespace(
        run=run, exports={name: Path("out/export") / name for name in exports}, usage={name: USAGE[name] for name in exports}, metrics={"held_out_loss": 1.0},
        seconds=9, question="Why?", delivered=("webui: nothing was installed",), samples=None, result=result, diagnoses=diagnoses, seal="f" * 64,
    )  # fmt: skip
    out = io.StringIO()
    summary.outcome(console(file=out, force_terminal=True, width=width, color_system=None), done, verbose=verbose)
    return out.getvalue()


@pytest.mark.parametrize("verbose", [False, True])
def test_no_warning_is_left_out(tmp_path, verbose):
    text = " ".join(said(tmp_path, verbose).split())
    for words in (*SENTENCES, "never stops ", "A warning of the losses.", "3 were answered word for word", "webui: nothing was installed",
                  "# ! it holds 2 questions", "# ! a second warning", "f" * 64, "loraforge sample out --base"):  # fmt: skip
        assert words in text, words


def test_it_fits_one_screen_and_the_rest_comes_with_v(tmp_path):
    short, long = said(tmp_path, False), said(tmp_path, True)
    for exporter in USAGE:
        assert len(said(tmp_path, False, exports=[exporter]).strip().splitlines()) <= 24
    for words in ("measure 11", "Its evidence.", "vllm serve", "# a third line", "tensorboard", "loraforge eval out"):
        assert words in long and words not in short, words
    assert "13 measures, none of the others shown to be worse" in short and "cp a.* models/Lora/" in short


def test_how_an_export_is_used_is_shown_where_it_fits(tmp_path):
    assert "# in the prompt: <lora:a:0.8>" in said(tmp_path, False) and "# in the prompt: <lora:a:0.8>" not in said(
        tmp_path, False, width=20
    )
