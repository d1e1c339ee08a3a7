# SPDX-License-Identifier: Apache-2.0
"""What the adapter's drawings keep of the base's."""

from __future__ import annotations

import random

import numpy as np
import pytest
from loraforge_image.evaluation import content, style_distance
from loraforge_image.tiny_sd import lights, neon, scenes
from PIL import Image, ImageFilter, ImageOps

SCENES = [scenes.compose(random.Random(f"content/{number}")) for number in range(10)]


@pytest.fixture(scope="module")
def pictures():
    """The same ten scenes by day, as the base draws them, and otherwise."""
    rng = np.random.default_rng(0)
    day, night = [lights.paint(scene) for scene in SCENES], [neon.neon(scene) for scene in SCENES]
    return {
        "day": day,
        "neon": night,
        **{kind: [lights.paint(scene, kind) for scene in SCENES] for kind in ("night", "fog", "dusk", "chalk")},
        "negative": [ImageOps.invert(one) for one in day],
        "grey": [one.convert("L") for one in day],
        "smeared": [one.filter(ImageFilter.GaussianBlur(5)) for one in night],
        "patches": [one.filter(ImageFilter.GaussianBlur(10)) for one in night],
        "noise": [Image.fromarray(rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)) for _ in SCENES],
        "empty": [Image.new("RGB", (128, 128), (9, 9, 9)) for _ in SCENES],
        "others": day[1:] + day[:1],
        "other nights": night[1:] + night[:1],
    }


def kept(one, other) -> float:
    first, second = (np.array([content.structure(picture) for picture in side]) for side in (one, other))
    return float(np.diagonal(content.shared(first, second)).mean())


def test_a_scene_in_another_light_keeps_its_structure_and_patches_do_not(pictures):
    found = {name: kept(pictures["day"], side) for name, side in pictures.items()}
    assert found["day"] == pytest.approx(1) and found["negative"] == pytest.approx(1, abs=1e-3)  # which side is darker does not matter
    assert min(found[light] for light in ("fog", "dusk", "grey")) > 0.9
    assert min(found[light] for light in ("neon", "night", "chalk")) > 0.55
    foreign = max(found["others"], found["other nights"])
    assert foreign < 0.3 and found["neon"] > foreign + 0.3
    assert found["neon"] > found["smeared"] + 0.15 > found["patches"] + 0.3
    assert found["patches"] < 0.25 and found["noise"] == pytest.approx(0, abs=0.05) and found["empty"] == 0


def test_the_size_and_the_strength_of_the_edges_hardly_matter():
    day = [lights.paint(scene, "day", 384, 384) for scene in SCENES[:4]]
    assert kept(day, [lights.paint(scene) for scene in SCENES[:4]]) > 0.95
    assert kept(day, [Image.blend(one, Image.new("RGB", one.size, (120, 130, 140)), 0.8) for one in day]) > 0.95


def test_the_histogram_of_one_edge_by_hand():
    """An upright edge in the middle of a cell lies in that column of cells only, in the direction of 0 degrees only."""
    picture = Image.new("RGB", (128, 128))
    picture.paste((200, 200, 200), (68, 0, 128, 128))
    found = content.structure(picture).reshape(16, 16, 6)
    strong = found[:, 8, 0]
    assert (strong > 0.2).all() and np.abs(np.delete(found[..., 0], 8, axis=1) + strong.mean() / 15).max() < 1e-9
    assert np.abs(found[..., 1:]).max() < 1e-9
    assert np.linalg.norm(found) == pytest.approx(1) and np.abs(found.mean((0, 1))).max() < 1e-12


def test_a_mirrored_diagonal_is_another_direction():
    slope = Image.fromarray(np.triu(np.full((128, 128), 255, np.uint8)))
    assert kept([slope], [slope.transpose(Image.Transpose.ROTATE_180)]) > 0.95
    assert kept([slope], [slope.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]) < 0.3


def told(one, other, prompts=None):
    sides = (np.array([content.structure(picture) for picture in side]) for side in (one, other))
    return content.told(*sides, prompts or [str(number) for number in range(len(one))], style_distance.interval)


def test_words_and_floor(pictures, monkeypatch):
    monkeypatch.setattr(style_distance, "_RESAMPLES", 200)
    day, night = pictures["day"], pictures["neon"]
    found = told(day, night)
    figure, low, high = (float(part.strip("()")) for part in found["structure kept"]["adapter"].replace(" to ", " ").split())
    assert low < figure < high <= 1 and figure == pytest.approx(kept(day, night), abs=6e-4) and found["structure kept"]["base"] == "1.000"
    pairs = [kept([a], [b]) for a in day for b in day if a is not b]
    floor = found["structure that different prompts share"]
    assert floor == {"base": f"{np.mean(pairs):.3f}", "adapter": ""}
    verdicts = {name: told(day, side)["shows what the base shows"] for name, side in pictures.items()}
    assert all(verdict["base"] == "" for verdict in verdicts.values())
    said = {name: verdict["adapter"] for name, verdict in verdicts.items()}
    assert said["neon"] == said["chalk"] == said["day"] == "most outlines are where the base draws them"
    assert said["smeared"] == "some outlines are where the base draws them"
    assert said["patches"] == said["noise"] == said["empty"] == said["others"] == "hardly more than drawings of different prompts share"
    assert told(day[:3], night[:3])["shows what the base shows"]["adapter"] == "too few pictures to tell"


def test_the_floor_is_of_other_prompts_and_of_other_seeds_where_there_is_one_prompt(pictures):
    day = pictures["day"]
    four = [day[0], day[0], day[1], day[2]]
    other = kept([day[0], day[0], day[0], day[0], day[1]], [day[1], day[2], day[1], day[2], day[2]])
    found = told(four, four, ["a", "a", "b", "c"])["structure that different prompts share"]["base"]
    assert float(found) == pytest.approx(other, abs=6e-4)
    assert told(day[:2], day[:2], ["a", "a"])["structure that different prompts share"]["base"] == f"{kept([day[0]], [day[1]]):.3f}"


def test_two_empty_pictures_are_alike(pictures):
    assert kept(pictures["empty"], pictures["empty"]) == 1
