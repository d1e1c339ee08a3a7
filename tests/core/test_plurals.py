# SPDX-License-Identifier: Apache-2.0
"""One row is one row: over all sentences that there are."""

from __future__ import annotations

import json
import re

import pytest
from builders import ROOT

from loraforge import speaker
from loraforge.plurals import _NOUNS, counted, singular

say = speaker(__name__)
CATALOGUES = [ROOT / "loraforge" / "zh.json", *(ROOT / "plugins").glob("*/zh.json")]
SENTENCES = sorted({key for path in CATALOGUES for key in json.loads(path.read_text(encoding="utf-8"))})


@pytest.mark.parametrize(
    ("sentence", "values", "said"),
    [
        ("{n} rows are left out", {"n": 1}, "{n} row is left out"),
        ("{n} rows are left out", {"n": 2}, "{n} rows are left out"),
        ("{n} of {all} rows are left out", {"n": 1, "all": 4}, "{n} of {all} rows is left out"),
        ("{n} of {all} rows are left out", {"n": 1, "all": 1}, "{n} of {all} row is left out"),
        ("{n} of its layers have other widths", {"n": 1}, "{n} of its layers has other widths"),
        ("there are {n} rows.", {"n": 1}, "there is {n} row."),
        ("{error} errors, {warning} warnings", {"error": 1, "warning": 3}, "{error} error, {warning} warnings"),
        ("{n} tensors belong to no module and are left out", {"n": 1}, "{n} tensor belongs to no module and is left out"),
        ("the shapes of {n} modules do not fit", {"n": 1}, "the shapes of {n} module do not fit"),
        ("applies to {n} independent {items} only", {"n": 1, "items": "questions"}, "applies to {n} independent question only"),
        ("{n:,} bytes", {"n": 1}, "{n:,} byte"),
        ("{n} rows", {"n": "1"}, "{n} row"),  # a card has its numbers as texts
        ("{n} rows", {"n": "1.0"}, "{n} rows"),
        ("{n} rows", {"n": True}, "{n} rows"),
        ("{where}: {n} passes", {"where": 1, "n": 1}, "{where}: {n} pass"),
    ],
)
def test_agreement(sentence, values, said):
    assert counted(sentence, values) == said


def test_no_sentence_counts_one_of_several():
    plurals = "|".join(_NOUNS.split())
    wrong = []
    for sentence in SENTENCES:
        values = dict.fromkeys(re.findall(r"\{(\w+)", sentence), 1)
        said = re.sub(r"\{\w+(?::,)?\}", "1", counted(sentence, values))
        if re.search(rf"\b1 (?!of )(?:(?:held-out|independent|earlier|learned|more|hidden|different) )?(?:{plurals})\b", said):
            wrong.append(said)
    assert not wrong


def test_the_same_sentence_in_chinese_is_left_alone(monkeypatch):
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    assert say("{steps} steps.", steps=1) == "共 1 步。"
    monkeypatch.setenv("LORAFORGE_LANG", "en")
    assert (say("{steps} steps.", steps=1), say("{steps} steps.", steps=2)) == ("1 step.", "2 steps.")


@pytest.mark.parametrize(("many", "one"), [("rows", "row"), ("passes", "pass"), ("copies", "copy"), ("bytes", "byte"), ("hours", "hour")])
def test_singular(many, one):
    assert singular(many) == one
