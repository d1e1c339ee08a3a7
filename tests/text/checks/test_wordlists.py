# SPDX-License-Identifier: Apache-2.0
"""Word lists that people edit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from builders import ROOT
from builders.text_checks import said, severity
from loraforge_text.checks.folding import narrow
from loraforge_text.checks.wordlists import SECTIONS, word_list

from loraforge import ConfigError


def own(tmp_path: Path, text: str) -> str:
    file = tmp_path / "words.txt"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_a_list_of_ones_own_adds_takes_out_and_excepts(tmp_path):
    mine = own(tmp_path, "# ours\n[colloquial]\n葛优躺 = 平卧   # a comment\n- 老赖\n! 老板凳\n[hedging]\n? 据说…可以\n")
    assert "平卧" in said("colloquial", "患者葛优躺。", word_list=mine)[0].message
    assert said("colloquial", "他是老赖。") and not said("colloquial", "他是老赖。", word_list=mine)
    assert said("colloquial", "老板凳。") and not said("colloquial", "老板凳。", word_list=mine)
    found = said("hedging", "据说这样可以。", word_list=mine)
    assert severity("hedging", found[0]) == "hint" and not said("hedging", "据说。这样可以。", word_list=mine)
    assert said("abbreviations", "BMI", word_list=mine), "the other lists stay"


def test_only_replaces_the_shipped_list(tmp_path):
    mine = own(tmp_path, "[colloquial only]\n葛优躺\n")
    assert said("colloquial", "葛优躺。", word_list=mine) and not said("colloquial", "他是老赖。", word_list=mine)
    assert said("hedging", "也许。", word_list=mine)


def test_gb18030_lists_are_read_and_changes_are_seen(tmp_path):
    file = tmp_path / "words.txt"
    file.write_bytes("[colloquial]\n葛优躺\n".encode("gb18030"))
    assert said("colloquial", "葛优躺。", word_list=str(file))
    file.write_bytes("[colloquial]\n摆烂\n".encode("gb18030"))
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1_000_000_000))  # whatever the clock of the file system
    assert not said("colloquial", "葛优躺。", word_list=str(file)) and said("colloquial", "摆烂。", word_list=str(file))


def test_every_wrong_line_is_named(tmp_path):
    mine = own(tmp_path, "葛优躺\n[slang]\nx\n[hedging]\n= 没有词\n")
    with pytest.raises(ConfigError) as error:
        said("colloquial", "x", word_list=mine)
    assert [problem.split(":")[1] for problem in error.value.problems] == ["1", "2", "5"] and "colloquial" in str(error.value)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_shipped_lists_explain_themselves_and_every_entry_can_be_found(section):
    head = (ROOT / "plugins" / "loraforge_text" / "checks" / f"{section}.txt").read_text(encoding="utf-8").split("\n[")[0]
    assert f"[{section} only]" in head and all(sign in head for sign in "?~!-…")
    words = word_list(section, None)
    for entry in words.entries:
        text = entry.written.rstrip("|").replace("…", "某某")
        hits = [hit.entry for hit in words.find(text)]
        longer = [e for e in hits if len(e.written) > len(entry.written)]
        assert entry in hits or longer or any(e.pattern.search(narrow(text)) for e in words.exceptions), entry
