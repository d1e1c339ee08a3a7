# SPDX-License-Identifier: Apache-2.0
"""What two writings of one question do not differ in."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraforge.data import wording
from loraforge.data.wording import bare_answer, bare_question, length, lesson, numbers, simplified

Q = "劳动合同到期不续签有补偿吗？"


@pytest.mark.parametrize(
    "other",
    [
        "劳动合同到期不续签有补偿", "请问劳动合同到期不续签有补偿吗", "您好，请问：劳动合同到期，不续签有补偿呢？", "你好！想咨询一下劳动合同到期不续签有补偿吗，谢谢！",
        "律师您好，劳动合同到期不续签有补偿啊？", "麻烦问一下，劳动合同到期了不续签的有补偿吗", "Hi, 劳动合同到期不续签有补偿吗", "Hello! please: 劳动合同到期不续签有补偿吗? Thanks",
        "勞動合同到期不續簽有補償嗎？", "請問，勞動合同到期不續簽有補償嗎？", "劳动合同到期不续签有没有补偿？",
    ],
)  # fmt: skip
def test_another_writing_of_a_question_is_the_same(other):
    assert bare_question(other) == bare_question(Q)


@pytest.mark.parametrize(
    "other",
    ["劳动合同到期续签有补偿吗？", "劳动合同到期不续签有赔偿吗？", "劳务合同到期不续签有补偿吗？", "劳动合同到期不续签没补偿吗？"],
)
def test_another_question_is_another_one(other):
    assert bare_question(other) != bare_question(Q)


# The values are Python's own, or what anybody counts.
NUMERALS = [("三", 3), ("十", 10), ("十二", 12), ("廿", 20), ("廿三", 23), ("卅", 30), ("四十五", 45), ("一百零五", 105), ("三百六十五", 365),
            ("两千", 2000), ("一万二千", 12000), ("三万", 30000), ("二〇二四", 2024), ("一亿", 10**8), ("壹仟贰佰", 1200), ("3万", 30000), ("5百", 500),
            ("二〇二四" * 4, "2024" * 4), ("二〇二四" * 4 + "一", "二〇二四" * 4 + "一")]  # fmt: skip


@pytest.mark.parametrize(("written", "value"), NUMERALS)
def test_numerals_are_digits(written, value):
    assert bare_question(f"试用期满{written}个月以后") == bare_question(f"试用期满 {value} 个月以后") == f"试用期满{value}个月以后"
    assert bare_answer(f"应当在{written}日内提出。") == f"应当在{value}日内提出"


def test_numbers_of_percentages_and_of_english_words():
    assert bare_answer("百分之八十") == bare_answer("80%") == "80"
    assert bare_question("What happens after three months?") == bare_question("what happens after 3 months") == "whathappensafter3months"
    assert bare_question("Where is the phone of someone?") == "whereisthephoneofsomeone", "no number inside of a word"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("根据第四十六条，支付1,000元", {"46", "1000"}),
        ("Article 46: 1,000 USD, 0.50 mg, 05, twelve days", {"46", "1000", "0.5", "5", "12"}),
        ("一般应当在30天内、三十日内提出", {"30"}),
        ("二〇二四年赔３万元，2.0 倍", {"2024", "30000", "2"}),
        ("46,47", {"46", "47"}),
        ("没有", set()),
    ],
)
def test_the_numbers_that_an_answer_names(text, named):
    assert {float(number) for number in numbers(text)} == {float(number) for number in named}


def test_numbers_of_any_length_stay_what_they_are():
    assert numbers(f"{10**40 + 2} {10**40 + 3} 00{10**40 + 2}") == {str(10**40 + 2), str(10**40 + 3)}
    assert numbers("9" * 1_200_000) == {"9" * 1_200_000}


def test_greetings_end_where_a_word_ends():
    assert bare_question("History of the law") == "historyofthelaw" and bare_question("hi, history of it") == "historyofit"
    assert bare_question("Pleased with it, thanks") == "pleasedwithit"
    for alone in ("你好", "您好！", "hello", "谢谢", "在吗", "吗", "请问"):
        assert bare_question(alone), "a text that is nothing but a greeting stays what it is"
    assert bare_question("？") == "？" and bare_answer("！") == "！" and bare_question("") == ""


def test_long_and_odd_texts_take_no_time():
    """Anything but a pass over the text would take minutes; a number of 8,000 digits Python refuses to write."""
    begun = time.process_time()
    for text in (
        "-" * 200_000,
        "请问" * 50_000,
        "亿" * 1000,
        "九" * 100_000,
        "hi " * 50_000,
        "谢谢" * 50_000,
        "一" + "!" * 200_000 + "谢",
        "不能不" * 50_000,
    ):
        assert bare_question(text) and bare_answer(text)
    assert time.process_time() - begun < 10


def test_particles_of_a_short_question_stay_if_hardly_anything_else_is_left():
    assert bare_question("工伤吗") == "工伤吗" and bare_question("要付赔偿吗") == "要付赔偿"
    for core in ("工伤怎认定", "社保谁来交", "加班费何算", "借条有效"):
        assert len({bare_question(core + end) for end in ("吗？", "呢", "啊？", "？", "")}) == 1


def test_the_table_of_characters_maps_one_for_one_and_nothing_twice():
    table = wording._simplified()
    assert len(table) > 2500 and not any(ord(to) in table for to in table.values())
    # Pairs of the Table of General Standard Chinese Characters, not of the file.
    assert simplified("醫療費藥物診斷糾紛離婚財產繼承債務擔保買賣租賃訴訟證據") == "医疗费药物诊断纠纷离婚财产继承债务担保买卖租赁诉讼证据"
    assert simplified("abc 12") == "abc 12" and simplified("合同") == "合同"


@given(st.text(max_size=30))
def test_it_takes_any_text_and_is_blind_to_case_and_punctuation(text):
    assert isinstance(bare_question(text), str)
    assert bare_answer(bare_answer(text)) == bare_answer(bare_answer(bare_answer(text)))
    assert len(simplified(text)) == len(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [("是", 1), ("不属于工伤。", 5), ("Not entailed", 2), ("Ｙｅｓ", 1), ("应当支付经济补偿金。", 9), ("约 3.5 mg/kg", 5), ("", 0)],
)
def test_length_as_a_reader_counts(text, words):
    assert length(text) == words


def test_short_answers_may_be_classes():
    assert lesson("是。").short and lesson("contradiction").short and not lesson("应当支付经济补偿金和赔偿金。").short
    assert lesson("是。").key == lesson("是").key and lesson("三个月").key == lesson("3個月").key
