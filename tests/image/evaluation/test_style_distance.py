"""How far drawn pictures are from one's own."""

from __future__ import annotations

import numpy as np
import pytest
from loraforge_image.evaluation import style_distance


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


def test_the_interval_covers():
    """The mean of 16 normal numbers lies in about 19 of 20 of its intervals (a percentile interval of so few is a little narrow)."""
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(100):
        low, high = style_distance.interval(lambda values: float(values.mean()), rng.normal(0, 1, 16))
        inside += low <= 0 <= high
    assert 85 <= inside <= 99


def told(base, adapter, **options):
    return style_distance._told(
        "style distance", "nearer to your pictures", {"base": base, "adapter": adapter}, lambda v: float(v.mean()), **options
    )


def test_words_say_when_the_intervals_do_not_overlap():
    rng = np.random.default_rng(2)
    far, close = rng.normal(5, 1, 32), rng.normal(1, 1, 32)
    found = told(far, close)
    assert found["nearer to your pictures"] == {"base": "", "adapter": "the intervals do not overlap"}
    assert told(close, far)["nearer to your pictures"] == {"base": "the intervals do not overlap", "adapter": ""}
    assert told(close, far, lower=False)["nearer to your pictures"]["adapter"] == "the intervals do not overlap"
    assert told(close, rng.normal(1, 1, 32))["nearer to your pictures"]["adapter"].startswith("cannot be told")
    figure, low, high = (float(part.strip("(),")) for part in found["style distance"]["base"].replace("to", " ").split())
    assert low < figure < high and figure == pytest.approx(far.mean(), abs=1e-3)
    assert told(far[:7], close[:7]) == {"style distance": {"base": f"{far[:7].mean():.3f}", "adapter": f"{close[:7].mean():.3f}"}}
