"""A mistyped command line is explained in the user's language; click's English is left nowhere in the Chinese."""

from __future__ import annotations

import re

import pytest

SLIPS = [
    (("trian",), "trian"), (("check",), "TASK"), (("check", "text"), "CONFIG"), (("check", "--shwo", "1", "text", "c.yaml"), "--show"),
    (("check", "text", "c.yaml", "--show", "-1"), "-1"), (("check", "text", "c.yaml", "--show", "x"), "'x'"), (("export", "r"), "--to"),
    (("check", "text", "c.yaml", "extra"), "extra"), (("check", "text", "c.yaml", "a", "b"), "a b"), (("completion", "zish"), "'bash'"),
    (("check", "text", "c.yaml", "--set"), "--set"), (("--bad",), "--bad"), (("check", "--json=1", "text", "c.yaml"), "--json"),
    (("train", "text", "c.yaml", "--resume", "--fresh"), "--fresh"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "named"), SLIPS, ids=[" ".join(a) for a, _ in SLIPS])
def test_in_chinese(command, monkeypatch, arguments, named):
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    code, out, err = command(*arguments)
    said = err.strip().splitlines()[-1]
    assert code == 2 and out == "" and said.startswith("错误：") and named in said
    assert not re.search(r"\b(No|such|Missing|Invalid|Got|requires|Error|Usage|Try|Did|mean|argument|value)\b", err)


@pytest.mark.parametrize(("arguments", "named"), SLIPS, ids=[" ".join(a) for a, _ in SLIPS])
def test_in_english_as_click_has_it(command, monkeypatch, arguments, named):
    monkeypatch.setenv("LORAFORGE_LANG", "en")
    code, _, err = command(*arguments)
    assert code == 2 and "Error: " in err and named in err
