# SPDX-License-Identifier: Apache-2.0
"""Captions: parts, shuffling, the trigger word."""

from __future__ import annotations

import random

import pytest
from loraforge_image.data.captions import CaptionTemplate, alternatives, arranged, arrangements, parts, tag_counts, written
from loraforge_image.records import ImageKeys, Picture


def test_parts_and_tags():
    assert parts("a, b，c、 d,") == ["a", "b", "c", "d"]
    assert tag_counts(["Neon, rain", "neon"]) == {"neon": 2, "rain": 1}


def many(caption: str, count: int = 400, **keys) -> list[str]:
    return [arranged(caption, ImageKeys(**keys), random.Random(seed)) for seed in range(count)]


def test_every_order_comes_and_what_is_kept_stays():
    found = many("a, b, c, d, e", caption_shuffle=True, keep_tokens=2)
    assert len(set(found)) == 6 and all(order.startswith("a, b, ") for order in found)
    assert set(many("a, b, c", caption_shuffle=False)) == {"a, b, c"}
    assert len(set(many("1, 2, 3, 4, 5, 6, 7, 8", caption_shuffle=True))) > 390  # of 40320, and not of eight


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_parts_are_dropped_at_their_rate_and_in_their_order(rate):
    found = [caption.split(", ") for caption in many("k, a, b, c, d", 2000, tag_dropout=rate, keep_tokens=1)]
    assert all(one[0] == "k" and one[1:] == sorted(one[1:]) for one in found)
    for letter in "abcd":
        assert sum(letter not in one for one in found) / 2000 == pytest.approx(rate, abs=0.04)


# What process_caption of sd-scripts makes with keep_tokens_separator, worked out by hand from its lines.
@pytest.mark.parametrize(
    ("caption", "front", "middle", "end"),
    [("a, b ||| c, d", ["a", "b"], {"c", "d"}, []), ("a ||| b, c ||| d, e", ["a"], {"b", "c"}, ["d", "e"]), ("|||b, c", [], {"b", "c"}, []),
     ("a|||", ["a"], set(), []), ("a, b, c", ["a"], {"b", "c"}, [])],
)  # fmt: skip
def test_the_mark_says_what_stays(caption, front, middle, end):
    keys = {"keep_tokens_separator": "|||", "keep_tokens": 1}
    for found in many(caption, 50, caption_shuffle=True, **keys):
        words = parts(found)
        assert "|" not in found and words[: len(front)] == front and words[len(words) - len(end) :] == end
        assert set(words[len(front) : len(words) - len(end)]) == middle
    assert parts(written(caption, ImageKeys(**keys))) == [part.strip() for part in caption.replace("|||", ",").split(",") if part.strip()]
    assert written(caption, ImageKeys()) == caption


@pytest.mark.parametrize("keys", [{"caption_shuffle": True}, {"tag_dropout": 0.4}, {"caption_shuffle": True, "tag_dropout": 0.4}], ids=str)
@pytest.mark.parametrize("caption", ["", "a", "a, b", "a, b, c", "a, b, a"])
def test_all_arrangements_are_those_that_come(keys, caption):
    every = arrangements(caption, ImageKeys(**keys), 24)
    assert every is not None and len(every) == len(set(every)) and set(many(caption, **keys)) == set(every)


def test_too_many_arrangements_are_not_written_down():
    keys = ImageKeys(caption_shuffle=True)
    assert len(arrangements("a, b, c, d", keys, 24)) == 24 and arrangements("a, b, c, d, e", keys, 24) is None
    assert arrangements(", ".join(map(str, range(300))), keys, 24) is None
    assert arrangements("a, b, c, d, e", ImageKeys(), 24) == ["a, b, c, d, e"]


def test_lines_are_alternative_captions_each_with_the_trigger_word():
    assert alternatives("one") == ["one"] and alternatives("one\n\n two \n") == ["one", "two"] and alternatives("") == [""]
    row = Picture(path="a.png", caption="a ball\na zz sphere", where="x")
    assert CaptionTemplate("zz").render(row)[0].text == "zz, a ball\na zz sphere"
    assert CaptionTemplate(None, "a photo\nof {caption}").render(row)[0].text == "a photo of a ball\na photo of a zz sphere"


def test_the_trigger_word_stands_in_front_once():
    template = CaptionTemplate("zz style")

    def text(caption, **more):
        return template.render(Picture(path="a.png", caption=caption, where="x", **more))[0].text

    assert text("a ball") == "zz style, a ball" and text("a ZZ style ball") == "a ZZ style ball"
    assert text("jazz styles") == "zz style, jazz styles" and text("a ball", prior=True) == "a ball"
    assert template.render(Picture(path="", caption="a ball", where="x"))[0].text == "a ball"
    assert CaptionTemplate("霓虹").render(Picture(path="a", caption="霓虹的城市", where="x"))[0].text == "霓虹的城市"
    inline = CaptionTemplate("zz", "a photo of {caption}")
    assert CaptionTemplate().recall(inline.describe()) == inline
    assert inline.render(Picture(path="a", caption="{0.x}", where="x"))[0].text == "zz, a photo of {0.x}"


def test_each_of_several_captions_has_a_line_and_its_trigger():
    template = CaptionTemplate("zz", "a photo of {caption}")
    picture = Picture(path="a.png", caption="a ball\nthe ZZ house", where="x")
    assert template.render(picture)[0].text == "zz, a photo of a ball\na photo of the ZZ house"
    own = Picture(path="a.png", caption="a ball\na cat", where="x", trigger="ohwx")
    assert CaptionTemplate("zz").render(own)[0].text == "ohwx, a ball\nohwx, a cat"
    assert CaptionTemplate("zz").render(Picture(path="a.png", caption="a ball", where="x", trigger=""))[0].text == "a ball"
    assert picture.first_caption == "a ball" and tag_counts(["a, b\nb, c"]) == {"a": 1, "b": 2, "c": 1}
