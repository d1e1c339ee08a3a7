# SPDX-License-Identifier: Apache-2.0
"""Columns whose names hold what they are."""

from __future__ import annotations

import pytest
from loraforge_text.starting.columns import probable


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["序号", "客户问题", "律师答复"], ("客户问题", "律师答复")),
        (["Client question", "Our answer", "Date"], ("Client question", "Our answer")),
        (["客户问", "律师答"], ("客户问", "律师答")),
        (["问题一", "问题二", "答复"], None),
        (["甲", "乙"], None),
        (["问答"], None),
        ([], None),
    ],
)
def test_only_what_is_certain_is_taken(names, found):
    assert probable(names) == (dict(zip(("instruction", "output"), found, strict=True)) if found else None)
