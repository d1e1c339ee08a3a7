# SPDX-License-Identifier: Apache-2.0
"""A training that ends before its first step leaves its folder as it was, whatever ends it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from loraforge.errors import DataError, RunError, TrainingError
from loraforge.runs.folder import RunFolder
from loraforge.runs.unstarted import log_beside
from loraforge.training import loop


def tree(folder: Path) -> dict[str, bytes | None]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def raising(error):
    def stops(*arguments, **named):
        raise error

    return stops


def in_load(patch):
    patch.setattr("loraforge_text.families.causal_lm.CausalLM.load", raising(ValueError("a broken base")))
    return ValueError


def out_of_memory_in_load(patch):
    patch.setattr("loraforge_text.families.causal_lm.CausalLM.load", raising(RuntimeError("DefaultCPUAllocator: can't allocate memory")))
    return TrainingError


def interrupted_while_encoding(patch):
    patch.setattr("loraforge_text.families.causal_lm.TrainableCausalLM.encode", raising(KeyboardInterrupt()))
    return KeyboardInterrupt


def a_row_that_is_refused(patch):
    patch.setattr("loraforge_text.families.causal_lm.TrainableCausalLM.encode", raising(DataError("too odd")))
    return DataError


def in_the_estimate(patch):
    patch.setattr(loop.Loop, "estimate_seconds", raising(KeyboardInterrupt()))
    return KeyboardInterrupt


def a_base_of_nan(patch):
    patch.setattr(loop.Loop, "_heldout_loss", lambda self: float("nan"))
    return TrainingError


def a_first_step_of_nan(patch):
    patch.setattr(loop.Loop, "step", raising(loop.NotFinite("loss", 1, [0])))
    return TrainingError


NOTHING, FILES, EARLIER = "nothing", "files of somebody", "an earlier run"


@pytest.mark.parametrize(
    ("failure", "before"),
    [
        (in_load, NOTHING), (out_of_memory_in_load, FILES), (interrupted_while_encoding, EARLIER), (a_row_that_is_refused, NOTHING),
        (in_the_estimate, FILES), (a_base_of_nan, EARLIER), (a_base_of_nan, FILES), (a_first_step_of_nan, NOTHING),
    ],
)  # fmt: skip
def test_a_failure_before_the_first_step_leaves_the_folder_as_it_was(failure, before, project, train, tmp_path, monkeypatch, host):
    heard = []
    real = type(host).tell
    monkeypatch.setattr(type(host), "tell", lambda self, event: (heard.append(event), real(self, event)))
    config, out = project(epochs=30), tmp_path / "out"
    if before != NOTHING:
        for name in ("notes.txt", "findings.csv", "samples/mine.png", "tensorboard/events.out.tfevents.1.mine", "log.jsonl"):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(f'{{"time": 1, "event": "{name}"}}\n', encoding="utf-8")
            os.utime(out / name, (1.7e9, 1.7e9))
    if before == EARLIER:
        for name in ("config.yaml", "manifest.json"):
            (out / name).write_text('{"status": "finished"}', encoding="utf-8")
    there = tree(out)
    with monkeypatch.context() as patch:
        error = failure(patch)
        with pytest.raises(error):
            train(config, fresh=before == EARLIER)
    assert tree(out) == there and out.exists() == (before != NOTHING)
    beside = sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("out"))
    assert beside == [*(["out"] if there else []), "out.failed.jsonl"]
    lines = [json.loads(line) for line in log_beside(out).read_text(encoding="utf-8").splitlines()]
    assert [line["event"] for line in lines if line["event"] == "RunFailed"] == ["RunFailed"] and lines[0]["event"] == "StageStarted"
    said = [event.detail for event in heard if event.name == "StageStarted" and event.stage == "folder"][-1]
    assert str(log_beside(out)) in said and ("earlier run is back" if before == EARLIER else "is as it was") in said
    done = train(config, "epochs=1", fresh=before == EARLIER)  # the same command again
    assert done.run.manifest()["status"] == "finished"


def test_two_failures_have_one_log_and_a_run_with_a_step_keeps_its_folder(project, train, tmp_path, monkeypatch):
    config, out = project(), tmp_path / "out"
    for _ in range(2):
        with monkeypatch.context() as patch, pytest.raises(ValueError):
            in_load(patch)
            train(config)
    text = log_beside(out).read_text(encoding="utf-8")
    assert text.count("RunFailed") == 2 and not out.exists()
    with monkeypatch.context() as patch, pytest.raises(TrainingError):
        real = loop.Loop.step
        patch.setattr(
            loop.Loop, "step", lambda self, rows, step: real(self, rows, step) if step == 1 else raising(loop.NotFinite("loss", 2, rows))()
        )
        train(config)
    assert RunFolder(out).manifest()["status"] == "failed" and log_beside(out).read_text(encoding="utf-8") == text
    with pytest.raises(RunError, match="already holds a run"):
        train(config)


def test_a_resumed_run_that_fails_early_stays_what_it_was(project, train, tmp_path, monkeypatch):
    config, out = project(save_steps=1), tmp_path / "out"
    with monkeypatch.context() as patch, pytest.raises(TrainingError):
        real = loop.Loop.step
        patch.setattr(
            loop.Loop, "step", lambda self, rows, step: real(self, rows, step) if step == 1 else raising(loop.NotFinite("loss", 2, rows))()
        )
        train(config)
    before = set(tree(out))
    with monkeypatch.context() as patch, pytest.raises(ValueError):
        in_load(patch)
        train(config, resume=True)
    assert set(tree(out)) == before
    assert train(config, resume=True).run.manifest()["status"] == "finished"


def leftover(out: Path, *events: str, **manifest) -> None:
    """What a killed process left."""
    out.mkdir()
    (out / "config.yaml").write_text("x: 1\n", encoding="utf-8")
    told = {"format": 2, "status": "running", "started": "2026-01-01T00:00:00+0000", "metrics": {}, **manifest}
    (out / "manifest.json").write_text(json.dumps(told), encoding="utf-8")
    (out / "log.jsonl").write_text("".join(json.dumps({"time": 1.9e9, "event": event}) + "\n" for event in events), encoding="utf-8")


@pytest.mark.parametrize("events", [(), ("StageStarted", "RunStarted", "Evaluated")])
def test_a_run_that_was_killed_before_its_first_step_gives_its_place_up(events, project, train, tmp_path):
    out = tmp_path / "out"
    leftover(out, *events)
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    assert train(project()).run.manifest()["status"] == "finished"
    assert (out / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert log_beside(out).exists() == bool(events)
    assert "RunStarted" in (out / "log.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize("what", ["a step", "a checkpoint", "an adapter", "finished", "the second of two", "no manifest"])
def test_whatever_could_be_continued_or_used_is_left_alone(what, project, train, tmp_path):
    out = tmp_path / "out"
    more = {"finished": {"status": "finished"}, "the second of two": {"advice": {"from": 1}}}.get(what, {})
    leftover(out, "RunStarted", *(["StepFinished"] if what == "a step" else []), **more)
    if what in ("a checkpoint", "an adapter"):
        (out / {"a checkpoint": "checkpoints/damaged-step-000004", "an adapter": "adapter"}[what]).mkdir(parents=True)
    if what == "no manifest":
        (out / "manifest.json").unlink()
    before = tree(out)
    with pytest.raises(RunError, match="already holds"):
        train(project())
    assert tree(out) == before
