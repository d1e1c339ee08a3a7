"""Near-identical questions, exactly those of a plain loop."""

from __future__ import annotations

import pytest
from builders.text_checks import LEGAL, rows, run_check
from hypothesis import given
from hypothesis import strategies as st
from loraforge_text.checks.folding import narrow
from loraforge_text.checks.similar import bigrams, near_pairs

from loraforge import fold


@given(st.text(max_size=40))
def test_folding_is_stable_and_blind_to_width_case_and_punctuation(text):
    assert fold(fold(text)) == fold(text)
    assert fold(f"「{text}」， ！?") == fold(text)
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)
    assert fold(wide) == fold(text)
    assert len(narrow(text)) == len(text)


@given(st.lists(st.text("劳动合同期满吗呢3Ａa，", max_size=12), max_size=8))
def test_near_pairs_are_exactly_those_that_a_plain_loop_finds(questions):
    def similarity(a: str, b: str) -> float:
        x, y = bigrams(a), bigrams(b)
        return len(x & y) / len(x | y) if x and y else 0.0

    wanted = {(j, i) for i in range(len(questions)) for j in range(i + 1, len(questions)) if similarity(questions[i], questions[j]) >= 0.8}
    found = {(pair.later, pair.earlier): pair for pair in near_pairs(tuple(questions))}
    assert wanted <= set(found)
    for (later, earlier), pair in found.items():
        if (later, earlier) not in wanted:
            silent = [fold("".join(c for c in questions[i] if c not in "吗呢")) for i in (later, earlier)]
            assert silent[0] == silent[1] and pair.same and not pair.decisive


def test_four_fifths_of_the_bigrams_make_a_pair():
    whole = "甲乙丙丁戊己庚辛壬癸子丑寅卯"  # 13 bigrams
    assert near_pairs((whole, whole[:-1] + "辰"))[0].similarity == pytest.approx(12 / 14)
    assert near_pairs((whole, whole[:-2] + "辰巳")) == ()  # 11 / 15


def test_in_a_short_question_a_particle_is_a_large_share():
    assert [f.rows for f in run_check("near_duplicates", rows(("要付赔偿吗？", LEGAL), ("请问要付赔偿呢", LEGAL)))] == [(1, 0)]
    assert run_check("near_duplicates", rows(("要付赔偿吗？", LEGAL), ("不付赔偿吗？", LEGAL), ("好吗", LEGAL), ("好呢", LEGAL))) == []
    assert run_check("contradictions", rows(("要付赔偿吗？", "应当支付。"), ("要付赔偿呢？", "无需支付。")))
