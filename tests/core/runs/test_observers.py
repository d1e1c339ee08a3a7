# SPDX-License-Identifier: Apache-2.0
"""What watches a run."""

from __future__ import annotations

import io
import json
import time

import pytest
from builders.story import story
from rich.console import Console

from loraforge.runs.observers import JsonLog, LossCurve, Progress, TensorBoard, duration


def test_the_log_has_one_event_a_line_from_the_beginning(tmp_path):
    log = JsonLog()
    for event in story(tmp_path):
        log.loraforge_event(event)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["event"] for line in lines] == ["StageStarted", "RunStarted", *["StepFinished"] * 4, "Evaluated", "RunFinished"]
    assert lines[3]["loss"] == 1.0 and lines[1]["folder"] == str(tmp_path) and all(line["time"] > 1.7e9 for line in lines)


def test_tensorboard_reads_the_events(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoard()
    for event in story(tmp_path):
        board.loraforge_event(event)
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    assert {"loss/train", "loss/held_out", "learning_rate", "grad_norm", "units_per_second"} <= set(read.Tags()["scalars"])
    assert [round(s.value, 4) for s in read.Scalars("loss/train")] == [2.0, 1.0, 0.6667, 0.5]
    assert read.Scalars("units_per_second")[0].value == pytest.approx(200.0)


def test_the_loss_curve_goes_on_after_a_resume(tmp_path, monkeypatch):
    from loraforge.diagnosis import curves

    drawn = []
    monkeypatch.setattr(curves, "draw_loss", lambda history, path, run: drawn.append((history, path, run)))
    first = [JsonLog(), LossCurve()]
    for event in story(tmp_path, last=2):
        for observer in first:
            observer.loraforge_event(event)
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"event": "StepFin')  # a killed run's last line
    for event in story(tmp_path, first=2):
        second = second if event.name != "StageStarted" else LossCurve()  # noqa: F821
        second.loraforge_event(event)
    history, path, run = drawn[-1]
    assert history.losses == [(1, 2.0), (2, 1.0), (3, 2 / 3), (4, 0.5)] and history.heldout[-1] == (4, 0.7)
    assert (history.resumed, history.per_epoch, path, run) == ([2], 2, tmp_path / "loss.png", tmp_path.name)
    first_line = json.loads((tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert history.began == first_line["time"]  # not the time of the resume, and not that of drawing


def test_the_loss_curve_needs_no_log(tmp_path, monkeypatch):
    from loraforge.diagnosis import curves

    drawn, before = [], time.time()
    monkeypatch.setattr(curves, "draw_loss", lambda history, path, run: drawn.append(history))
    curve = LossCurve()
    for event in story(tmp_path):
        curve.loraforge_event(event)
    assert len(drawn) == 1 and len(drawn[0].losses) == 4 and before <= drawn[0].began <= time.time() and not drawn[0].resumed


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_loss_rate_speed_and_time_left(tmp_path, terminal):
    out = io.StringIO()
    progress = Progress(Console(file=out, force_terminal=terminal, width=160, highlight=False), "tokens")
    for event in story(tmp_path):
        progress.loraforge_event(event)
    shown = out.getvalue()
    for words in ("4 examples are learned, 1 are held out", "about 1 min 15 s", "loss 0.500", "rate 1.0e-04", "200 tokens/s", "left"):
        assert words in shown, words


def test_durations():
    assert [duration(s) for s in (5, 75, 7800)] == ["5 s", "1 min 15 s", "2 h 10 min"]
