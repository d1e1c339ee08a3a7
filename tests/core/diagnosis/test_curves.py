# SPDX-License-Identifier: Apache-2.0
"""The pictures of a run: what their axes show, in both languages, whatever the losses and whatever the run is called."""

from __future__ import annotations

import math
import time
import warnings
from types import SimpleNamespace

import pytest
from PIL import Image

from loraforge import charts
from loraforge.diagnosis.curves import draw_checkpoints, draw_diagnosis, draw_loss
from loraforge.diagnosis.diagnose import Diagnosis, History

BEGAN = 1_795_940_000.0
FALL = [(s, 0.5 + 3 * math.exp(-s / 20) + 0.3 * math.sin(s * 7)) for s in range(1, 401)]
HELD = [(s, 0.8 + 2.4 * math.exp(-s / 20) + 0.0005 * s) for s in range(0, 401, 50)]
CHECKPOINTS = [
    {"step": 50 * n, "epoch": n / 2, "train_loss": 3 / n, "held_out_loss": None if n == 1 else 2 + abs(n - 4) / 5, "kept": n > 3}
    for n in range(1, 8)
]


def history(losses=FALL, held=HELD, per_epoch=40, **more):
    return History(losses, held, per_epoch, 2e-4, began=BEGAN, **more)


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """``drawn(draw, *given)``: the figure that ``draw`` would save, and what it would write into the file."""
    from matplotlib.figure import Figure

    found = []
    monkeypatch.setenv("LORAFORGE_LANG", "en")
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **more: (path.touch(), found.append((self, more["metadata"]))))

    def draw(how, *given, **more):
        place = tmp_path / "chart.png"
        how(*given, place, **more) if how is not draw_checkpoints else how(*given[:2], place, *given[2:], **more)
        assert [path.name for path in tmp_path.iterdir()] == ["chart.png"]
        figure, written = found[-1]
        return SimpleNamespace(figure=figure, written=written, axes=figure.axes, **_read(figure))

    return draw


def _read(figure):
    lines = {line.get_label(): line for line in figure.axes[0].get_lines() if not line.get_label().startswith("_")}
    return {
        "texts": [text.get_text() for text in figure.texts],
        "named": [text.get_text() for text in figure.legends[0].get_texts()] if figure.legends else [],
        "lines": lines,
    }


def test_the_loss_curve_says_what_it_is_of_and_shows_held_out_beside_training(drawn):
    chart = drawn(draw_loss, history(), run="contracts")
    assert chart.texts[:2] == ["Loss in training", "contracts  ·  " + time.strftime("%Y-%m-%d %H:%M", time.localtime(BEGAN))]
    assert chart.named == ["training, each step", "training, mean of 17 steps", "held-out examples", "lowest held out: 0.8662 (step 100)"]
    assert list(chart.lines["held-out examples"].get_xdata()) == [s for s, _ in HELD]
    assert list(chart.lines["lowest held out: 0.8662 (step 100)"].get_xdata()) == [100]
    assert chart.axes[-1].get_xlabel() == "step (passes over the examples)" and "lower is better" in chart.axes[0].get_ylabel()
    assert chart.axes[-1].xaxis.get_major_formatter()(200, 0) == "200\n(5.0)"


@pytest.mark.parametrize("moment", [None, math.nan, 1e300, -1e300])
def test_a_date_that_is_none_is_left_out(drawn, moment):
    chart = drawn(draw_loss, History(FALL, HELD, 40, 2e-4, began=moment), run="contracts")
    assert chart.texts[1] == "contracts" and "Creation Time" not in chart.written


def test_each_step_stays_behind_a_mean_that_no_step_leads(drawn):
    """The mean is centred: a step from 1 to 0 is halfway at its own place, and not half a window later."""
    chart = drawn(draw_loss, history([(s, float(s <= 200)) for s in range(1, 401)], []))
    raw, mean = chart.lines["training, each step"], chart.lines["training, mean of 17 steps"]
    assert list(raw.get_ydata()) == [1.0] * 200 + [0.0] * 200 and raw.get_zorder() < mean.get_zorder() and raw.get_alpha() < 0.6
    crossing = next(s for s, y in zip(mean.get_xdata(), mean.get_ydata(), strict=True) if y < 0.5)
    assert crossing == 201
    assert sum(mean.get_ydata()) == pytest.approx(200, abs=1)


def test_what_comes_after_the_first_fall_fills_a_panel_of_its_own(drawn):
    whole, closer = drawn(draw_loss, history()).axes
    late = [y for s, y in HELD if s >= 41]
    low, high = closer.get_ylim()
    assert low < 0.6 and max(late) < high < 1.4 and whole.get_ylim()[0] == 0 and whole.get_ylim()[1] > 3.5
    assert whole.get_xlim() == closer.get_xlim() and "outside" in closer.get_title("left")


def test_a_held_out_loss_far_from_the_training_loss_is_seen_closer_by_itself(drawn):
    """The training loss goes on falling to nothing, and would leave the held-out loss a flat line in both panels."""
    held = [(s, 4 - 0.001 * s if s else 7.0) for s in range(0, 401, 50)]
    closer = drawn(draw_loss, history([(s, 7 - s / 60) for s in range(1, 401)], held)).axes[1]
    low, high = closer.get_ylim()
    assert 3.5 < low < 3.6 and 3.95 < high < 4.05 and closer.get_title("left") == "the held-out loss closer"


@pytest.mark.parametrize(
    ("losses", "held", "panels", "scale"),
    [
        ([(1, 2.0)], [], 1, "linear"),
        ([(1, 2.0), (2, 1.5)], [(0, 2.1), (2, 1.6)], 1, "linear"),
        ([(s, 3 - s / 200) for s in range(1, 401)], [], 1, "linear"),  # there is nothing to see closer
        ([(s, 2 * math.exp(-s / 60)) for s in range(1, 401)], [], 1, "log"),
        ([(s, 2 * math.exp(-s / 20) - 1) for s in range(1, 401)], [(0, 1.1), (400, -0.9)], 2, "linear"),  # a loss may be below zero
        ([(s, math.nan) for s in range(1, 30)], [(0, math.inf)], 1, "linear"),
        ([(s, 0.0) for s in range(1, 100)], [], 1, "linear"),
        ([], [], 1, "linear"),
    ],
)
def test_axes_suit_the_losses(drawn, losses, held, panels, scale):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chart = drawn(draw_loss, history(losses, held))
    assert len(chart.axes) == panels and chart.axes[0].get_yscale() == scale
    finite = [y for _, y in [*losses, *held] if math.isfinite(y)]
    low, high = chart.axes[0].get_ylim()
    assert not finite or low <= min(finite) <= max(finite) < high
    steps = [chart.axes[-1].xaxis.get_major_formatter()(place, 0) for place in chart.axes[-1].get_xticks()]
    assert len(steps) == len(set(steps)) <= 9
    written = chart.axes[0].yaxis.get_major_formatter()(0.05, 0)
    assert written == "0.05" and "$" not in written


def test_steps_without_a_number_are_counted_and_a_resume_is_marked(drawn):
    losses = [(s, math.nan if s in (50, 51) else math.inf if s == 60 else y) for s, y in FALL]
    chart = drawn(draw_loss, history(losses, resumed=(100,)))
    assert list(chart.lines["steps without a number (NaN): 3"].get_xdata()) == [50, 51, 60]
    assert list(chart.lines["taken up again after step 100"].get_xdata()) == [100, 100]
    assert all(math.isfinite(y) for y in chart.lines["training, mean of 15 steps"].get_ydata())
    assert "taken up again (2 times)" in drawn(draw_loss, history(resumed=(100, 200))).named


def test_a_hundred_thousand_steps_are_thinned_and_keep_their_peaks(drawn):
    losses = [(s, 1.0 + 0.1 * math.sin(s)) for s in range(1, 100_001)]
    losses[77_776] = (77_777, 9.0)
    before = time.process_time()
    chart = drawn(draw_loss, history(losses, [(s, 1.1) for s in range(0, 100_001, 500)]))
    assert time.process_time() - before < 5
    raw = chart.lines["training, each step"]
    assert len(raw.get_xdata()) <= 2000 and (77_777, 9.0) in zip(raw.get_xdata(), raw.get_ydata(), strict=True)
    assert chart.lines["held-out examples"].get_markevery() > 1


@pytest.mark.parametrize("name", ["合同审查与法律意见" * 20, "W" * 300, "a $x^2$ b\nsecond", "run\u202e.gnp", "x" * 60])
def test_any_name_of_a_run_is_one_line_that_fits(drawn, name):
    chart = drawn(draw_loss, history(), run=name)
    line = chart.figure.texts[1]
    assert "\n" not in line.get_text() and "\u202e" not in line.get_text()
    assert line.get_window_extent().x1 < chart.figure.bbox.x1 and not line.get_parse_math()
    if name.startswith("W"):
        assert line.get_text().startswith("WWW") and "WW…WW" in line.get_text()
    if "$" in name:
        assert line.get_text().startswith("a $x^2$ b second  ·")


@pytest.mark.parametrize(
    ("kind", "name"),
    [("over_fitting", "over-fitting"), ("oscillating", "rose again"), ("diverged", "went astray"), ("too_long", "no longer improving")],
)
def test_what_was_found_is_hatched_named_and_said(drawn, kind, name):
    chart = drawn(draw_diagnosis, history(), [Diagnosis(kind, "It learns by heart.", "From 1 to 2.", (100, 400), 1e-4)])
    bands = [patch for patch in chart.axes[0].patches if patch.get_label() == name]
    assert len(bands) == 1 and bands[0].get_hatch() and (bands[0].get_x(), bands[0].get_width()) == (100, 300)
    assert name in chart.named and "• It learns by heart. From 1 to 2." in chart.texts
    assert "It learns by heart. From 1 to 2." in chart.written["Description"]
    healthy = drawn(draw_diagnosis, history(), [Diagnosis("healthy", "Fine.", "")])
    assert not healthy.axes[0].patches


def test_the_checkpoint_that_the_adapter_is_from_stands_out(drawn):
    chart = drawn(draw_checkpoints, CHECKPOINTS, 200, "contracts", BEGAN)
    assert chart.texts[0] == "Checkpoints compared" and chart.texts[1].startswith("contracts  ·  2026")
    star = chart.lines["the adapter: step 200"]
    assert (list(star.get_xdata()), list(star.get_ydata()), star.get_marker()) == ([200], [2.0], "*")
    assert "hollow: no longer on the disk" in chart.named and "hollow" not in str(drawn(draw_checkpoints, CHECKPOINTS[3:], 200).named)
    assert not any("adapter" in name for name in drawn(draw_checkpoints, CHECKPOINTS, None).named)
    assert chart.written["Description"] == "7 checkpoints. The held-out loss is lowest at step 200 with 2. The adapter is from step 200."
    assert chart.axes[0].get_xticklabels()[0].get_text() == "50\n(0.5)"
    assert drawn(draw_checkpoints, CHECKPOINTS[:1], 50).axes[0].get_yscale() == "linear"
    many = [{**row, "step": 50 * n, "train_loss": 5 / n**1.5} for n, row in enumerate(CHECKPOINTS * 6, 1)]
    chart = drawn(draw_checkpoints, many, None)
    assert chart.axes[0].get_yscale() == "log" and len(chart.axes[0].get_xticks()) <= 10


def test_the_file_says_in_words_what_it_shows(drawn):
    written = drawn(draw_loss, history(), run="合同").written
    assert written["Title"] == "Loss in training" and written["Source"] == "合同" and written["Creation Time"].startswith("2026-11-")
    assert (
        "Training loss over 400 steps: 2.86 at first, 0.493 at the end." in written["Description"]
        and "lowest at step 100 with 0.866" in written["Description"]
    )


@pytest.mark.parametrize("code", ["en", "zh"])
def test_pictures_are_whole_without_empty_boxes_and_the_same_each_time(tmp_path, monkeypatch, code, real_plots):
    monkeypatch.setenv("LORAFORGE_LANG", code)
    found = [Diagnosis("over_fitting", "从第 108 步起过拟合。" if code == "zh" else "Over-fitting.", "", (100, 400))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of characters that its font lacks
        draw_diagnosis(history(), found, tmp_path / "one.png", "法律 🔥 contracts")
        draw_diagnosis(history(), found, tmp_path / "two.png", "法律 🔥 contracts")
        draw_checkpoints(CHECKPOINTS, 200, tmp_path / "checkpoints.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.width == 1024 and picture.text["Source"] == "法律 🔥 contracts"
        edges = [picture.convert("RGB").getpixel((x, y)) for x in (0, picture.width - 1) for y in range(0, picture.height, 3)]
    assert set(edges) == {(255, 255, 255)}  # nothing is cut at either side


def test_without_a_font_of_chinese_it_is_english_with_the_remedy(drawn, monkeypatch):
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    monkeypatch.setattr(charts, "font_files", lambda: ())
    charts._families.cache_clear()
    try:
        chart = drawn(draw_diagnosis, history(), [Diagnosis("over_fitting", "过拟合。", "", (100, 400))], run="法律-qwen")
    finally:
        charts._families.cache_clear()
    everything = "".join([*chart.texts, *chart.named, *(axes.get_ylabel() + axes.get_xlabel() for axes in chart.axes)])
    assert everything.replace("…", "").replace("•", "").replace("·", "").isascii(), everything
    assert chart.texts[1].startswith("…-qwen  ·") and "Over fitting, steps 100 to 400." in everything
    assert "pip install 'loraforge[fonts]'" in " ".join(everything.split())
    assert "过拟合。" in chart.written["Description"]  # words need no font
