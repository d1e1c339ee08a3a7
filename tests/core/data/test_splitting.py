# SPDX-License-Identifier: Apache-2.0
"""The split: near-identical questions on one side, stable under appending, the same in every run; leaks are told."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loraforge.data import similarity, splitting
from loraforge.data.splitting import ASIDE, HELD_OUT, LEARNED
from loraforge.plugin_api.types import Fingerprint


def fingerprint(text: str) -> Fingerprint:
    key = similarity.fold(text)
    return Fingerprint(key, similarity.character_pairs(key))


def questions(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    signs = [chr(0x4E00 + i) for i in range(800)]
    return ["".join(rng.choices(signs, k=12)) + "？" for _ in range(count)]


def split(texts, ratio=0.2, fixed=()) -> splitting.Split:
    return splitting.split([fingerprint(t) for t in texts], ratio, fixed)


def test_about_the_wanted_share_is_held_out():
    for ratio in (0.1, 0.2, 0.5):
        assert abs(len(split(questions(1000), ratio).of(HELD_OUT)) / 1000 - ratio) < 0.04
    assert not split(questions(50), 0).of(HELD_OUT)


def test_rows_keep_their_side_when_rows_are_appended():
    texts = questions(300)
    texts += [t.replace("？", "呢？") for t in texts[:40]]  # near-identical ones among them
    random.Random(1).shuffle(texts)
    whole = split(texts)
    for count in (100, 200, 339):
        assert split(texts[:count]).sides == whole.sides[:count]


def test_a_side_does_not_depend_on_the_answer_or_on_the_other_rows():
    texts = questions(200)
    sides = dict(zip(texts, split(texts).sides, strict=True))
    shuffled = random.Random(2).sample(texts, 200)
    assert dict(zip(shuffled, split(shuffled).sides, strict=True)) == sides


@pytest.mark.parametrize(
    "variant",
    [
        lambda t: t.replace("？", "?"),
        lambda t: t + "  ",
        lambda t: "请问，" + t,
        lambda t: t.replace("？", "呢？"),
        lambda t: "".join(chr(ord(c) + 0xFEE0) if c.isascii() and c.isalnum() else c for c in t),  # full width
        str.upper,
    ],
)
def test_near_identical_questions_never_stand_on_both_sides(variant):
    texts = [f"abc{t}12xyz工伤认定申请应当在事故发生之日起多少日内提出" for t in questions(150)]
    parted = split([*texts, *(variant(t) for t in texts)])
    for i in range(150):
        assert parted.sides[i] == parted.sides[150 + i] and parted.groups[150 + i] == parted.groups[i]
    assert not parted.leaks


def test_other_wordings_of_one_point_are_other_questions():
    texts = ["劳动合同到期，用人单位不续签，应当支付经济补偿吗？", "小吴合同到期后想留下，公司决定不续签，要给他经济补偿吗？"]
    assert similarity.near_pairs([fingerprint(t).features for t in texts]) == []


def test_a_row_between_both_sides_is_set_aside_and_named():
    features = frozenset(range(100))
    rows = [
        Fingerprint("one", features - {0}),
        Fingerprint("two", features - {1}),
        Fingerprint("between", features),
        *map(fingerprint, questions(20)),
    ]
    fixed = [LEARNED, HELD_OUT, *[None] * 21]
    parted = splitting.split(rows, 0.2, fixed)
    # The second resembles the first, which is learned, but the earlier run held it out; the third goes with the first.
    assert parted.sides[:3] == (LEARNED, ASIDE, LEARNED) and parted.groups[:3] == (0, 0, 0)
    assert [(leak.row, leak.learned, leak.heldout) for leak in parted.leaks] == [(1, 0, 1)]
    far = [rows[0], Fingerprint("two", frozenset(range(20, 120))), Fingerprint("between", frozenset(range(10, 110)))]
    parted = splitting.split([*far, *map(fingerprint, questions(20))], 0.2, fixed)
    assert parted.sides[:3] == (LEARNED, HELD_OUT, ASIDE)
    assert [(leak.row, leak.learned, leak.heldout) for leak in parted.leaks] == [(2, 0, 1)]


def test_what_an_earlier_run_learned_is_never_held_out():
    texts = questions(100)
    before = split(texts, 0.2)
    after = split([*questions(50, seed=9), *texts], 0.5, [*[None] * 50, *before.sides])
    assert after.sides[50:] == before.sides
    assert HELD_OUT in after.sides[:50]
    for sides in ([LEARNED] * 6, [HELD_OUT] * 6):  # not even where nothing else could be held out, or learned
        assert split(questions(6), 0.3, sides).sides == tuple(sides)


def test_few_near_rows_move_together():
    """Chains of near-identical rows: what is moved so that neither side is empty takes all of its cluster along."""
    rng = random.Random(5)
    for _ in range(300):
        core = rng.sample(range(1000), 60)
        rows = [Fingerprint(str(rng.random()), frozenset(rng.sample(core, 52)) | {2000 + i}) for i in range(6)]
        parted = splitting.split(rows, 0.2)
        for row, other, _ in similarity.near_pairs([r.features for r in rows]):
            assert {parted.sides[row], parted.sides[other]} != {LEARNED, HELD_OUT}


def test_no_near_row_is_overlooked_however_many_there_are():
    rng = random.Random(6)
    core = list(range(200))
    rows = [Fingerprint(str(rng.random()), frozenset(rng.sample(core, 180))) for _ in range(150)]
    parted = splitting.split(rows, 0.5, [LEARNED, HELD_OUT, *[None] * 148])
    for row, other, _ in similarity.near_pairs([r.features for r in rows]):
        assert {parted.sides[row], parted.sides[other]} != {LEARNED, HELD_OUT} or {row, other} == {0, 1}


def test_few_rows_still_have_both_sides():
    for count in range(2, 12):
        for seed in range(20):
            sides = set(split(questions(count, seed), 0.1).sides)
            assert sides == {LEARNED, HELD_OUT}, (count, seed)
    same = ["一样的问题？"] * 5
    assert set(split(same).sides) == {LEARNED}
    assert set(split(questions(3), 0.9).sides) == {LEARNED, HELD_OUT}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=12), max_size=30), st.floats(0, 0.9, allow_subnormal=False))
def test_it_takes_any_text(texts, ratio):
    parted = split(texts, ratio)
    assert len(parted.sides) == len(parted.groups) == len(texts)
    for row, other, overlap in similarity.near_pairs([fingerprint(t).features for t in texts]):
        assert other < row and similarity.NEAR - 1e-5 <= overlap <= 1
        sides = {parted.sides[row], parted.sides[other]} - {ASIDE}
        assert len(sides) < 2 or parted.leaks


def test_the_overlap_is_jaccards():
    one, other = fingerprint("一二三四五六七八九十"), fingerprint("一二三四五六七八九十百")
    (pair,) = similarity.near_pairs([one.features, other.features])
    assert pair == (1, 0, pytest.approx(9 / 10))
    assert len(similarity.character_pairs("aaa")) == 2  # a pair that stands there twice counts twice


def test_a_key_decides_by_its_place_between_0_and_1():
    """The first 16 hexadecimal digits as a fraction; below the ratio it is held out, at the ratio it is learned."""
    assert splitting.point("8" + "0" * 63) == 0.5 and splitting.point("0" * 16 + "f" * 48) == 0.0
    assert splitting.point("c" + "0" * 15 + "f" * 48) == 0.75
    texts = questions(40)
    places = [splitting.point(splitting.key_of(fingerprint(text))) for text in texts]
    border = sorted(places)[12]
    assert [side == HELD_OUT for side in split(texts, border).sides] == [place < border for place in places]


def test_the_key_is_the_hash_of_what_is_asked():
    import hashlib

    assert splitting.key_of(Fingerprint("工伤", frozenset())) == hashlib.sha256("工伤".encode()).hexdigest()
    assert splitting.key_of(Fingerprint("\ud800", frozenset()))  # half a character, as a damaged file has it


def test_a_task_without_a_fingerprint_is_split_by_its_question_and_its_answer():
    from types import SimpleNamespace

    words = SimpleNamespace(compare=None)
    task = SimpleNamespace(fingerprint=None, question=lambda record: record[0], answer=lambda record: record[1], evaluation=words)
    made = splitting.fingerprinter(task)
    found = made(("请问工伤，A？", "应当在三十日内提出申请，逾期不予受理。"))
    assert found.key == "请问工伤a" and found.features == similarity.character_pairs("工伤a"), "the key is what older runs wrote"
    assert [(one.key, one.short) for one in found.lessons] == [("应当在30日内提出申请逾期不予受理", False)]
    assert made(("？！", "是")).key == "？！" and made(("？！", "是")).lessons[0].short and made(("a", "")).lessons == ()
    pictures = SimpleNamespace(**{**vars(task), "evaluation": SimpleNamespace(compare=print)})
    untold = SimpleNamespace(**{**vars(task), "answer": str})
    assert splitting.fingerprinter(pictures)(("a", "b" * 30)).lessons == splitting.fingerprinter(untold)(("a", "b" * 30)).lessons == ()
    own = SimpleNamespace(fingerprint=fingerprint, question=None)
    assert splitting.fingerprinter(own) is fingerprint


def test_equal_keys_stand_together_whatever_their_features_say():
    rows = [Fingerprint("same", frozenset({i})) for i in range(12)]
    parted = splitting.split([*rows, *map(fingerprint, questions(30))], 0.5)
    assert len(set(parted.sides[:12])) == 1 and set(parted.groups[:12]) == {0}
    # One is near as well: it is named once, and the nearest first.
    mixed = [Fingerprint("a", frozenset(range(10))), Fingerprint("b", frozenset(range(10))), Fingerprint("a", frozenset(range(10)))]
    assert [near for _, near, _ in splitting._earlier(mixed)] == [[], [0], [0, 1]]
    far = [Fingerprint("a", frozenset({1})), Fingerprint("b", frozenset(range(10))), Fingerprint("a", frozenset(range(10)))]
    assert [near for _, near, _ in splitting._earlier(far)] == [[], [], [0, 1]]


def test_the_nearest_row_of_each_side_is_named_and_rows_set_aside_draw_nobody():
    features = frozenset(range(100))
    rows = [
        Fingerprint("learned, far", features - set(range(12))),
        Fingerprint("learned, near", features - set(range(3)) | {"x"}),
        Fingerprint("held out, near", features - set(range(90, 93)) | {"y"}),
        Fingerprint("between", features),
        Fingerprint("like the one between", features | set(range(200, 224))),
    ]
    parted = splitting.split(rows, 0.2, [LEARNED, LEARNED, HELD_OUT, None, LEARNED])
    assert parted.sides[2] == ASIDE and parted.leaks[0].row == 2, "its earlier run held it out, but it is like learned ones"
    assert (parted.leaks[0].learned, parted.leaks[0].heldout) == (1, 2)
    aside = [
        Fingerprint("a", frozenset(range(100))),
        Fingerprint("b", frozenset(range(20, 120))),
        Fingerprint("m", frozenset(range(10, 110))),
    ]
    for side in (LEARNED, HELD_OUT):
        far = Fingerprint("far", frozenset(range(1000, 1100)))
        parted = splitting.split([*aside, far, Fingerprint("like m", aside[2].features)], 0.2, [LEARNED, HELD_OUT, None, None, side])
        assert (parted.sides[2], parted.sides[4]) == (ASIDE, ASIDE), "near the learned and the held-out one too"
    alone = splitting.split([aside[0], aside[1], aside[2]], 0.2, [LEARNED, HELD_OUT, None])
    assert alone.sides == (LEARNED, HELD_OUT, ASIDE) and alone.groups == (0, 0, 0)


def test_the_cluster_next_to_the_border_moves_with_all_its_rows():
    """Nothing is below the ratio, or everything: the lowest moves out, the highest comes back, and what is given stays."""
    texts = questions(6)
    place = {text: splitting.point(splitting.key_of(fingerprint(text))) for text in texts}
    low, high = min(texts, key=place.__getitem__), max(texts, key=place.__getitem__)
    none, every = min(place.values()) / 2, 0.9999999
    doubled = [*texts, low + "。", high + "。"]  # the same to a reader
    assert [doubled[i] for i, side in enumerate(split(doubled, none).sides) if side == HELD_OUT] == [low, low + "。"]
    assert [doubled[i] for i, side in enumerate(split(doubled, every).sides) if side == LEARNED] == [high, high + "。"]
    given = [LEARNED if text == low else None for text in texts]
    second = sorted(texts, key=place.__getitem__)[1]
    assert [texts[i] for i, side in enumerate(split(texts, none, given).sides) if side == HELD_OUT] == [second]
    assert split(texts[:1], none).sides == (LEARNED,) and split(texts[:1], every).sides == (LEARNED,), "a single one is learned"
    assert split(texts, 0.0).sides == (LEARNED,) * 6


def test_clusters_are_called_by_their_first_row():
    clusters = splitting._Clusters(6)
    for row, other in ((3, 2), (5, 4), (4, 3), (1, 0)):
        clusters.join(row, other)
    assert [clusters.first(row) for row in range(6)] == [0, 0, 2, 2, 2, 2]


def test_a_side_that_is_given_twice_differently_sets_the_row_aside():
    parted = split(
        ["一个完全不同的问题是什么？", "另一个无关的题目在哪里？", "第三件事情如何办理呢？"], 0, [splitting.ASIDE, LEARNED, HELD_OUT]
    )
    assert parted.sides == (splitting.ASIDE, LEARNED, HELD_OUT)
    assert parted.leaks == (splitting.Leak(0, 0, 0),)


# --- answers, columns --------------------------------------------------------------------------------------------------------


def row(question: str, *answers: str) -> Fingerprint:
    from loraforge.data.wording import lesson

    return Fingerprint(question, similarity.character_pairs(question), lessons=tuple(map(lesson, answers)))


def topics(count: int, wordings: int, seed: int = 3) -> list[Fingerprint]:
    """So many points, each asked in so many ways, with an answer of its own; shuffled."""
    asked, said = iter(questions(count * wordings, seed)), questions(count, seed + 1)
    rows = [row(next(asked), f"{said[i]}。依据是{said[i][::-1]}。") for i in range(count) for _ in range(wordings)]
    return random.Random(seed).sample(rows, len(rows))


def answer_of(fingerprint: Fingerprint) -> str:
    return fingerprint.lessons[-1].key


def test_rows_with_one_answer_stand_on_one_side_and_nothing_held_out_is_known():
    rows = topics(40, 3)
    parted = splitting.split(rows, 0.2)
    by_answer: dict[str, set[str]] = {}
    for one, side in zip(rows, parted.sides, strict=True):
        by_answer.setdefault(answer_of(one), set()).add(side)
    assert all(len(sides) == 1 for sides in by_answer.values()) and not parted.known and not parted.leaks
    assert len(set(parted.groups)) == 40 and len(set(parted.questions)) == 120, "the questions alone stay apart"
    assert 0.08 < len(parted.of(HELD_OUT)) / 120 < 0.4
    alone = splitting.split(rows, 0.2, by="question")
    learned = {answer_of(rows[i]) for i in alone.of(LEARNED)}
    assert alone.known == {i for i in alone.of(HELD_OUT) if answer_of(rows[i]) in learned} and len(alone.known) > 10


def test_nearly_the_same_answer_and_one_that_stands_within_it_count_as_one():
    text = "用人单位应当支付经济补偿，标准为每满一年支付一个月工资，六个月以上不满一年的按一年计算。"
    said = [
        text,
        text.replace("。", "！"),
        "依法，" + text,
        text.replace("一个月", "1个月"),
        text + "此外还应当及时出具解除劳动合同的证明并办理档案转移手续，期限为十五日。",
    ]
    rows = [row(question, answer) for question, answer in zip(questions(5), said, strict=True)]
    assert set(splitting.split([*rows, *topics(10, 1)], 0.5).groups[:5]) == {0}
    other = row("别的", "用人单位应当支付双倍工资，自用工之日起满一个月的次日起算，至补订书面合同的前一日为止。")
    assert splitting.split([rows[0], other, *topics(10, 1)], 0.5).groups[:2] == (0, 1)


def test_a_form_filled_in_with_other_numbers_is_another_answer():
    form = "应当支付经济补偿，依据是《劳动合同法》第{}条，按劳动者在本单位工作的年限计算，每满一年支付一个月工资。"
    articles = [*range(40, 70)] * 2
    rows = [row(question, form.format(n)) for question, n in zip(questions(60), articles, strict=True)]
    parted = splitting.split(rows, 0.3)
    assert parted.groups == tuple(i % 30 for i in range(60)), "each article's two questions stand together, and no others"
    assert parted.of(HELD_OUT) and not parted.known
    pair = [row(question, answer) for question, answer in zip(questions(2), (form.format(46), form.format("四十六")), strict=True)]
    assert splitting.split(pair, 0.5).groups == (0, 0), "one number in another writing"
    more = [row(question, answer) for question, answer in zip(questions(2), (form.format(46), form.format(46) + "期限30日。"), strict=True)]
    assert splitting.split(more, 0.5).groups == (0, 0), "one that says more is learned with it"
    given = splitting.split(rows, 0.3, [LEARNED] * 30 + [HELD_OUT] * 29 + [None])
    assert given.known == set(range(30, 59)), "a given hold-out asks in other words for what was learned"
    assert not splitting.split(rows[:30], 0.3, [LEARNED] * 15 + [HELD_OUT] * 15).known, "here every article is new"


def test_a_chain_by_question_and_by_answer_is_one_cluster():
    one, two = questions(2)
    a, b, c, d = (
        row(one, "x" * 3),
        row(one + "呢", "甲" * 3 + "应当承担全部的赔偿责任"),
        row(two, "甲" * 3 + "应当承担全部的赔偿责任"),
        row(two + "呢", "y" * 3),
    )
    for ratio in (0.2, 0.5, 0.8):
        parted = splitting.split([a, b, c, d, *topics(12, 1)], ratio)
        assert parted.groups[:4] == (0, 0, 0, 0) and len(set(parted.sides[:4])) == 1
    between = splitting.split([a, c, b, *topics(12, 1)], 0.5, [LEARNED, HELD_OUT, *[None] * 13])
    assert between.sides[2] == ASIDE and between.leaks == (splitting.Leak(2, 0, 1),), "its question is learned, its answer held out"


def test_classes_do_not_make_one_cluster_of_everything():
    rng = random.Random(8)
    rows = [row(question, rng.choice(("是", "否", "不确定"))) for question in questions(300)]
    parted = splitting.split(rows, 0.2)
    assert abs(len(parted.of(HELD_OUT)) / 300 - 0.2) < 0.07 and parted.largest == splitting.CLASS
    assert not parted.known, "what is new there is the question"
    forced = splitting.split(rows, 0.2, by="answer")
    assert len(set(forced.groups)) == 3 and set(forced.sides) == {LEARNED, HELD_OUT}
    few = [row(question, f"{20 + i // 4}日内") for i, question in enumerate(questions(80))]
    parted = splitting.split(few, 0.3)
    assert len(set(parted.groups)) == 20 and not parted.known, "short knowledge that is asked in a few wordings is knowledge"


@pytest.mark.parametrize(("rows", "known"), [(2, True), (5, True), (6, False)])
def test_an_answer_that_so_many_rows_give_is_the_name_of_a_class(rows, known):
    same = [row(question, "30日") for question in questions(rows)]
    sides = [*[LEARNED] * (rows - 1), HELD_OUT]
    assert splitting.known([*same, row("别的问题", "45日")], [*sides, HELD_OUT]) == (frozenset({rows - 1}) if known else frozenset())
    long = "甲方应当承担全部的赔偿责任并且在三十日以内付清，逾期的每日支付千分之一"
    assert splitting.known([row("一个", long), row("别的", long + "。")], [HELD_OUT, LEARNED]) == frozenset({0}), "long ones are none"
    assert splitting.known([row(q, long) for q in questions(7)], [*[LEARNED] * 6, HELD_OUT]) == frozenset({6})
    for sides in ([LEARNED, HELD_OUT], [HELD_OUT, LEARNED]):  # nearly the same answer, too
        near = splitting.known([row("一个", long), row("别的", "依法，" + long)], sides)
        assert near == frozenset({sides.index(HELD_OUT)})
    assert not splitting.known([row(q, long) for q in questions(2)], [HELD_OUT] * 2)


@pytest.mark.parametrize("by", ["auto", "answer", "question", "topic"])
def test_rows_keep_their_side_when_rows_are_appended_whatever_they_stand_together_by(by):
    rng = random.Random(11)
    rows = topics(60, 3) + [row(q, rng.choice(("是", "否"))) for q in questions(60, seed=40)]
    rows = rng.sample(rows, len(rows))
    values = [rng.choice((None, "a", "b", "c", *map(str, range(20)))) for _ in rows]
    whole = splitting.split(rows, 0.3, by=by, values=values)
    for count in (60, 150, 239):
        assert splitting.split(rows[:count], 0.3, by=by, values=values[:count]).sides == whole.sides[:count]


def test_a_column_keeps_its_values_together_and_near_questions_too():
    texts = questions(90)
    texts[5] = texts[80] + "呢"
    values = [f"patient {i % 30}" if i % 3 else None for i in range(90)]
    parted = splitting.split([row(text, "同一个很长的回答，谁都一样，不算数。") for text in texts], 0.3, by="patient", values=values)
    sides: dict[str, set[str]] = {}
    for value, side in zip(values, parted.sides, strict=True):
        sides.setdefault(value or "", set()).add(side)
    assert all(len(found - {ASIDE}) == 1 for value, found in sides.items() if value) and len(sides[""]) > 1
    assert parted.groups[80] == parted.groups[5] and len(set(parted.groups)) == 30 + 20 - 1
    assert len(parted.known) == len(parted.of(HELD_OUT)), "answers do not count here, and are told"


def test_given_sides_hold_though_their_answers_are_learned():
    one, two, three = questions(3)
    said = "应当在三十日内提出书面申请，逾期不予受理。"
    given = [HELD_OUT, LEARNED, None, None]
    parted = splitting.split([row(one, said), row(two, said), row(three, said), row(two + "呢", said)], 0.2, given)
    assert parted.sides == (HELD_OUT, LEARNED, LEARNED, LEARNED) and parted.known == {0} and not parted.leaks
    near = splitting.split([row(one, said), row(one + "呢", "另一个回答，说的是完全不同的一件事情。")], 0.2, [HELD_OUT, LEARNED])
    assert near.sides == (HELD_OUT, ASIDE), "a question that is learned with another particle is another matter"


def test_what_a_manifest_calls_answers_and_groups():
    one = row("问", "是", "应当在三十日内提出书面申请。")
    assert len(splitting.companions(one, "auto", None)) == 1 and len(splitting.companions(one, "answer", None)) == 2
    assert splitting.companions(one, "question", "x") == splitting.companions(one, "topic", None) == []
    assert splitting.companions(one, "topic", "a") != splitting.companions(one, "client", "a") != splitting.companions(one, "client", "b")
    assert not {splitting.key_of(one)} & set(splitting.companions(row("应", "应"), "answer", None))
