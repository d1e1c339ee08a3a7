"""How far drawn pictures are from the training pictures: the Fréchet distance over colour and texture statistics."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from loraforge import DataError, File, RunError, speaker

from .pictures import read_picture

if TYPE_CHECKING:
    from loraforge import OpenRun

    from .task import Picture

say = speaker(__name__)

SAMPLES = 64
_SIDE = 128


def features(picture: Image.Image) -> Any:
    """27 numbers of one picture, each about 0 to 1: mean and spread of lightness and of two colour differences; five percentiles of
    lightness; mean and spread of saturation; mean edge strength at three scales; the mean colour of the upper, middle and lower third;
    the share of dark and of vivid pixels. Sizes do not matter: the picture is shrunk to 128 pixels."""
    import numpy as np

    small = picture.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    rgb = np.asarray(small, dtype=np.float64) / 255
    light = rgb @ np.array([0.299, 0.587, 0.114])
    red, blue = rgb[..., 0] - rgb[..., 1], rgb[..., 2] - (rgb[..., 0] + rgb[..., 1]) / 2
    saturation = rgb.max(2) - rgb.min(2)
    edges = []
    scaled = light
    for _ in range(3):
        edges.append((np.abs(np.diff(scaled, axis=0)).mean() + np.abs(np.diff(scaled, axis=1)).mean()) * 4)
        scaled = scaled.reshape(scaled.shape[0] // 2, 2, scaled.shape[1] // 2, 2).mean((1, 3))
    thirds = [band.mean((0, 1)) for band in np.array_split(rgb, 3)]
    statistics = [x for part in (light, red, blue) for x in (part.mean(), part.std())]
    return np.array([
        *statistics, *np.percentile(light, (5, 25, 50, 75, 95)), saturation.mean(), saturation.std(), *edges, *np.concatenate(thirds),
        (light < 0.15).mean(), (saturation > 0.6).mean(),
    ])  # fmt: skip


def frechet(one: Any, other: Any) -> float:
    """The Fréchet distance between two sets of features, (pictures, 27) each, taken as normal distributions:
    |mean difference|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Heusel et al. 2017, there on Inception features)."""
    import numpy as np
    from scipy import linalg

    mean = float(np.square(one.mean(0) - other.mean(0)).sum())
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    # tr((C1 C2)^(1/2)) = the sum of the square roots of the eigenvalues of C1 C2, which are real and not negative.
    values = linalg.eigvals(first @ second).real.clip(min=0)
    return mean + float(np.trace(first) + np.trace(second) - 2 * np.sqrt(values).sum())


def evaluate(
    opened: OpenRun, records: Sequence[Picture], limit: int | None, tick: Callable[[int, int], None]
) -> Mapping[str, Mapping[str, str]]:
    """Draws the training captions in turn, with base and adapter at the same seeds, and measures how far each is from the pictures.

    Raises:
        RunError: if too few pictures of the run are left to compare with.
    """
    import numpy as np

    mine = [record for record in records if not record.prior]
    real = []
    for record in mine:
        try:
            real.append(features(read_picture(Path(record.path))))
        except DataError:
            continue
    if len(real) < 2:
        raise RunError(say("{run}: fewer than two of its pictures are left; nothing can be compared.", run=opened.run.path))
    count = max(2, limit or SAMPLES)
    captions = list(dict.fromkeys("".join(span.text for span in opened.template.render(record)) for record in mine))
    prompts = [captions[number % len(captions)] for number in range(count)]
    responder = opened.responder(opened.adapters())
    name = next(iter(opened.adapters()))
    figures: dict[str, str] = {}
    for position, (side, adapter) in enumerate((("base", None), ("adapter", name))):
        drawn = []
        for start in range(0, count, 8):
            answers = responder.respond(prompts[start : start + 8], adapter, seed=1000 + start)
            drawn += [features(Image.open(io.BytesIO(answer.data))) for answer in answers if isinstance(answer, File)]
            tick(position * count + len(drawn), 2 * count)
        figures[side] = f"{frechet(np.array(drawn), np.array(real)):.3f}"
    return {"style distance": figures, "pictures drawn": {side: str(count) for side in figures}}
