# SPDX-License-Identifier: Apache-2.0
"""A run that is made twice, killed at the moments between the two trainings, and taken up again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import traceback

import pytest

from loraforge import RunError
from loraforge.diagnosis import diagnose
from loraforge.pipeline import twice
from loraforge.runs import seal
from loraforge.runs.folder import RunFolder, find_runs

SHORT = {"epochs": 1, "save_steps": 2, "lr_advice": "apply", "lora_dropout": 0.1, "eval_answers": False}
BETTER, WORSE = 0.05, 1e-8
# (owner, what it is called, which call of it is the last thing that the process does, before or after it, whether the second is better)
MOMENTS = (
    (RunFolder, "set_aside", 1, "before", True), (RunFolder, "set_aside", 1, "after", True), (RunFolder, "start", 2, "after", True),
    (seal, "write_text", 4, "before", True), (RunFolder, "put_back", 1, "before", False), (twice, "seal_run", 1, "before", False),
)  # fmt: skip


def hashes(run):
    """SHA-256 of the adapter and of every file of the exports."""
    files = [path for part in ("adapter", "export") for path in sorted((run / part).rglob("*")) if path.is_file()]
    return {path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def ended(work, output):
    """The exit code of a fork that does ``work``; 99 for an exception."""
    pid = os.fork()
    if not pid:
        with output.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            try:
                work()
            except BaseException:
                traceback.print_exc()
        os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def advised(monkeypatch):
    def to(rate):
        monkeypatch.setattr(diagnose, "diagnose", lambda history: [diagnose.Diagnosis("too_slow", "Slow.", "", None, rate)])
        monkeypatch.setattr(diagnose, "advised_rate", lambda diagnoses, history: rate)

    return to


@pytest.fixture(scope="module")
def whole():
    """What an uninterrupted run leaves, by whether the second training is the better one."""
    return {}


def end_at(owner, name, number, side):
    real, count = getattr(owner, name), [0]

    def call(*args, **options):
        count[0] += 1
        if side == "before" and count[0] == number:
            os._exit(9)
        result = real(*args, **options)
        if count[0] == number:
            os._exit(9)
        return result

    setattr(owner, name, call)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda m: f"{m[3]}-{m[1]}-{m[2]}-{'better' if m[4] else 'worse'}")
def test_a_kill_at_any_moment_is_taken_up(project, train, advised, whole, tmp_path, moment):
    *where, better = moment
    advised(BETTER if better else WORSE)
    if better not in whole:
        run = train(project("whole.yaml", **SHORT, output_dir=str(tmp_path / "whole" / "out"))).run
        whole[better] = hashes(run.path)
        assert run.manifest()["config"]["learning_rate"] == (BETTER if better else 0.01) and len(find_runs(tmp_path / "whole")) == 2
    config = project(**SHORT, output_dir=str(tmp_path / "a" / "out"))

    def work():
        end_at(*where)
        train(config)

    assert ended(work, tmp_path / "output") == 9, (tmp_path / "output").read_text()
    try:
        train(config, resume=True)
    except RunError as error:
        assert "this run is finished" in str(error)
    run = RunFolder(tmp_path / "a" / "out")
    manifest = run.manifest()
    assert manifest["status"] == "finished" and seal.kept_seal(run) == seal.read_manifest(run)[1]
    assert hashes(run.path) == whole[better]
    assert ("taken" in manifest["advice"]) is not better
    assert len(find_runs(tmp_path / "a")) == 2 and not list((tmp_path / "a").rglob(".*"))
    with pytest.raises(RunError, match="this run is finished"):
        train(config, resume=True)


def test_a_second_training_that_was_asked_to_stop_goes_on(project, train, advised, tmp_path, monkeypatch):
    from loraforge import LoraForgeError
    from loraforge.errors import StoppedOnRequest

    advised(BETTER)
    config = project(**SHORT)
    real = RunFolder.start

    def stop(self, values):
        real(self, values)
        if values["learning_rate"] == BETTER:
            raise StoppedOnRequest("asked to")

    with monkeypatch.context() as patched, pytest.raises(LoraForgeError, match="asked to"):
        patched.setattr(RunFolder, "start", stop)
        train(config)
    assert train(config, resume=True).run.manifest()["config"]["learning_rate"] == BETTER
