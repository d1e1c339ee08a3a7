# SPDX-License-Identifier: Apache-2.0
"""How far drawn pictures are from one's own."""

from __future__ import annotations

import numpy as np
import pytest
from loraforge_image.evaluation import style_distance
from PIL import Image


def halves(upper: tuple[int, int, int], lower: tuple[int, int, int], side: int = 128) -> Image.Image:
    picture = Image.new("RGB", (side, side), lower)
    picture.paste(upper, (0, 0, side, side // 2))
    return picture


def test_the_numbers_of_two_pictures_by_hand():
    """Half red, half white, left and right; half black, half blue, one above the other."""
    across = halves((255, 0, 0), (255, 255, 255)).transpose(Image.Transpose.ROTATE_90)
    step = 1 - 0.299  # from red's lightness to white's, in one row of 127, 63 and 31
    light = [0.299, 0.299, 0.299 + step / 2, 1, 1]  # percentiles
    thirds = [1, 0.5, 0.5] * 3
    wanted = [0.299 + step / 2, step / 2, 0.5, 0.5, -0.25, 0.25, *light, 0.5, 0.5, *(step / n * 4 for n in (127, 63, 31)), *thirds, 0, 0.5]
    np.testing.assert_allclose(style_distance.features(across), wanted, atol=1e-9)
    down = halves((0, 0, 0), (0, 0, 255))
    thirds = [0, 0, 0, 0, 0, 22 / 43, 0, 0, 1]  # of 43, 43 and 42 rows
    wanted = [0.057, 0.057, 0, 0, 0.5, 0.5, 0, 0, 0.057, 0.114, 0.114, 0.5, 0.5, *(0.114 / n * 4 for n in (127, 63, 31)), *thirds, 1, 0.5]
    np.testing.assert_allclose(style_distance.features(down), wanted, atol=1e-9)
    np.testing.assert_allclose(style_distance.features(halves((0, 0, 0), (0, 0, 255), 384)), wanted, atol=0.02)


def test_percentiles_and_thirds_of_a_ramp_by_hand():
    """A level for each of 128 rows: of 16384 numbers, each 128 times, the one at a share lies between those of its neighbours."""
    ramp = Image.fromarray(np.repeat(np.arange(128, dtype=np.uint8), 128).reshape(128, 128)).convert("RGB")
    found = style_distance.features(ramp) * 255
    np.testing.assert_allclose(found[6:11], [6, 31.75, 63.5, 95.25, 121], atol=1e-9)
    np.testing.assert_allclose(found[:2], [63.5, ((128**2 - 1) / 12) ** 0.5], atol=1e-9)  # mean and spread of 0 to 127
    np.testing.assert_allclose(found[13:16], np.array([1, 2, 4]) * 4, atol=1e-9)  # one level from row to row, then two, then four
    np.testing.assert_allclose(found[16:25], np.repeat([21, 64, 106.5], 3), atol=1e-9)  # rows 0 to 42, 43 to 85, 86 to 127
    assert found[25] == pytest.approx(255 * 39 / 128)  # 0 to 38 are dark


@pytest.mark.parametrize(("level", "dark"), [(38, 1.0), (39, 0.0)])  # 0.149 and 0.153
@pytest.mark.parametrize(("red", "vivid"), [(153, 0.0), (154, 1.0)])  # 0.600 and 0.604
def test_what_is_dark_and_what_is_vivid(level, dark, red, vivid):
    assert style_distance.features(Image.new("RGB", (128, 128), (level,) * 3))[25] == dark
    assert style_distance.features(Image.new("RGB", (128, 128), (red, 0, 0)))[26] == vivid


def test_the_distance_is_frechets():
    """Against the roots of the matrices themselves, and the sum that is left where the spreads are independent."""
    from scipy import linalg

    rng = np.random.default_rng(3)
    one, two = rng.normal(0, 1, (90, 5)) @ rng.normal(0, 1, (5, 5)), rng.normal(1, 2, (60, 5))
    first, second = np.cov(one.T), np.cov(two.T)
    root = linalg.sqrtm(first)
    wanted = ((one.mean(0) - two.mean(0)) ** 2).sum() + np.trace(first + second - 2 * linalg.sqrtm(root @ second @ root).real)
    assert style_distance.frechet(one, two) == pytest.approx(wanted, rel=1e-6)
    assert style_distance.frechet(one, one) == pytest.approx(0, abs=1e-6)


def test_the_interval_of_the_distance_holds_the_figure_and_shrinks_with_pictures():
    rng = np.random.default_rng(0)
    real = rng.normal(0, 0.1, (24, 27))
    widths = []
    for count in (16, 64, 256):
        drawn = rng.normal(0.05, 0.1, (count, 27))
        low, high = style_distance.interval(lambda values: style_distance.frechet(values, real), drawn)
        assert low <= style_distance.frechet(drawn, real) <= high
        assert (low, high) == style_distance.interval(lambda values: style_distance.frechet(values, real), drawn), "seeded"
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[2] > 0


def test_the_interval_of_a_mean_is_students(monkeypatch):
    """mean - t s / sqrt(n) to mean + t s / sqrt(n), with t for 95 % and 7 degrees of freedom out of a printed table."""
    monkeypatch.setattr(style_distance, "_RESAMPLES", 10000)
    values = np.array([-1.9, -1.1, -0.6, -0.2, 0.2, 0.6, 1.1, 1.9]) + 5
    low, high = style_distance.interval(lambda rows: float(rows.mean()), values)
    half = 2.365 * values.std(ddof=1) / 8**0.5
    assert (5 - low, high - 5) == (pytest.approx(half, rel=0.02), pytest.approx(half, rel=0.02))


def test_the_rows_are_drawn_again_alike_on_every_machine():
    """2000 times, each time as many as there are, from the same seed."""
    seen = []
    style_distance.interval(lambda rows: float(len(seen.append(list(rows)) or seen)), np.arange(9))
    rng = np.random.default_rng(0)
    assert seen == [list(range(9)), *(list(rng.integers(0, 9, 9)) for _ in range(2000))]


@pytest.mark.parametrize("count", [8, 16])
def test_the_interval_covers(count, monkeypatch):
    """The mean of normal numbers lies in about 19 of 20 of its intervals; of 200, at least 182 unless fewer than 94 % do."""
    monkeypatch.setattr(style_distance, "_RESAMPLES", 500)
    rng = np.random.default_rng(count)
    inside = 0
    for _ in range(200):
        low, high = style_distance.interval(lambda values: float(values.mean()), rng.normal(0, 1, count))
        inside += low <= 0 <= high
    assert 182 <= inside <= 199
    assert style_distance.interval(lambda values: float(values.mean()), rng.normal(0, 1, 7)) is None


@pytest.mark.parametrize("count", [2, 8, 9, 17])
def test_both_sides_draw_the_same_prompts_with_the_same_seeds(count):
    """Eight at a time; how far it has come is told after each of them."""
    from types import SimpleNamespace

    from loraforge_image.data.grids import png

    from loraforge import File

    asked, told = [], []
    picture = png(Image.new("RGB", (8, 8)), "")

    def generate(prompts, adapter, seed):
        asked.append((adapter, list(prompts), seed))
        return [File(picture, ".png") for _ in prompts]

    run = SimpleNamespace(adapters=lambda: {"mine": None}, inference_model=lambda adapters: SimpleNamespace(generate=generate))
    prompts = [str(number) for number in range(count)]
    sides = [(side, len(pictures)) for side, pictures in style_distance._drawn(run, prompts, lambda *given: told.append(given))]
    assert sides == [("base", count), ("adapter", count)]
    starts = range(0, count, 8)
    assert asked == [(adapter, prompts[start : start + 8], 1000 + start) for adapter in (None, "mine") for start in starts]
    assert told == [(before + min(start + 8, count), 2 * count) for before in (0, count) for start in starts]


def told(base, adapter, **options):
    return style_distance._told(
        "style distance", "nearer to your pictures", {"base": base, "adapter": adapter}, lambda v: float(v.mean()), **options
    )


def test_words_say_when_the_intervals_do_not_overlap(monkeypatch):
    rng = np.random.default_rng(2)
    far, close = rng.normal(5, 1, 32), rng.normal(1, 1, 32)
    found = told(far, close)
    assert found["nearer to your pictures"] == {"base": "", "adapter": "the intervals do not overlap"}
    assert told(close, far)["nearer to your pictures"] == {"base": "the intervals do not overlap", "adapter": ""}
    assert told(close, far, lower=False)["nearer to your pictures"]["adapter"] == "the intervals do not overlap"
    for one, other in ((close, rng.normal(1, 1, 32)), (rng.normal(1, 1, 32), close), (close - 0.2, close), (close, close - 0.2)):
        assert told(one, other)["nearer to your pictures"] == {"base": "", "adapter": "cannot be told: the intervals overlap"}
    figure, low, high = (float(part.strip("(),")) for part in found["style distance"]["base"].replace("to", " ").split())
    assert low < figure < high and figure == pytest.approx(far.mean(), abs=1e-3)
    around = rng.normal(0, 1, 32)
    plain, cut = (told(around, around, **options)["style distance"]["base"] for options in ({}, {"lowest": 0.0}))
    low, high = style_distance.interval(lambda values: float(values.mean()), around)
    assert plain == f"{around.mean():.3f} ({low:.3f} to {high:.3f})" and cut == plain.replace(f"{low:.3f}", "0.000")

    def touching(statistic, rows):
        return (0, 1) if rows is far else (1, 2)

    with monkeypatch.context() as patch:
        patch.setattr(style_distance, "interval", touching)
        for one, other in ((far, close), (close, far)):  # both hold 1
            assert told(one, other)["nearer to your pictures"]["adapter"] == "cannot be told: the intervals overlap"
    assert told(far[:7], close[:7]) == {
        "style distance": {"base": f"{far[:7].mean():.3f}", "adapter": f"{close[:7].mean():.3f}"},
        "nearer to your pictures": {"base": "", "adapter": "too few pictures to tell; it takes 8"},
    }


@pytest.mark.parametrize(("limit", "count"), [(None, 64), (3, 3), (1, 2)])
def test_what_is_drawn_and_compared(limit, count, monkeypatch, tmp_path):
    """The figure of each side by SciPy's root of a matrix; captions in turn, each once; pictures that only remind of a class do not count."""
    from functools import partial
    from types import SimpleNamespace

    from builders.image_checks import rows, scene
    from scipy import linalg

    from loraforge import RunError

    small = partial(scene, size=(16, 12))
    mine, prior = rows(tmp_path, "red", "blue", "red"), rows(tmp_path, "other", prior=True)
    asked = []

    def drawn(run, prompts, tick):
        asked.append(list(prompts))
        for first, side in ((100, "base"), (200, "adapter")):
            yield side, [small(first + number % 5) for number in range(len(prompts))]

    monkeypatch.setattr(style_distance, "_drawn", drawn)
    monkeypatch.setattr(style_distance, "_RESAMPLES", 20)
    template = SimpleNamespace(render=lambda record: [SimpleNamespace(text="a "), SimpleNamespace(text=record.caption)])
    run = SimpleNamespace(path=tmp_path, manifest={}, template=template)
    found = style_distance.compare(run, [*prior, *mine], limit, lambda *given: None)
    assert asked == [(["a red", "a blue"] * 32)[:count]] and found["pictures drawn"] == {"base": str(count), "adapter": str(count)}
    real = np.array([style_distance.features(scene(number)) for number in range(3)])
    for first, side in ((100, "base"), (200, "adapter")):
        made = np.array([style_distance.features(small(first + number % 5)) for number in range(count)])
        spreads = [np.cov(values.T) for values in (made, real)]
        root = linalg.sqrtm(spreads[0] + 1e-12 * np.eye(27)).real
        both = np.sqrt(np.linalg.eigvalsh(root @ spreads[1] @ root).clip(0)).sum()
        wanted = ((made.mean(0) - real.mean(0)) ** 2).sum() + np.trace(sum(spreads)) - 2 * both
        assert float(found["style distance"][side].split()[0]) == pytest.approx(wanted, abs=2e-3)
    two = style_distance.compare(run, mine[:2], limit, lambda *given: None)
    assert two["pictures drawn"]["base"] == str(count)
    (tmp_path / "scene-0.png").write_bytes(b"")
    left = style_distance.compare(run, mine, limit, lambda *given: None)["style distance"]["base"].split()[0]
    kept, made = real[1:], np.array([style_distance.features(small(100 + number % 5)) for number in range(count)])
    assert float(left) == pytest.approx(style_distance.frechet(made, kept), abs=1e-3)
    with pytest.raises(RunError, match="fewer than two of its pictures are left"):
        style_distance.compare(run, [*prior, *mine[:2]], limit, lambda *given: None)


def test_who_follows_the_prompts_better_has_the_higher_score_and_no_distance_is_below_nothing(monkeypatch, tmp_path):
    from functools import partial
    from types import SimpleNamespace

    from builders.image_checks import rows, scene

    def drawn(run, prompts, tick):
        for side, score in (("base", 0.25), ("adapter", 0.5)):
            yield side, [SimpleNamespace(score=score + 0.01 * (n % 2), picture=scene(n % 3)) for n in range(len(prompts))]

    def score(prepared, prompts):
        assert list(prompts) == ["a", "b", "c"] * 4
        return list(prepared)

    monkeypatch.setattr(style_distance, "_RESAMPLES", 200)
    monkeypatch.setattr(style_distance, "_drawn", drawn)
    monkeypatch.setattr(style_distance, "_scorer", lambda run: SimpleNamespace(prepare=lambda one: one.score, score=score))
    for module, name in ((style_distance, "features"), (style_distance.content, "structure")):
        monkeypatch.setattr(module, name, partial(lambda real, one: real(getattr(one, "picture", one)), getattr(module, name)))
    run = SimpleNamespace(
        path=tmp_path, manifest={}, template=SimpleNamespace(render=lambda record: [SimpleNamespace(text=record.caption)])
    )
    found = style_distance.compare(run, rows(tmp_path, "a", "b", "c"), 12, lambda *given: None)
    assert {side: text.split()[0] for side, text in found["prompt adherence"].items()} == {"base": "0.255", "adapter": "0.505"}
    assert found["follows its prompts better"] == {"base": "", "adapter": "the intervals do not overlap"}
    # The same three pictures, each four times: nothing but what a spread of twelve and one of three differ by.
    assert all("(0.000 to " in text for text in found["style distance"].values())
    assert found["structure kept"] == {"base": "1.000", "adapter": "1.000 (1.000 to 1.000)"}
    assert found["shows what the base shows"] == {"base": "", "adapter": "most outlines are where the base draws them"}
