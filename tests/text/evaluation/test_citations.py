"""What a Chinese legal answer cites."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("text", "found"),
    [("根据《劳动合同法》第46条，应当支付。", {("劳动合同法", 46)}), ("《中华人民共和国劳动合同法》第四十六条规定", {("劳动合同法", 46)}),
     ("《民法典》第1062条和《民法典》第一千零六十二条", {("民法典", 1062)}), ("《劳动法》第 44 条第三项", {("劳动法", 44)}), ("视情况而定", set()),
     ("第46条", set()), ("《民法典》第一百八十八条", {("民法典", 188)}), ("《劳动合同法》第十条", {("劳动合同法", 10)})],
)  # fmt: skip
def test_citations(text, found):
    from loraforge_text.evaluation.citations import citations

    assert citations(text) == found
