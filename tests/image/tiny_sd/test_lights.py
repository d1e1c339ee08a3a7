# SPDX-License-Identifier: Apache-2.0
"""The lights in which the scenes are painted."""

from __future__ import annotations

import random

import numpy as np
import pytest
from loraforge_image.tiny_sd import lights, neon, scenes
from PIL import ImageStat

SCENE = scenes.compose(random.Random("lights/0"))


@pytest.mark.parametrize("kind", lights.KINDS)
def test_each_kind_is_the_same_every_time_and_unlike_the_others(kind):
    first = lights.paint(SCENE, kind, 96, 64)
    assert first.size == (96, 64) and first.tobytes() == lights.paint(SCENE, kind, 96, 64).tobytes()
    others = [lights.paint(SCENE, other, 96, 64) for other in lights.KINDS if other != kind] + [neon.neon(SCENE, 96, 64)]
    assert min(np.abs(np.asarray(first, float) - np.asarray(other, float)).mean() for other in others) > 4


def test_the_neon_of_the_example_is_none_of_the_lights():
    """Its pinks and cyans on black are more vivid than any light that tiny-sd was shown, and the words that call it stand nowhere."""

    def vivid(picture):
        rgb = np.asarray(picture, float)
        return float(((rgb.max(2) - rgb.min(2) > 150) & (rgb.min(2) < 90) & (rgb[..., 2] > 150)).mean())

    nights = [vivid(neon.neon(scenes.compose(random.Random(f"n/{n}")))) for n in range(6)]
    seen = [vivid(lights.paint(scenes.compose(random.Random(f"n/{n}")), kind)) for n in range(6) for kind in lights.KINDS]
    assert min(nights) > 3 * max(seen)
    said = " ".join(word for kind in lights.KINDS for word in lights.words(kind))
    assert not any(word in said for word in ("neon", "cyberpunk", "glowing"))


def test_nights_are_dark_and_fog_is_pale():
    light = {kind: ImageStat.Stat(lights.paint(SCENE, kind).convert("L")) for kind in lights.KINDS}
    assert (
        max(light[kind].mean[0] for kind in ("night", "rain")) < 60 < min(light[kind].mean[0] for kind in ("day", "fog", "snow", "pencil"))
    )
    assert light["fog"].stddev[0] < 0.6 * light["day"].stddev[0]


def test_a_caption_names_what_is_there_and_every_light_but_the_plain_day():
    rng = random.Random(1)
    for kind in lights.KINDS:
        said = [lights.caption(SCENE, kind, rng) for _ in range(20)]
        assert all(text.startswith(SCENE.words()[0]) for text in said)
        named = sum(any(text.endswith(words) for words in lights.words(kind)) for text in said)
        assert named == 20 if kind != "day" else 0 < named < 20
    assert 0.3 < sum(lights.pick(rng) == "day" for _ in range(300)) / 300 < 0.5
