# SPDX-License-Identifier: Apache-2.0
"""Killed at any instant, a run resumes to the bit; ``tests/builders/killing.py`` does it as often as one likes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from builders import ROOT, everyday

from loraforge import StepFinished, hookimpl
from loraforge.errors import StoppedOnRequest
from loraforge.runs.folder import RunFolder, atomic_dir, find_runs
from loraforge.runs.observers import JsonLog
from loraforge.training import loop

TESTS = ROOT / "tests" / "builders"
pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")


def adapter(run: RunFolder) -> bytes:
    return (run.adapter / "adapter_model.safetensors").read_bytes()


@pytest.mark.slow
def test_runs_killed_at_some_instants_end_as_if_they_had_never_been_stopped():
    kills = everyday(["4", "2"], 1)[0]
    command = [sys.executable, str(TESTS / "killing.py"), "--kills", kills, "--task", "both", "--seed", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    last = done.stdout.splitlines()[-1].split()
    assert last[0] == "all" and sum(int(cell.split("/")[1]) for cell in last[1:]) == int(kills)


# --- the narrow places -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_replacement_that_is_interrupted_keeps_what_was_there(error, tmp_path, monkeypatch):
    target = tmp_path / "adapter"
    target.mkdir()
    (target / "file").write_text("old", encoding="utf-8")
    real = os.replace

    def stops(source, place):
        if Path(place) == target and (Path(source) / "file").read_text(encoding="utf-8") == "new":
            raise error
        real(source, place)

    monkeypatch.setattr(os, "replace", stops)
    with pytest.raises(error), atomic_dir(target) as partial:
        (partial / "file").write_text("new", encoding="utf-8")
    assert (target / "file").read_text(encoding="utf-8") == "old" and [p.name for p in tmp_path.iterdir()] == ["adapter"]


def test_what_a_killed_process_left_is_put_back_or_taken_away(tmp_path):
    run = RunFolder(tmp_path)
    for name in (
        ".adapter.old.abcd1234/adapter",
        ".adapter.zzzz1111",
        "checkpoints/.step-000004.abcd1234",
        "export/.peft.abcd1234",
        ".git",
    ):
        (tmp_path / name).mkdir(parents=True)
    for name in (".adapter.old.abcd1234/adapter/weights", ".manifest.json.abcd1234", ".loss.partial.png", ".notes.settings"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    run.tidy()
    assert (run.adapter / "weights").is_file()
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert left == [".git", ".notes.settings", "adapter", "adapter/weights", "checkpoints", "export"]


@pytest.fixture
def stopped(project, train, host, tmp_path):
    """A config whose run was stopped after step 7, with checkpoints of steps 6 and 7; and the bytes it should come to."""
    settings = {"epochs": 3, "lora_dropout": 0.1, "save_steps": 2, "batch_size": 2, "gradient_accumulation": 2, "save_total_limit": 2}
    wanted = adapter(train(project("whole.yaml", output_dir=str(tmp_path / "whole"), **settings)).run)
    stop_after(host, 7)
    config = project(**settings)
    with pytest.raises(StoppedOnRequest):
        train(config)
    return config, wanted


def stop_after(host, step: int) -> None:
    """Ctrl-C after that step, once."""
    left = [step]

    class Stopper:
        @hookimpl
        def loraforge_event(self, event):
            if isinstance(event, StepFinished) and event.step in left:
                left.clear()
                os.kill(os.getpid(), signal.SIGINT)

    host.register(Stopper(), "stopper", "test")


@pytest.mark.parametrize("damage", ["zeros", "no state", "no adapter", "odd"])
def test_a_torn_checkpoint_is_set_aside_and_named_whatever_is_missing(damage, stopped, train, tmp_path):
    config, wanted = stopped
    run = RunFolder(tmp_path / "out")
    newest = run.checkpoints()[-1]
    if damage == "zeros":
        state = newest / "state.safetensors"
        state.write_bytes(state.read_bytes()[:-500] + bytes(500))
    elif damage == "no state":
        (newest / "state.json").unlink()
    elif damage == "no adapter":
        (newest / "adapter" / "adapter_model.safetensors").unlink()
    else:
        (newest / "state.json").write_text("[]", encoding="utf-8")
    (newest.parent / f"damaged-{newest.name}").mkdir()  # of an earlier time
    (newest.parent / f"damaged-{newest.name}" / "x").touch()
    assert adapter(train(config, resume=True).run) == wanted
    assert (newest.parent / f"damaged-{newest.name}-2").is_dir()
    assert "is damaged" in run.log_file.read_text(encoding="utf-8")


def test_a_run_that_was_asked_to_stop_in_its_last_step_begins_nothing_more(project, train, host, tmp_path):
    config = project(max_steps=3, epochs=9)
    stop_after(host, 3)
    with pytest.raises(StoppedOnRequest, match="after step 3"):
        train(config)
    run = RunFolder(tmp_path / "out")
    assert run.manifest()["status"] == "stopped" and not run.exports.exists()
    assert train(config, resume=True).run.manifest()["status"] == "finished"


def test_sigterm_before_the_first_step_is_told_and_leaves_nothing(project, command, monkeypatch, tmp_path):
    monkeypatch.setattr(loop.Loop, "estimate_seconds", lambda self: os.kill(os.getpid(), signal.SIGTERM))
    code, _, err = command("train", "text", project(epochs=100))
    assert code == 1 and "Stopped." in err and not (tmp_path / "out").exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("moment", ["before the seal", "before the manifest"])
def test_a_run_that_was_killed_while_it_was_sealed_ends_sealed(moment, project, command, train, monkeypatch, tmp_path):
    from loraforge.runs.seal import write_text

    config, run, real = project(), RunFolder(tmp_path / "out"), write_text

    def killed(path, text):
        if path.name == ("manifest.sha256" if moment == "before the seal" else "manifest.json"):
            raise KeyboardInterrupt
        real(path, text)

    monkeypatch.setattr("loraforge.runs.seal.write_text", killed)
    assert command("train", "text", config)[0] == 1
    monkeypatch.undo()
    assert run.manifest()["status"] == ("finished" if moment == "before the seal" else "stopped")
    (run.path / ".manifest.sha256.abcd1234").write_text("half", encoding="utf-8")
    code, _, err = command("train", "text", config, "--resume")
    assert code == (2 if moment == "before the seal" else 0), err
    assert ("only its seal was missing" in err) == (moment == "before the seal")
    assert command("verify", run.path)[0] == 0 and run.manifest()["exports"]
    assert not list(run.path.glob(".manifest*"))
    assert "state of the run" not in (run.path / "model-card.md").read_text(encoding="utf-8")


def test_a_torn_line_of_the_log_does_not_swallow_the_next(tmp_path):
    from builders.story import story

    log = JsonLog()
    log_file = tmp_path / "log.jsonl"
    log_file.write_text('{"event": "StepFin', encoding="utf-8")
    for event in story(tmp_path):
        log.loraforge_event(event)
    torn, *lines = log_file.read_text(encoding="utf-8").splitlines()
    assert torn == '{"event": "StepFin' and json.loads(lines[0])["event"] == "StageStarted"


# --- several at once ---------------------------------------------------------------------------------------------------------

SHARER = """
import os, signal, sys
import torch
from pathlib import Path
from loraforge_image.families.latent_cache import Cache

if len(sys.argv) > 2:
    real, made = os.replace, []
    def replace(source, place):
        made.append(place)
        if len(made) == 15:
            os.truncate(source, 40)
            os.kill(os.getpid(), signal.SIGKILL)
        real(source, place)
    os.replace = replace
print("ready", flush=True)
sys.stdin.readline()
cache = Cache(Path(sys.argv[1]))
for i in range(40):
    assert cache.get({"n": i}, lambda: {"x": torch.arange(i * 100.0)})["x"].shape == (i * 100,)
"""


def test_a_cache_that_two_processes_fill_stays_whole_though_one_is_killed(tmp_path):
    def start(folder: Path, *more: str) -> subprocess.Popen:
        command = [sys.executable, "-c", SHARER, str(folder), *more]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    both = [start(tmp_path / "shared"), start(tmp_path / "shared", "killed"), start(tmp_path / "alone")]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:  # all of them before any is waited for: they share the cache at once
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        process.wait(timeout=900)
        process.stdin.close()
        process.stdout.close()
    assert [process.returncode for process in both] in ([0, -signal.SIGKILL, 0], [0, 0, 0])
    found = [{p.name: p.read_bytes() for p in (tmp_path / name).rglob("*.safetensors")} for name in ("shared", "alone")]
    assert found[0] == found[1] and len(found[0]) == 40
    for folder in (tmp_path / "shared").iterdir():
        (folder / ".abcd1234").touch()
    for left in (tmp_path / "shared").rglob(".*"):
        os.utime(left, (1, 1))  # long ago
    from loraforge_image.families import latent_cache

    for folder in (tmp_path / "shared").iterdir():
        latent_cache._write(folder / "another.safetensors", {})
    assert not list((tmp_path / "shared").rglob(".*"))


def test_runs_are_listed_while_one_vanishes_and_checkpoints_come_and_go(tmp_path, command, monkeypatch):
    for name in ("a", "gone"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "manifest.json").write_text("{}", encoding="utf-8")
    real = Path.stat

    def stat(self, **options):
        found = real(self, **options)
        if self.parent.name == "gone":
            shutil.rmtree(self.parent)
        return found

    over, wrong = threading.Event(), []

    def churn():
        run = RunFolder(tmp_path / "a")
        while not over.is_set():
            try:
                for step in (1, 2, 3):
                    with atomic_dir(run.checkpoint(step)) as partial:
                        (partial / "state.json").write_text("{}", encoding="utf-8")
                run.prune(1)
            except Exception as error:
                wrong.append(error)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(100):
            assert RunFolder(tmp_path / "a") in find_runs(tmp_path)
        monkeypatch.setattr(Path, "stat", stat)
        assert RunFolder(tmp_path / "a") in find_runs(tmp_path)
    finally:
        over.set()
        thread.join()
    monkeypatch.undo()
    assert not wrong
    assert command("runs", tmp_path)[0] == 0


def test_a_damaged_best_checkpoint_does_not_stand_in_the_way(project, train, tmp_path):
    from types import SimpleNamespace

    from loraforge import RunConfig
    from loraforge.pipeline import finish

    config = project(epochs=2, save_steps=2, eval_ratio=0.3)
    run = train(config).run
    best, *_, last = run.checkpoints()
    number = int(best.name.removeprefix("step-"))
    metrics = {"best_step": number, "best_held_out_loss": 1.0, "held_out_loss": 2.0}
    loop_ = SimpleNamespace(done=int(last.name.removeprefix("step-")), measured=[(0, 3.0), (number, 1.0)])
    settings = RunConfig(train_data_dir=".", base_model="x")
    assert finish.choose(settings, run, dict(metrics), loop_, print)["step"] == number != loop_.done
    (best / "adapter" / "adapter_model.safetensors").write_bytes(b"torn")
    assert finish.choose(settings, run, dict(metrics), loop_, print)["step"] == loop_.done
