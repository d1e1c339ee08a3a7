# SPDX-License-Identifier: Apache-2.0
"""An answer that only repeats itself is told from tables, lists, forms and refrains, one token a character as the worst case."""

from __future__ import annotations

import pytest
from loraforge_text.families.repetition import REPEATED, TIMES, repeats

TABLE = "| drug | dose | unit |\n|------|------|------|\n" + "|      |      |      |\n" * 8
TABLE_TOTALS = "| Q1 | 0 | 0 | 0 |\n| Q2 | 0 | 0 | 0 |\n| Q3 | 0 | 0 | 0 |\n| Q4 | 0 | 0 | 0 |\n" * 3
LIST = "".join(f"{n}. none known\n" for n in range(1, 30))
SONG = ("Row, row, row your boat, gently down the stream,\n" * 3) + ("Merrily, merrily, merrily, merrily,\n" * 4) + "Life is but a dream.\n"
FORM = "Name: " + "_" * 120 + "\nDate: " + "_" * 120 + "\n"
RULER = "=" * 150 + "\n"
LITANY = "".join(f"For {who}, Lord, hear our prayer.\n" for who in ("the sick", "the poor", "the old", "the young") * 4)
CODE = "        }\n" * 12


@pytest.mark.parametrize("text", [TABLE, TABLE_TOTALS, LIST, SONG, FORM, RULER, LITANY, CODE, "应当、" * 20, " " * 150])
def test_texts_that_repeat_lines_are_left_alone(text):
    tokens = text.encode()
    assert not any(repeats(tokens[:end]) for end in range(1, len(tokens) + 1))


@pytest.mark.parametrize(
    "piece", ["x", "ab", "应当支付。", "The same line again and again.\n", "A paragraph that is as long as this one is, said again. "]
)
def test_what_only_repeats_itself_is_found_behind_any_beginning(piece):
    tokens = ("The answer begins well, and then: " + piece * 400).encode()
    first = next(end for end in range(1, len(tokens) + 1) if repeats(tokens[:end]))
    begun, period = len(b"The answer begins well, and then: "), len(piece.encode())
    assert begun + max(REPEATED, TIMES * period) - period <= first <= begun + max(REPEATED, TIMES * period)


@pytest.mark.parametrize(
    ("period", "count", "found"),
    [(1, 199, False), (1, 200, True), (50, 199, False), (50, 200, True), (51, 203, False), (51, 204, True), (128, 511, False), (128, 512, True),
     (129, 2000, False)],
)  # fmt: skip
def test_where_it_begins(period, count, found):
    assert repeats([i % period for i in range(count)]) is found


def test_one_token_that_differs_ends_the_repetition():
    tokens = [i % 20 for i in range(400)]
    tokens[-150] = 99
    assert not repeats(tokens)
