# SPDX-License-Identifier: Apache-2.0
"""A full disk, a folder that cannot be written or has vanished: a message that names the place, no half-written checkpoint, and afterwards
--resume goes on to the same bytes."""

from __future__ import annotations

import errno
import importlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from builders import everyday

from loraforge import RunError, RunFinished, StepFinished, hookimpl
from loraforge.diagnosis import diagnose
from loraforge.errors import StoppedOnRequest
from loraforge.plugin_api.events import CheckpointSaved
from loraforge.runs.disk import disk_errors
from loraforge.runs.folder import RunFolder, atomic_dir, load_state
from loraforge.runs.observers import JsonLog

SETTINGS = {"epochs": 3, "lora_dropout": 0.1, "save_steps": 2, "batch_size": 2, "gradient_accumulation": 2, "save_total_limit": 2}


class Disk:
    """Refuses everything that is opened for writing below ``place``, from the ``after``-th time on."""

    def __init__(self) -> None:
        self.place: Path | None = None
        self.left, self.number = 0, errno.ENOSPC
        sys.addaudithook(self._hook)  # cannot be taken away again

    def refuse(self, place: Path, after: int, number: int = errno.ENOSPC) -> None:
        self.place, self.left, self.number = place, after, number

    def _hook(self, event: str, args: tuple) -> None:
        if self.place is None or event not in ("open", "os.mkdir") or not isinstance(args[0], str | os.PathLike):
            return
        writes = event == "os.mkdir" or (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR))
        if writes and os.fspath(args[0]).startswith(str(self.place)):
            self.left -= 1
            if self.left < 0:
                raise OSError(self.number, os.strerror(self.number))


@pytest.fixture(scope="session")
def _disk():
    return Disk()


@pytest.fixture
def disk(_disk):
    yield _disk
    _disk.place = None


_whole: list[bytes] = []


@pytest.fixture
def wanted(project, train, tmp_path):
    """The bytes that every run here has to come to."""
    if not _whole:
        _whole.append(weights(train(project("whole.yaml", output_dir=str(tmp_path / "whole"), **SETTINGS)).run))
    return _whole[0]


def weights(run: RunFolder) -> bytes:
    return (run.adapter / "adapter_model.safetensors").read_bytes()


def during(host, act, step: int = 3) -> None:
    """Calls ``act`` after a step."""

    class Observer:
        @hookimpl
        def loraforge_event(self, event):
            if isinstance(event, StepFinished) and event.step == step:
                act()

    host.register(Observer(), "act", "test")


def vanish(run: RunFolder) -> None:
    """At once. (What TensorBoard's thread writes into it meanwhile may stop ``shutil.rmtree`` half-way: "Directory not empty".)"""
    run.path.rename(run.path.with_name("gone"))


def at(moment: str, step: int, act, host, monkeypatch) -> None:
    """Calls ``act`` once, in ``step``, at an event or before (<) or after (>) a function, whose first argument may have to be a path
    that is named so: ``>loraforge.runs.seal:write_text manifest.json``."""
    now = [0]

    def due(name: str) -> bool:
        if name != moment or now != [step]:
            return False
        now.clear()
        return True

    class Observer:
        @hookimpl(tryfirst=True)
        def loraforge_event(self, event):
            if isinstance(event, StepFinished) and now:
                now[:] = [event.step]
            if due(event.name):
                act()

    host.register(Observer(), "at", "test")
    if moment[0] not in "<>":
        return
    place, _, wanted = moment[1:].partition(" ")
    module, _, path = place.partition(":")
    owner = importlib.import_module(module)
    *parents, last = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    real = getattr(owner, last)

    def call(*args, **options):
        mine = (not wanted or Path(args[0]).name.startswith(wanted)) and due(moment)
        if mine and moment[0] == "<":
            act()
        result = real(*args, **options)
        if mine and moment[0] == ">":
            act()
        return result

    monkeypatch.setattr(owner, last, call)


# --- a full disk -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "number"),
    everyday([(0, errno.ENOSPC), (2, errno.EROFS), (11, errno.ENOSPC), (40, errno.EROFS), (70, errno.ENOSPC), (85, errno.ENOSPC)], 0, 3, 5),
)
def test_a_disk_that_refuses_ends_in_a_message_and_the_run_can_go_on(after, number, wanted, project, command, train, disk, tmp_path):
    config, run = project(**SETTINGS), RunFolder(tmp_path / "out")
    disk.refuse(run.path, after, number)
    code, out, err = command("train", "text", config)
    disk.place = None
    assert code in (1, 2) and "Traceback" not in err + out
    words = "the disk is full. Make room" if number == errno.ENOSPC else "Read-only file system. Mend that"
    assert str(run.path) in err and words in err and "--resume" in err
    assert not list(run.path.rglob(".*")) and all(load_state(path) for path in run.checkpoints(whole=False))
    assert weights(train(config, resume=True).run) == wanted
    assert command("verify", run.path)[0] == 0


LIMITED = """
import resource, sys
from loraforge.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))
main(sys.argv[1:])
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_a_file_that_really_may_not_grow_is_named_and_the_checkpoint_is_absent(wanted, project, train, tmp_path):
    config, run = project(**SETTINGS), RunFolder(tmp_path / "out")
    command = [sys.executable, "-c", LIMITED, "train", "text", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "File too large. Mend that" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert str(run.checkpoint(2)) in done.stderr and not run.checkpoints(whole=False) and not list(run.path.rglob(".*"))
    assert weights(train(config, resume=True).run) == wanted


def test_an_export_without_room_is_a_message_and_leaves_what_was_there(project, train, command, disk, tmp_path):
    run = train(project()).run
    before = sorted(run.path.rglob("*"))
    disk.refuse(run.path, 2)
    code, _, err = command("export", run.path, "--to", "merged")
    disk.place = None
    assert code == 2 and "the disk is full" in err and str(run.path) in err
    assert sorted(path for path in run.path.rglob("*") if path.name != "export") == [p for p in before if p.name != "export"]


def test_what_is_not_the_disks_fault_stays_what_it_is(tmp_path):
    with pytest.raises(OSError, match="no such model") as error, disk_errors(tmp_path):
        raise OSError("no such model")
    assert not isinstance(error.value, RunError)
    with pytest.raises(ZeroDivisionError), disk_errors(tmp_path):
        raise ZeroDivisionError


# --- places that are not there -----------------------------------------------------------------------------------------------


def test_a_place_that_cannot_be_is_named(project, command, tmp_path):
    (tmp_path / "file").touch()
    code, _, err = command("train", "text", project(output_dir=str(tmp_path / "file" / "out")))
    assert code == 2 and f"{tmp_path / 'file'} is a file" in err and "output_dir" in err


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="root may write everywhere")
def test_a_place_without_permission_is_named(project, command, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    code, _, err = command("train", "text", project(output_dir=str(tmp_path / "closed" / "out")))
    assert code == 2 and str(tmp_path / "closed" / "out") in err and "Permission denied" in err


def test_a_folder_that_vanishes_while_it_trains_is_made_again_and_that_is_told(wanted, project, train, host, tmp_path):
    run = RunFolder(tmp_path / "out")
    during(host, lambda: vanish(run))
    train(project(**SETTINGS))
    assert weights(run) == wanted and run.manifest()["status"] == "finished" and run.config_file.is_file()
    assert "had vanished; it is there again" in run.log_file.read_text(encoding="utf-8")
    assert not any("plugin 'act' failed" in line for line in host.failures)


SHORT = {**SETTINGS, "epochs": 1}  # three steps; saved after the second and the third
_short: list[bytes] = []


@pytest.fixture
def soon(project, train, tmp_path):
    """The bytes that every run of three steps has to come to."""
    if not _short:
        _short.append(weights(train(project("short.yaml", output_dir=str(tmp_path / "short"), **SHORT)).run))
    return _short[0]


SAVING = (
    ("pictures begun", ">tempfile:mkdtemp"), ("pictures in place", ">loraforge.pipeline.session:Session._sample"),
    ("before the save", "<loraforge.pipeline.session:Session._save"), ("the save has looked", "<loraforge.training.loop:Loop.state"),
    ("checkpoint begun", "<loraforge.adapters.lora:write_peft"), ("adapter begun", "<safetensors.torch:save_file"),
    ("adapter half written", ">safetensors.torch:save_file"), ("adapter written", "<loraforge.pipeline.session:save_state"),
    ("state written", "<loraforge.runs.folder:settle"), ("checkpoint whole", ">loraforge.runs.folder:settle"),
    ("checkpoint renamed", ">os:replace .step-"), ("before pruning", "<loraforge.runs.folder:RunFolder.prune"), ("saved", "CheckpointSaved"),
)  # fmt: skip
ENDING = (
    ("step chosen", ">loraforge.pipeline.finish:choose"), ("adapter half taken", "<loraforge.runs.folder:settle .adapter"),
    ("adapter taken", ">loraforge.pipeline.finish:take_checkpoint"), ("before its manifest", "<loraforge.pipeline.session:Session._write_manifest"),
    ("settled", ">loraforge.pipeline.session:Session._keep_adapter"), ("export begun", "<loraforge.pipeline.finish:atomic_dir peft"), ("exported", "Exported"),
    ("card written", ">loraforge.pipeline.finish:write_card"), ("told that it is finished", "RunFinished"),
    ("hashed", ">loraforge.runs.seal:_hashes"), ("seal begun", ">loraforge.runs.seal:write_text manifest.json"),
)  # fmt: skip
STARTING = (("started", ">loraforge.pipeline.session:Session._start"), ("told that it is started", "RunStarted"))
LOGGING = (("before a line", "<loraforge.runs.observers:JsonLog._append"), ("after a line", ">loraforge.runs.observers:JsonLog._append"))


VANISHING = [
    pytest.param(step, moment, goes_on, id=f"{name}, step {step}")
    for steps, moments, goes_on in (((0,), STARTING, True), ((1,), LOGGING, True), ((2, 3), SAVING, True), ((3,), ENDING, False))
    for name, moment in moments
    for step in steps
]


@pytest.mark.parametrize(("step", "moment", "goes_on"), everyday(VANISHING, *range(0, len(VANISHING), 3)))
def test_a_folder_may_vanish_at_any_moment(step, moment, goes_on, soon, project, train, command, host, tmp_path, monkeypatch):
    from loraforge_text.families.causal_lm import TrainableCausalLM

    def sample(self, folder, step):
        with atomic_dir(folder / f"step-{step:06d}") as partial:
            (partial / "01.png").write_bytes(b"")

    monkeypatch.setattr(TrainableCausalLM, "sample", sample)
    config, run = project(**SHORT), RunFolder(tmp_path / "out")
    at(moment, step, lambda: vanish(run), host, monkeypatch)
    if goes_on:
        train(config)
        assert "had vanished; it is there again" in run.log_file.read_text(encoding="utf-8")
    else:
        with pytest.raises(RunError, match=re.escape(str(run.path)) + r"\S+: it has vanished, .* --resume"):
            train(config)
        assert not run.manifest_file.exists() or run.manifest()["status"] == "failed"
        train(config, resume=True)
    assert run.path.with_name("gone").is_dir() and weights(run) == soon and run.config_file.is_file()
    assert command("verify", run.path)[0] == 0


def test_a_folder_that_vanishes_after_the_save_of_a_stopped_run_is_saved_again(soon, project, train, host, tmp_path, monkeypatch):
    config, run = project(**SHORT), RunFolder(tmp_path / "out")
    during(host, lambda: signal.raise_signal(signal.SIGINT), step=1)
    at("CheckpointSaved", 1, lambda: vanish(run), host, monkeypatch)
    with pytest.raises(StoppedOnRequest, match="everything is saved"):
        train(config)
    assert run.checkpoints() == [run.checkpoint(1)] and run.manifest()["status"] == "stopped"


def test_a_folder_that_vanishes_before_the_second_training_is_a_message(project, train, host, tmp_path, monkeypatch):
    run = RunFolder(tmp_path / "out")
    monkeypatch.setattr(diagnose, "diagnose", lambda history: [diagnose.Diagnosis("too_slow", "It falls too slowly.", "", None, 0.05)])
    monkeypatch.setattr(diagnose, "advised_rate", lambda diagnoses, history: 0.05)
    at("<loraforge.runs.folder:RunFolder.set_aside", 3, lambda: vanish(run), host, monkeypatch)
    with pytest.raises(RunError, match="it has vanished"):
        train(project(**SHORT, lr_advice="apply"))


def test_a_file_in_the_place_of_the_folder_stops_the_run_with_a_message(project, train, host, tmp_path):
    def replace():
        vanish(RunFolder(tmp_path / "out"))
        (tmp_path / "out").write_text("mine", encoding="utf-8")

    during(host, replace)
    with pytest.raises(RunError, match="something else stands there"):
        train(project(**SETTINGS))
    assert (tmp_path / "out").read_text(encoding="utf-8") == "mine"


# --- the log and the cache ---------------------------------------------------------------------------------------------------


def test_a_log_that_cannot_be_written_costs_lines_and_is_told(wanted, project, train, host, tmp_path):
    run = RunFolder(tmp_path / "out")

    def block():
        run.log_file.unlink()
        run.log_file.mkdir()

    during(host, block)
    outcome = train(project(**SETTINGS))
    assert weights(run) == wanted and outcome.seal
    assert any("plugin 'log' failed" in line and "log.jsonl" in line for line in host.failures)


def test_lines_of_the_log_that_did_not_fit_are_written_when_there_is_room(tmp_path, disk):
    from builders.story import story

    log, events = JsonLog(), list(story(tmp_path))
    for event in events:
        disk.refuse(tmp_path, 0 if isinstance(event, StepFinished | CheckpointSaved) else 99)
        try:
            log.loraforge_event(event)
        except OSError:
            assert not isinstance(event, RunFinished)
    assert len((tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()) == len(events)


@pytest.mark.parametrize("how", ["no folder", "full"])
def test_a_cache_that_cannot_be_written_is_told_once_and_the_run_goes_on(how, tmp_path, capsys, monkeypatch):
    import safetensors.torch
    import torch
    from loraforge_image.families.latent_cache import Cache

    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file" / "cache" if how == "no folder" else tmp_path / "cache")
    if how == "full":

        def full(tensors, filename, metadata=None):
            raise safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

        monkeypatch.setattr(safetensors.torch, "save_file", full)
    for number in range(3):
        assert cache.get({"n": number}, lambda: {"x": torch.ones(2)})["x"].shape == (2,)
    said = capsys.readouterr().err
    assert said.count("cannot be kept") == 1 and str(cache.folder) in said
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
