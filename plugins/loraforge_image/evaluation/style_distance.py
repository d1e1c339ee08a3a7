# SPDX-License-Identifier: Apache-2.0
"""How far drawn pictures are from the training pictures: the Fréchet distance over colour and texture statistics, with intervals."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from loraforge import DataError, File, RunError, speaker

from ..data.captions import alternatives, written
from ..data.pictures import read_picture
from ..records import ImageKeys
from . import content

if TYPE_CHECKING:
    from loraforge import TrainedRun

    from ..records import Picture
    from .prompt_adherence import Scorer

say = speaker(__name__)

SAMPLES = 64
_SIDE = 128
# Pictures drawn, below which drawing them again says nothing; and how often they are drawn again.
_FEWEST = 8
_RESAMPLES = 2000


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


def interval(statistic: Callable[[Any], float], values: Any) -> tuple[float, float] | None:
    """(lower end, upper end) of the 95 % bootstrap interval of ``statistic(values)``, by drawing the rows of ``values`` again, seeded; None
    for fewer than eight. It holds what as many other pictures would show, which for a Fréchet distance is more than endlessly many would.

    A set with repetitions has fewer different pictures and so a larger Fréchet distance than the set itself: the resampled figures are
    shifted by the median of that, and taken further out as Student's t is wider than the normal quantile (Hesterberg, "What Teachers Should
    Know About the Bootstrap", The American Statistician 69, 2015, sec. 3.3).
    """
    import numpy as np
    from scipy import stats

    count = len(values)
    if count < _FEWEST:
        return None
    rng = np.random.default_rng(0)
    whole = statistic(values)
    drawn = np.array([statistic(values[rng.integers(0, count, count)]) for _ in range(_RESAMPLES)])
    wider = float(stats.t.ppf(0.975, count - 1) / stats.norm.ppf(0.975) * np.sqrt(count / (count - 1)))
    low, high = whole + wider * (np.quantile(drawn, (0.025, 0.975)) - np.median(drawn))
    return min(float(low), whole), max(float(high), whole)


def compare(
    run: TrainedRun, records: Sequence[Picture], limit: int | None, tick: Callable[[int, int], None]
) -> Mapping[str, Mapping[str, str]]:
    """Draws the training captions in turn, with base and adapter at the same seeds; measures how far each set is from the pictures, how
    much of what the base draws the adapter keeps, and, with a ``prompt_scorer``, how well each picture follows its prompt.

    Raises:
        RunError: if too few pictures of the run are left to compare with.
        ModelError: if the scorer cannot be used; before anything is drawn.
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
        raise RunError(say("{run}: fewer than two of its pictures are left; nothing can be compared.", run=run.path))
    scorer = _scorer(run)
    count = max(2, limit or SAMPLES)
    keys = ImageKeys(keep_tokens_separator=(run.manifest.get("config") or {}).get("keep_tokens_separator"))
    texts = ("".join(span.text for span in run.template.render(record)) for record in mine)
    captions = list(dict.fromkeys(written(alternatives(text)[0], keys) for text in texts))
    prompts = [captions[number % len(captions)] for number in range(count)]
    drawn: dict[str, list[Any]] = {}
    structures: dict[str, Any] = {}
    followed: dict[str, Any] = {}
    for side, pictures in _drawn(run, prompts, tick):
        drawn[side] = [features(picture) for picture in pictures]
        structures[side] = np.array([content.structure(picture) for picture in pictures])
        if scorer is not None:
            followed[side] = np.array(scorer.score([scorer.prepare(picture) for picture in pictures], prompts))
    reference = np.array(real)
    figures: dict[str, Mapping[str, str]] = {}
    distances = {side: np.array(values) for side, values in drawn.items()}
    figures |= _told("style distance", "nearer to your pictures", distances, lambda values: frechet(values, reference), lowest=0.0)
    figures |= content.told(structures["base"], structures["adapter"], prompts, interval)
    if followed:
        figures |= _told("prompt adherence", "follows its prompts better", followed, lambda values: float(values.mean()), lower=False)
    return {**figures, "pictures drawn": {side: str(count) for side in drawn}}


def _scorer(run: TrainedRun) -> Scorer | None:
    named = (run.manifest.get("config") or {}).get("prompt_scorer")
    if not named:
        return None
    from .prompt_adherence import Scorer

    return Scorer(str(named))


def _drawn(run: TrainedRun, prompts: Sequence[str], tick: Callable[[int, int], None]) -> Iterator[tuple[str, list[Image.Image]]]:
    """The pictures of the base, then those of the adapter."""
    adapters = run.adapters()
    inference_model = run.inference_model(adapters)
    count = len(prompts)
    for position, (side, adapter) in enumerate((("base", None), ("adapter", next(iter(adapters))))):
        drawn: list[Image.Image] = []
        for start in range(0, count, 8):
            answers = inference_model.generate(prompts[start : start + 8], adapter, seed=1000 + start)
            drawn += [Image.open(io.BytesIO(answer.data)).convert("RGB") for answer in answers if isinstance(answer, File)]
            tick(position * count + len(drawn), 2 * count)
        yield side, drawn


def _told(
    measure: str, question: str, values: Mapping[str, Any], statistic: Callable[[Any], float], *, lower: bool = True, lowest: float = -1.0
) -> dict[str, dict[str, str]]:
    """The figure of each side with its interval, and which side is better if the intervals leave no doubt.

    Args:
        lower: whether less is better.
        lowest: what the figure cannot be below.
    """
    figures = {side: statistic(rows) for side, rows in values.items()}
    bounds = {side: (max(found[0], lowest), found[1]) for side, rows in values.items() if (found := interval(statistic, rows))}
    if len(bounds) < len(values):
        plain = {side: f"{figure:.3f}" for side, figure in figures.items()}
        few = say("too few pictures to tell; it takes {n}", n=_FEWEST)
        return {measure: plain, question: {"base": "", "adapter": few}}
    shown = {
        side: say("{figure:.3f} ({low:.3f} to {high:.3f})", figure=figure, low=bounds[side][0], high=bounds[side][1])
        for side, figure in figures.items()
    }
    apart = bounds["base"][1] < bounds["adapter"][0] or bounds["adapter"][1] < bounds["base"][0]
    best = (min if lower else max)(figures, key=lambda side: figures[side])
    verdict = say("the intervals do not overlap") if apart else say("cannot be told: the intervals overlap")
    return {measure: shown, question: {side: verdict if side == (best if apart else "adapter") else "" for side in figures}}
