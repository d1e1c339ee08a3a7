# SPDX-License-Identifier: Apache-2.0
"""Whether the adapter's drawings still show what the base draws from the same prompt and seed: the correlation of where edges run, and how.

A style should change colours and light and leave the houses standing; an adapter that was trained too hard leaves patches of colour. The
measure needs no model, knows nothing of houses, and does not see colours: only what has outlines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image, ImageFilter

from loraforge import speaker

say = speaker(__name__)

_SIDE = 128
_CELL = 8
_DIRECTIONS = 6
# The way from the floor to 1, of which a verdict speaks. On drawn scenes (tests/image/evaluation/test_content.py) the same scene in another
# light goes 0.5 to 0.98 of it, one blurred until its windows run together 0.2, one blurred to patches none.
_MOST, _SOME = 0.4, 0.15


def structure(picture: Image.Image) -> Any:
    """Histograms of edge directions (Dalal and Triggs 2005) in 16 x 16 cells, as a vector of 16 * 16 * 6 with mean 0 per direction and
    length 1; zeros for a picture without edges.

    An edge is the strongest direction of the colour gradient (Di Zenzo 1986), unsigned, so that neither the colour nor which side is darker
    matters; it counts by the square root of its strength, so that a night with faint walls has them too. Sizes do not matter: the
    picture is shrunk to 128 pixels.
    """
    import numpy as np

    small = picture.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(1))
    rgb = np.asarray(small, dtype=np.float64) / 255
    across, down = np.zeros_like(rgb), np.zeros_like(rgb)
    across[:, 1:-1] = rgb[:, 2:] - rgb[:, :-2]
    down[1:-1] = rgb[2:] - rgb[:-2]
    xx, yy, xy = ((one * other).sum(2) for one, other in ((across, across), (down, down), (across, down)))
    strength = ((xx + yy) / 2 + np.hypot((xx - yy) / 2, xy)) ** 0.25  # the larger eigenvalue is the square of the gradient
    angle = np.arctan2(2 * xy, xx - yy) / (2 * np.pi) * _DIRECTIONS
    low = np.floor(angle)
    rest = angle - low
    cells = _SIDE // _CELL
    rows, columns = np.indices(strength.shape) // _CELL
    found = np.zeros(cells * cells * _DIRECTIONS)
    for direction, share in ((low, 1 - rest), (low + 1, rest)):
        place = (rows * cells + columns) * _DIRECTIONS + direction.astype(int) % _DIRECTIONS
        found += np.bincount(place.ravel(), (strength * share).ravel(), len(found))
    histograms = found.reshape(-1, _DIRECTIONS)
    histograms = histograms - histograms.mean(0)
    length = float(np.linalg.norm(histograms))
    return (histograms / length if length > 1e-9 else np.zeros_like(histograms)).ravel()


def shared(one: Any, other: Any) -> Any:
    """How much structure the pictures of two sets have in common, (n, m) for structures (n, :) and (m, :): 1 for the same picture, about 0
    for noise. Two pictures without an edge are alike."""
    import numpy as np

    empty = ~one.any(1)[:, None] & ~other.any(1)[None, :]
    return np.where(empty, 1.0, one @ other.T)


def told(
    base: Any, adapter: Any, prompts: Sequence[str], interval: Callable[[Callable[[Any], float], Any], tuple[float, float] | None]
) -> Mapping[str, Mapping[str, str]]:
    """What the adapter's drawings keep of the base's from the same prompt and seed, and, as the floor, what drawings of the base from
    other prompts share with each other.

    Args:
        base: structures (n, :); ``adapter``: those from the same prompts and seeds.
        interval: the lower and upper end for a statistic of values; None for too few.
    """
    import numpy as np

    kept = np.diagonal(shared(base, adapter))
    foreign = np.array([[a != b for b in prompts] for a in prompts])
    if not foreign.any():  # one prompt only: other seeds
        foreign = ~np.eye(len(prompts), dtype=bool)
    floor = float(shared(base, base)[foreign].mean())
    figure = float(kept.mean())
    bounds = interval(lambda values: float(values.mean()), kept)
    shown = f"{figure:.3f}"
    if bounds is None:
        verdict = say("too few pictures to tell")
    else:
        shown = say("{figure:.3f} ({low:.3f} to {high:.3f})", figure=figure, low=bounds[0], high=min(bounds[1], 1.0))
        share = (figure - floor) / (1 - floor) if floor < 1 else 1.0
        if share >= _MOST:
            verdict = say("most outlines are where the base draws them")
        elif share >= _SOME and bounds[0] > floor:
            verdict = say("some outlines are where the base draws them")
        else:
            verdict = say("hardly more than drawings of different prompts share")
    return {
        "structure kept": {"base": "1.000", "adapter": shown},
        "structure that different prompts share": {"base": f"{floor:.3f}", "adapter": ""},
        "shows what the base shows": {"base": "", "adapter": verdict},
    }
