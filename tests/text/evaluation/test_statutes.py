# SPDX-License-Identifier: Apache-2.0
"""Statutes and their articles as they are written: generated from what they mean, by a writer that shares nothing with the reader."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loraforge_text.evaluation.citations import citations, number

# --- the writer --------------------------------------------------------------------------------------------------------------

ONES = ["", "一", "二", "三", "四", "五", "六", "七", "八", "九"]
FORMAL = str.maketrans("一二三四五六七八九十百千", "壹贰叁肆伍陆柒捌玖拾佰仟")
FULL_WIDTH = str.maketrans("0123456789", "０１２３４５６７８９")


def han(value: int) -> str:
    """1 to 9999 as an official text writes them, by the four places."""
    places = [value // 1000, value // 100 % 10, value // 10 % 10, value % 10]
    written, gap = "", False
    for digit, unit in zip(places, ["千", "百", "十", ""], strict=True):
        if digit:
            written += ("零" if gap and written else "") + ONES[digit] + unit
            gap = False
        else:
            gap = True
    return written[1:] if 10 <= value < 20 else written


def short_tens(value: int) -> str:
    """廿三, 卅: as old statutes are quoted."""
    return {2: "廿", 3: "卅"}[value // 10] + ONES[value % 10] if 20 <= value < 40 else han(value)


WRITERS = {
    "Arabic": str,
    "Chinese": han,
    "full width": lambda value: str(value).translate(FULL_WIDTH),
    "digits": lambda value: "".join("〇一二三四五六七八九"[int(c)] for c in str(value)) if value > 9 else ONES[value],
    "formal": lambda value: han(value).translate(FORMAL),
    "short tens": short_tens,
}
NAMED = {
    "marks": "《{}》", "the country": "《中华人民共和国{}》", "bare": "{}", "bare with the country": "中华人民共和国{}", "corners": "「{}」", "double corners": "『{}』",
    "angles": "〈{}〉", "with a version": "《{}》（2018年修正）", "bare, with a version": "{}（2018年修正）",
}  # fmt: skip
LAWS = ["民法典", "劳动合同法", "刑法", "民事诉讼法", "道路交通安全法", "个人信息保护法", "工伤保险条例", "人口与计划生育法", "对外贸易法"]
LEADS = ["", "根据", "公司应当依照", "按照我国", "违反了", "本案应适用", "依", "法院认为，根据", "补偿的依据是", "参见", "其依据为"]
TAILS = ["", "，应当支付。", "的规定，可以解除。", "之规定", "第一款第（三）项，应当赔偿。", "第2款、第3款", "第二项规定", "。"]

articles = st.integers(1, 1260)


@settings(deadline=None, max_examples=120)
@given(st.integers(1, 9999), st.sampled_from(sorted(WRITERS)))
def test_numbers_come_back(value, writer):
    import unicodedata

    assert number(unicodedata.normalize("NFKC", WRITERS[writer](value))) == value


@settings(deadline=None, max_examples=250)
@given(
    article=articles, writer=st.sampled_from(sorted(WRITERS)), named=st.sampled_from(sorted(NAMED)), law=st.sampled_from(LAWS),
    lead=st.sampled_from(LEADS), tail=st.sampled_from(TAILS), form=st.sampled_from(["第{}条", "第 {} 条", "第{}條", "的第{}条", "中第{}条"]),
)  # fmt: skip
def test_one_article_in_every_writing(article, writer, named, law, lead, tail, form):
    text = lead + NAMED[named].format(law) + form.format(WRITERS[writer](article)) + tail
    assert citations(text) == {(law, article)}, text


@settings(deadline=None, max_examples=120)
@given(
    numbers=st.lists(articles, min_size=2, max_size=5, unique=True), writer=st.sampled_from(sorted(WRITERS)),
    named=st.sampled_from(sorted(NAMED)), law=st.sampled_from(LAWS), seed=st.integers(0, 10**6),
)  # fmt: skip
def test_lists_in_every_writing(numbers, writer, named, law, seed):
    """第十、十一条; 第十条、第十一条和第十二条; with paragraphs between them."""
    rng = random.Random(seed)
    write = WRITERS[writer]
    numbers = sorted(numbers)
    if rng.random() < 0.5:
        text = "第" + "、".join(write(value) for value in numbers) + "条"
    else:
        parts = [f"第{write(value)}条" + rng.choice(["", "第一款", "第二款第（一）项"]) for value in numbers]
        text = parts[0] + "".join(rng.choice(["、", "，", "和", "及", "与", "以及"]) + part for part in parts[1:])
    assert citations(NAMED[named].format(law) + text + "。") == {(law, value) for value in numbers}, text


@settings(deadline=None, max_examples=80)
@given(
    first=articles, length=st.integers(1, 59), writer=st.sampled_from(sorted(WRITERS)), law=st.sampled_from(LAWS),
    form=st.sampled_from(["第{}条至第{}条", "第{}至{}条", "第{}-{}条", "第{}条到第{}条", "第{}～{}条", "第{}条—第{}条", "第{}条第一款至第{}条第二款"]),
)  # fmt: skip
def test_ranges_in_every_writing(first, length, writer, law, form):
    write = WRITERS[writer]
    assert citations(f"{law}{form.format(write(first), write(first + length))}") == {(law, n) for n in range(first, first + length + 1)}


@settings(deadline=None, max_examples=60)
@given(article=articles, more=st.lists(st.integers(1, 12), min_size=1, max_size=3, unique=True), named=st.sampled_from(sorted(NAMED)))
def test_inserted_articles(article, more, named):
    text = NAMED[named].format("刑法") + f"第{han(article)}条" + "、".join(f"之{han(one)}" for one in more)
    assert citations(text) == {(f"刑法之{han(one)}", article) for one in more}, text


@settings(deadline=None, max_examples=120)
@given(
    wrong=articles, right=articles, law=st.sampled_from(LAWS), named=st.sampled_from(sorted(NAMED)), writer=st.sampled_from(sorted(WRITERS)),
    form=st.sampled_from([
        "{law}：不是第{wrong}条而是第{right}条", "依据{law}，并非第{wrong}条，而是第{right}条", "应适用{law}第{right}条，而非第{wrong}条", "不是{law}第{wrong}条，而是第{right}条",
        "不适用{law}第{wrong}条，应适用{law}第{right}条", "{law}第{wrong}条不适用，应适用第{right}条", "{law}第{wrong}条已废止，应适用第{right}条", "{law}第{right}条，而不是第{wrong}条",
    ]),
)  # fmt: skip
def test_what_is_negated_is_not_cited(wrong, right, law, named, writer, form):
    write = WRITERS[writer]
    if wrong != right:
        text = form.format(law=NAMED[named].format(law), wrong=write(wrong), right=write(right))
        assert citations(text) == {(law, right)}, text


@pytest.mark.parametrize(
    "text", ["是不是《民法典》第10条？", "不仅是《民法典》第10条", "违反《民法典》第10条", "不符合《民法典》第10条规定的条件", "除非《民法典》第10条另有规定", "《民法典》第10条规定，不适用试用期"]
)  # fmt: skip
def test_what_only_looks_negated_is_cited(text):
    assert citations(text) == {("民法典", 10)}


@settings(deadline=None, max_examples=60)
@given(article=articles, writer=st.sampled_from(sorted(WRITERS)), law=st.sampled_from(LAWS), behind=st.sampled_from(["，《{}》", "（《{}》）", "（{}）", "（《中华人民共和国{}》）", "，{}。"]))  # fmt: skip
def test_a_title_behind_the_number(article, writer, law, behind):
    assert citations(f"依据第{WRITERS[writer](article)}条" + behind.format(law)) == {(law, article)}


ENGLISH = {
    "Civil Code": "civil code", "Labour Contract Law": "labour contract law", "Civil Code of the People's Republic of China": "civil code",
    "PRC Civil Code": "civil code", "GDPR": "gdpr", "Law on Social Insurance": "law on social insurance", "Road Traffic Act": "road traffic act",
}  # fmt: skip


@settings(deadline=None, max_examples=120)
@given(
    one=articles, two=articles, law=st.sampled_from(sorted(ENGLISH)), lead=st.sampled_from(["", "Under ", "See ", "The claim rests on "]),
    form=st.sampled_from([
        ("Article {0} of the {law}", "right"), ("article {0}({1}) of the {law}", "right"), ("Art. {0} {law}", "right"), ("Art {0}, {law}", "right"),
        ("§ {0} {law}", "right"), ("§§ {0}, {1} {law}", "both"), ("Articles {0} and {1} of the {law}", "both"), ("Arts. {0}, {1} of the {law}", "both"),
        ("the {law}, Article {0}", "right"), ("Article {0} ({law})", "right"), ("Article {0} and Article {1} of the {law}", "both"),
        ("not Article {1} but Article {0} of the {law}", "right"), ("not article {1} but {0} of the {law}", "right"),
        ("Article {0} rather than Article {1} of the {law}", "right"), ("Article {0} of the {law} rather than Article {1}", "right"), ("Article {0} of the {law}, not Article {1}", "right"),
    ]),
)  # fmt: skip
def test_english(one, two, law, lead, form):
    text, kind = form
    wanted = {(ENGLISH[law], value) for value in ((one, two) if kind == "both" else (one,))}
    if one != two and two < 1000:
        assert citations(lead + text.format(one, two, law=law) + ".") == wanted, lead + text.format(one, two, law=law)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("§ 312a BGB", {("bgba", 312)}), ("Articles 5-8 of the Civil Code", {("civil code", n) for n in range(5, 9)}),
        ("Article 12 of the Civil Code and Article 3 of the Labour Law", {("civil code", 12), ("labour law", 3)}),
        ("Article 12 of the contract", set()), ("Article 12 applies within 30 days", set()), ("Article 5 of the Civil Code and 30 days", {("civil code", 5)}),
        ("Civil Code Article 5 does not apply", set()), ("an article of 2012", set()),
    ],
)  # fmt: skip
def test_english_by_hand(text, found):
    assert citations(text) == found


@pytest.mark.parametrize(
    "text",
    ["依法第3条", "没有办法第3条", "合同第5条", "民法典共有1260条", "《民法典》有三条", "这是违法第一条", "该做法第二条", "提出三条建议", "「合同约定」的第3条", "根据相关法律第3条",
     "劳动法很重要。合同第4条", "2012条", "第46条", "本合同第五条、第六条"],
)  # fmt: skip
def test_what_is_no_citation(text):
    assert citations(text) == set()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("民法典婚姻家庭编第1062条", {("民法典", 1062)}), ("劳动法、民法典第5条", {("民法典", 5)}), ("民法典第3条、劳动法第4条和同法第5条", {("民法典", 3), ("劳动法", 4), ("劳动法", 5)}),
        ("民法典1062条", {("民法典", 1062)}), ("《劳动合同法》46条", {("劳动合同法", 46)}), ("勞動合同法第四十六條", {("劳动合同法", 46)}), ("「民事訴訟法」第六十七條", {("民事诉讼法", 67)}),
        ("军人抚恤优待条例第十条", {("军人抚恤优待条例", 10)}), ("根据某某市养犬管理条例第七条", {("某某市养犬管理条例", 7)}), ("劳动合同法实施条例第18条", {("劳动合同法实施条例", 18)}),
        ("最高人民法院关于审理劳动争议案件适用法律问题的解释（一）第三条", {("关于审理劳动争议案件适用法律问题的解释(一)", 3)}),
        ("《最高人民法院关于审理劳动争议案件适用法律问题的解释（一）》第三条", {("关于审理劳动争议案件适用法律问题的解释(一)", 3)}),
        ("根据民法典的规定，第五百条", {("民法典", 500)}), ("第3条，《刑法》第4条", {("刑法", 4)}), ("第十条而不是第十一条（民法典）", {("民法典", 10)}), ("不是民法典第十条、第十一条，而是第十二条", {("民法典", 12)}),
    ],
)  # fmt: skip
def test_chinese_by_hand(text, found):
    assert citations(text) == found


@settings(deadline=None, max_examples=80)
@given(st.text(alphabet="第条條款项之至、，。不是而《》「」（）()民法典刑十百0129 ArticleofC§-\n", max_size=60))
def test_any_text_is_read_in_no_time(text):
    assert all(isinstance(name, str) and article >= 0 for name, article in citations(text))


def test_long_texts_are_read_once():
    import time

    for text in (
        "民法典第10条、" * 3000,
        "《" * 5000,
        "第" * 20000,
        "一" * 20000,
        "Article 1, " * 5000,
        "法" * 20000,
        "A " * 20000,
        "关于" * 5000,
    ):
        begun = time.process_time()
        citations(text)
        assert time.process_time() - begun < 5, text[:20]
