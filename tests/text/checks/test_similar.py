# SPDX-License-Identifier: Apache-2.0
"""Near-identical questions, exactly those of a plain loop."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from builders.text_checks import LEGAL, rows, run_check
from hypothesis import given
from hypothesis import strategies as st
from loraforge_text.checks.folding import narrow
from loraforge_text.checks.similar import near_pairs
from loraforge_text.evaluation.measures import fingerprint
from loraforge_text.records import Conversation

import loraforge
from loraforge import fold
from loraforge.data import splitting

ROOT = Path(__file__).parents[3]


@given(st.text(max_size=40))
def test_folding_is_stable_and_blind_to_width_case_and_punctuation(text):
    assert fold(fold(text)) == fold(text)
    assert fold(f"「{text}」， ！?") == fold(text)
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)
    assert fold(wide) == fold(text)
    assert len(narrow(text)) == len(text)


def asked(*questions: str) -> tuple[Conversation, ...]:
    return tuple(Conversation(where=f"row {i}", instruction=question, output="答") for i, question in enumerate(questions))


@given(st.lists(st.text("劳动合同期满吗呢3Ａa，", max_size=12), max_size=8))
def test_near_pairs_are_exactly_those_that_a_plain_loop_finds(questions):
    rows = asked(*questions)
    features = [fingerprint(row).features for row in rows]
    wanted = {
        (j, i)
        for i in range(len(rows))
        for j in range(i + 1, len(rows))
        if len(features[i] & features[j]) / len(features[i] | features[j]) >= 0.8
        or (
            min(len(features[i]), len(features[j])) >= 10
            and len(features[i] & features[j]) >= 0.9 * min(len(features[i]), len(features[j]))
        )
    }
    found = {(pair.later, pair.earlier): pair for pair in near_pairs(rows)}
    assert set(found) == wanted
    for (later, earlier), pair in found.items():
        same = loraforge.bare_question(questions[later]) == loraforge.bare_question(questions[earlier])
        assert pair.similarity == 1.0 and pair.same and not pair.decisive if same else pair.similarity <= 1.0


def test_four_fifths_of_the_pairs_make_a_pair():
    whole = "甲乙丙丁戊己庚辛壬癸子丑寅卯"  # 13 pairs
    assert near_pairs(asked(whole, whole[:-1] + "辰"))[0].similarity == pytest.approx(12 / 14)
    assert near_pairs(asked(whole, whole[:-2] + "辰巳")) == ()  # 11 / 15


def test_in_a_short_question_a_particle_is_a_large_share():
    assert [f.rows for f in run_check("near_duplicates", rows(("要付赔偿吗？", LEGAL), ("请问要付赔偿呢", LEGAL)))] == [(1, 0)]
    assert run_check("near_duplicates", rows(("要付赔偿吗？", LEGAL), ("不付赔偿吗？", LEGAL), ("好吗", LEGAL), ("好呢", LEGAL))) == []
    assert run_check("contradictions", rows(("要付赔偿吗？", "应当支付。"), ("要付赔偿呢？", "无需支付。")))


# --- what is planted among the sample tables --------------------------------------------------------------------------------------


def samples() -> list[Conversation]:
    found = []
    for name in ("legal", "medical"):
        with (ROOT / "configs" / "data" / name / "metadata.csv").open(encoding="utf-8", newline="") as file:
            found += [Conversation(row["instruction"], row["output"], where=f"{name} {i}") for i, row in enumerate(csv.DictReader(file))]
    return found


# As somebody would write them who had only the simplified text: characters of the sample questions, by a dictionary of their own.
TRADITIONAL = str.maketrans(
    "劳动问题应当给经济补偿医疗药吗时间产权请给让结婚离财继", "勞動問題應當給經濟補償醫療藥嗎時間產權請給讓結婚離財繼"
)
KINDS = {
    "a greeting": lambda q: {"instruction": f"请问，{q}"},
    "more of it": lambda q: {"instruction": f"律师您好！想咨询一下：{q}谢谢"},
    "in English": lambda q: {"instruction": f"Hi, please: {q}"},
    "a particle": lambda q: {"instruction": q.rstrip("？?吗呢啊") + "呢？"},
    "traditional characters": lambda q: {"instruction": q.translate(TRADITIONAL)},
    "digits": lambda q: {"instruction": q.translate(str.maketrans("一二三四五六七八九", "123456789"))},
    "a system message": lambda q: {"instruction": q, "system": "你是一名严谨的助手。"},
    "instruction and input": lambda q: {"instruction": "请先给出结论，再说明依据，语言要简明：", "input": q},
    "two halves": lambda q: {"instruction": q[: len(q) // 2], "input": q[len(q) // 2 :]},
    "within a longer one": lambda q: {"instruction": f"我在一家小公司上班，最近遇到了一件麻烦事，不知道该找谁问。{q}希望尽快得到答复。"},
    "a conversation that begins so": lambda q: {"instruction": "那么应当准备哪些材料，又要到哪个部门去办？", "history": ((q, "先前的回答。"),)},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_asks_the_same_stands_on_one_side_and_the_check_sees_it(kind):
    data = samples()
    some = range(3, len(data), 12)
    planted = [
        Conversation(output=f"完全不同的回答，第{i}个，只为不以回答相连{i * 7919}。", where=f"p {i}", **KINDS[kind](data[i].instruction))
        for i in some
    ]
    rows = (*data, *planted)
    parted = splitting.split([fingerprint(row) for row in rows], 0.5, by="question")
    assert [parted.groups[len(data) + n] for n in range(len(planted))] == [parted.groups[i] for i in some]
    seen = {(pair.later, pair.earlier) for pair in near_pairs(rows)}
    if kind != "a conversation that begins so":  # these begin alike among themselves, and the nearest are named first
        assert {(len(data) + n, i) for n, i in enumerate(some)} <= seen


def test_turns_in_another_order_are_the_same_questions():
    one, two = "劳动合同到期不续签有补偿吗？", "试用期内被辞退，公司需要说明理由吗？"
    rows = [Conversation(two, "乙", where="a", history=((one, "甲"),)), Conversation(one, "丙", where="b", history=((two, "丁"),))]
    assert near_pairs(tuple(rows)) and near_pairs((rows[0], Conversation(one, "戊", where="c")))
    greeted = [Conversation(q, "答", where=q, history=(("你好", "您好"),)) for q in (one, two)]
    assert near_pairs(tuple(greeted)) == (), "that both begin with a greeting says nothing"
    short = [Conversation("那怎么办？", "答", where=q, history=((q, "答"),)) for q in (one, two)]
    assert near_pairs(tuple(short)) == (), "nor that both go on with the same few words"


def test_different_questions_of_the_sample_tables_are_not_joined():
    """Three rows each are one point; of 44,550 pairs of different points none may be taken for the same question or answer."""
    data = samples()
    parted = splitting.split([fingerprint(row) for row in data], 0.2)
    assert parted.groups == tuple(i - i % 3 for i in range(len(data))) and not parted.known
    assert near_pairs(tuple(data)) == ()


def test_a_check_tells_of_questions_within_others_where_the_answers_are_the_same():
    one = "劳动合同到期不续签有补偿吗？"
    longer = f"我在公司干了五年，{one}谢谢您抽空看看。"
    (found,) = run_check("near_duplicates", rows((one, LEGAL), (longer, LEGAL)))
    assert found.rows == (1, 0) and "in part" in found.message
    assert run_check("near_duplicates", rows((one, LEGAL), (longer, "可以先与公司协商，协商不成再申请劳动仲裁。"))) == []
    role = [
        Conversation(one, LEGAL, where="a"),
        Conversation(one, "作为公司一方，可以这样答辩：合同期满终止。", where="b", system="你是公司法务。"),
    ]
    assert run_check("near_duplicates", role) == [] and run_check("contradictions", role) == []
