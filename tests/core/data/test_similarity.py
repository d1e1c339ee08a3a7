# SPDX-License-Identifier: Apache-2.0
"""How alike rows are, against Jaccard's index by Python's own sets."""

from __future__ import annotations

import random

import pytest

from loraforge.data import similarity


@pytest.mark.parametrize(
    ("text", "folded"),
    [("Ａ，b 1！", "ab1"), ("İ", "i"), ("ᴬB", "ab"), ("①②", "12"), ("ΑΣ", "ας"), ("ﬁ", "fi"), ("...", ""), ("工伤？", "工伤"), ("é", "é"), ("²", "2")],
)  # fmt: skip
def test_two_writings_of_a_text(text, folded):
    assert similarity.fold(text) == folded == similarity.fold(folded)


def test_pairs_are_counted_and_marked():
    pairs = similarity.character_pairs
    assert len(pairs("哈哈哈哈")) == 3 and len(pairs("哈哈")) == 1 and pairs("哈哈") < pairs("哈哈哈哈")
    assert len(pairs("abcd")) == 3 and pairs("ab") < pairs("abc") and pairs("bc") < pairs("abc") and not pairs("ab") & pairs("ba")
    assert len(pairs("a")) == len(pairs("")) == 1 and pairs("a") != pairs("b")
    for text in ("abc", "a", ""):
        assert not pairs(text, "one") & pairs(text, "other") and not pairs(text) & pairs(text, "one")


def jaccard(features, least: float, most: int | None = None) -> list[tuple[int, int, float]]:
    found = []
    for row, mine in enumerate(features):
        near = [(len(mine & other) / len(mine | other), earlier) for earlier, other in enumerate(features[:row])]
        near = sorted((pair for pair in near if pair[0] >= least), key=lambda pair: (-pair[0], pair[1]))
        found += [(row, earlier, value) for value, earlier in near[:most]]
    return found


@pytest.mark.parametrize("chunk", [1, 7, 512])
@pytest.mark.parametrize(("least", "most"), [(0.8, None), (0.5, None), (0.5, 2), (0.5, 0), (1.0, None)])
def test_near_rows_are_those_that_jaccard_finds(monkeypatch, chunk, least, most):
    monkeypatch.setattr(similarity, "_CHUNK", chunk)
    rng = random.Random(3)
    core = list(range(20))
    features = [frozenset(rng.sample(core, rng.randint(14, 20))) | {f"own {i}" for i in range(rng.randint(0, 2))} for _ in range(40)]
    features += features[:3]  # the same once more
    expected = jaccard(features, least, most)
    got = similarity.near_pairs(features, least, most)
    assert [pair[:2] for pair in got] == [pair[:2] for pair in expected] and (expected or most == 0)
    assert [value for *_, value in got] == pytest.approx([value for *_, value in expected])
    assert [row for row, *_ in similarity.near_rows(features, least)] == list(range(43))


@pytest.mark.parametrize(("shared", "near"), [(8, True), (7, False)])
def test_the_limit_itself_is_near(shared, near):
    """Of ten features in all: eight in common are 0.8."""
    features = [frozenset(range(10))]
    features.append(frozenset(range(shared)))
    assert similarity.near_pairs(features) == ([(1, 0, pytest.approx(0.8))] if near else [])


def test_nothing_is_near_where_there_is_nothing():
    assert similarity.near_pairs([]) == [] and similarity.near_pairs([frozenset({1})]) == []
    assert similarity.near_pairs([frozenset({1}), frozenset({2})]) == []


@pytest.mark.parametrize("chunk", [1, 7, 512])
def test_rows_within_others_are_those_that_a_plain_loop_finds(monkeypatch, chunk):
    """With a floor, nine tenths of the smaller row in one up to eight times as large are near too."""
    monkeypatch.setattr(similarity, "_CHUNK", chunk)
    rng = random.Random(4)
    core = list(range(30))
    features = [
        frozenset(rng.sample(core, rng.choice((6, 10, 12, 25)))) | {f"{i} {n}" for n in range(rng.choice((0, 1, 80)))} for i in range(60)
    ]
    features += [frozenset(core), frozenset(core[:10]), frozenset(core) | set(range(100, 150)), frozenset(core) | set(range(100, 151))]
    floors = [rng.choice((0, 10)) for _ in features]
    floors[-4:] = [0, 10, 0, 0]

    def near(row: int, other: int) -> bool:
        one, two = features[row], features[other]
        small, large = sorted((row, other), key=lambda i: len(features[i])) if len(one) != len(two) else (row, other)
        shared = len(one & two)
        inside = 0 < floors[small] <= len(features[small]) and len(features[large]) <= 8 * len(features[small])
        return shared / len(one | two) >= 0.8 or (inside and shared >= 0.9 * len(features[small]))

    found = {row: set(others.tolist()) for row, others, _ in similarity.near_rows(features, floors=floors)}
    assert found == {row: {other for other in range(row) if near(row, other)} for row in range(len(features))}
    assert 61 in found[62] and 61 not in found[63] and any(found.values()), "8 times as large, and 8.1 times"


def test_records_are_near_by_any_of_what_they_have():
    a, b, c, d = (frozenset(range(start, start + 10)) for start in (0, 100, 200, 300))
    views = [(a,), (b, c), (), (c - {200}, a), (d,), (d, b)]
    found = [(record, others.tolist()) for record, others, _ in similarity.near_records(views)]
    assert found == [(0, []), (1, []), (2, []), (3, [0, 1]), (4, []), (5, [1, 4])], "the nearest first, of equal ones the earliest"
    (*_, (_, _, overlaps)) = similarity.near_records(views[:4])
    assert overlaps.tolist() == pytest.approx([1.0, 0.9])
    inside = [(frozenset(range(10)),), (frozenset(range(30)),)]
    assert [len(others) for _, others, _ in similarity.near_records(inside, [10, 0])] == [0, 1]
    assert [len(others) for _, others, _ in similarity.near_records(inside, [0, 0])] == [0, 0]
