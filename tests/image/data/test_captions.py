"""Captions: parts, shuffling, the trigger word."""

from __future__ import annotations

import random

from loraforge_image.data.captions import CaptionTemplate, parts, shuffled, tag_counts
from loraforge_image.records import Picture


def test_parts_shuffling_and_tags():
    assert parts("a, b，c、 d,") == ["a", "b", "c", "d"]
    rng = random.Random(1)
    orders = {shuffled("a, b, c, d, e", 2, rng) for _ in range(50)}
    assert len(orders) == 6 and all(order.startswith("a, b, ") for order in orders)
    assert tag_counts(["Neon, rain", "neon"]) == {"neon": 2, "rain": 1}


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
