# SPDX-License-Identifier: Apache-2.0
"""What a Chinese legal answer cites."""

from __future__ import annotations

import pytest
from loraforge_text.evaluation.citations import citations, number


def ids(*articles: int, of: str = "民法典") -> set:
    return {(of, article) for article in articles}


@pytest.mark.parametrize(
    ("text", "found"),
    [("根据《劳动合同法》第46条，应当支付。", {("劳动合同法", 46)}), ("《中华人民共和国劳动合同法》第四十六条规定", {("劳动合同法", 46)}),
     ("《民法典》第1062条和《民法典》第一千零六十二条", {("民法典", 1062)}), ("《劳动法》第 44 条第三项", {("劳动法", 44)}), ("视情况而定", set()),
     ("第46条", set()), ("《民法典》第一百八十八条", {("民法典", 188)}), ("《劳动合同法》第十条", {("劳动合同法", 10)})],
)  # fmt: skip
def test_citations(text, found):
    assert citations(text) == found


@pytest.mark.parametrize(
    ("written", "value"),
    [("46", 46), ("四十六", 46), ("一千零六十二", 1062), ("一〇六二", 1062), ("十", 10), ("十二", 12), ("二十", 20), ("百", 100), ("两百零三", 203),
     ("一百一十", 110), ("三千", 3000), ("九千九百九十九", 9999), ("零", 0), ("两", 2), ("一二六〇", 1260), ("千零一", 1001), ("9999", 9999), ("五六七八", 5678)],
)  # fmt: skip
def test_numbers(written, value):
    assert number(written) == value


@pytest.mark.parametrize("sign", ["至", "到", "-", "–", "—", "~", "〜", "－"])
def test_a_range_counts_every_article(sign):
    assert citations(f"《民法典》第3{sign}5条") == ids(3, 4, 5) == citations(f"《民法典》第三条{sign}第五条")


@pytest.mark.parametrize("sign", ["、", "，", "和", "及", "与", "或", "以及", "或者"])
def test_a_list_counts_its_articles_alone(sign):
    assert citations(f"《民法典》第3{sign}5条") == ids(3, 5) == citations(f"《民法典》第三条{sign}第五条")


# --- limits: just below, at, and above ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["《民法典》第{}条至第{}条", "《民法典》第{}至{}条", "《民法典》第{}条第一款至第{}条"])
@pytest.mark.parametrize(
    ("first", "last", "whole"), [(10, 69, True), (10, 70, True), (10, 71, False), (10, 11, True), (10, 10, True), (10, 9, False)]
)
def test_a_range_of_sixty_is_counted_and_a_longer_one_by_its_ends(form, first, last, whole):
    wanted = range(first, last + 1) if whole else (first, last)
    assert citations(form.format(first, last)) == ids(*wanted)


@pytest.mark.parametrize(
    ("between", "belongs"),
    [
        ("", True),
        ("字" * 11, True),
        ("字" * 12, True),
        ("字" * 13, False),
        ("(2012年修正)", True),
        ("字。", False),
        ("字；", False),
        ("字\n", False),
    ],
)
def test_how_far_a_statute_reaches_to_its_article(between, belongs):
    assert citations(f"《民法典》{between}第3条") == (ids(3) if belongs else set())


@pytest.mark.parametrize(("length", "read"), [(1, False), (2, True), (59, True), (60, True), (61, False)])
def test_how_long_the_name_of_a_statute_is(length, read):
    name = "法" * length
    assert citations(f"《{name}》第3条") == (ids(3, of=name) if read else set())


@pytest.mark.parametrize(
    ("written", "read"), [("9999", True), ("10000", False), ("九千九百九十九", True), ("一" * 9, True), ("一" * 10, False)]
)
def test_how_long_the_number_of_an_article_is(written, read):
    assert bool(citations(f"《民法典》第{written}条")) is read


@pytest.mark.parametrize(("count", "read"), [(40, True), (41, True), (42, False)])
def test_how_many_articles_one_list_holds(count, read):
    """The first and forty more; of a longer list without 条 between them nothing is read."""
    numbers = range(100, 100 + 2 * count, 2)
    assert citations(f"《民法典》第{'、'.join(map(str, numbers))}条") == (ids(*numbers) if read else set())


# --- what belongs together -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("《民法典》第3条第一款、第二款和第5条", ids(3, 5)),  # paragraphs are no articles
        ("《民法典》第3条第(2)项，第4条", ids(3, 4)),
        ("《民法典》第3条规定甲；第4条规定乙", ids(3, 4)),  # a list goes on behind ; and :
        ("《民法典》第3条规定甲，乙为第4条", ids(3)),
        ("《民法典》第3条规定甲。第4条", ids(3)),
        ("《民法典》第3条：第4条", ids(3, 4)),
        ("《民法典》第3条规定\n、第4条", ids(3)),
        ("《民法典》第3条很长很长很长很长很长的一段话、第4条", ids(3, 4)),
        ("《民法典》第3条。很长的一段话。依同法第4条", ids(3, 4)),
        ("《民法典》第3条。该法的第4条，本法第5条", ids(3, 4, 5)),
        ("《民法典》第3条。合同第4条", ids(3)),
        ("依同法第4条", set()),
        ("《民法典》第3条、《刑法》第4条，第5条", ids(3) | ids(4, 5, of="刑法")),
        ("《民法典》第一条两款、第一、二条", ids(1, 2)),
        ("《民法典》第3条至", ids(3)),
        ("《刑法》第133条之一", ids(133, of="刑法之一")),
        ("《刑法》第133条 之一、第134条", ids(133, of="刑法之一") | ids(134, of="刑法")),
        ("《刑法》第132、133条之二", ids(132, of="刑法") | ids(133, of="刑法之二")),
        ("《民法典》第3条至第5条、第7条", ids(3, 4, 5, 7)),
        ("《民法典》第3至5、7至8条", ids(3, 4, 5, 7, 8)),
        ("《民法典》第5条至第3条", ids(3, 5)),
    ],
)
def test_lists_ranges_and_what_stands_between(text, found):
    assert citations(text) == found


@pytest.mark.parametrize(
    ("named", "plain"),
    [("中华人民共和国民法典", "民法典"), ("民 法 典", "民法典"), ("劳动合同法（2012年修正）", "劳动合同法"), ("劳动合同法(1999)", "劳动合同法"),
     ("解释(一)", "解释(一)"), ("解释(一)(2020)", "解释(一)"), ("解释(2099号)", "解释"), ("解释(1899年)", "解释(1899年)"), ("(2012)解释", "(2012)解释"),
     ("关于适用〈民法典〉婚姻编的解释", "关于适用民法典婚姻编的解释"), ("关于适用《民法典》的解释", "关于适用民法典的解释")],
)  # fmt: skip
def test_one_statute_under_its_names(named, plain):
    assert citations(f"《{named}》第3条") == ids(3, of=plain)
