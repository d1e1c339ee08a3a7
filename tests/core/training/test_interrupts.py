# SPDX-License-Identifier: Apache-2.0
"""Stopping on request: the first signal saves and stops, the second acts at once; nobody shares a folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from builders import everyday

from loraforge import RunError
from loraforge.runs.folder import RunFolder
from loraforge.training.interrupts import Interrupts, Terminated, terminable

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")


@pytest.fixture
def handled():
    """SIGINT as Python has it: a shell may start what runs in the background with the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_first_signal_asks_and_the_second_acts(handled):
    heard = []
    with Interrupts(lambda: heard.append(1)) as interrupts:
        assert not interrupts.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.requested and heard == [1]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("ignored", [False, True])
def test_both_signals_ask_and_everything_is_as_before_afterwards(handled, ignored):
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            heard = []
            with Interrupts(lambda heard=heard: heard.append(signal.getsignal(signal.SIGINT))) as interrupts:
                assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, signal.SIG_IGN)
                os.kill(os.getpid(), number)
                assert interrupts.requested and heard == [signal.default_int_handler], "the second acts, already while the user is told"
            assert signal.getsignal(signal.SIGTERM) is (signal.SIG_IGN if ignored else signal.SIG_DFL)
        with Interrupts():
            os.kill(os.getpid(), signal.SIGTERM)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN, "what somebody set since stays"
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with Interrupts() as silent:
            pass
        assert not silent.requested and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_sigterm_is_an_interrupt_where_it_did_nothing_else_and_only_inside(handled):
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(Terminated), terminable():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        mine = lambda number, frame: None  # noqa: E731
        signal.signal(signal.SIGTERM, mine)
        with terminable():
            assert signal.getsignal(signal.SIGTERM) is mine, "a handler of somebody else stays"
        assert signal.getsignal(signal.SIGTERM) is mine
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        seen = []

        def elsewhere():
            with terminable():
                seen.append(signal.getsignal(signal.SIGTERM))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert seen == [signal.SIG_DFL]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_of_the_main_thread_it_does_nothing():
    seen = []

    def enter():
        with Interrupts() as interrupts:
            seen.append(interrupts.requested)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [False]


def start(config: Path, step: int, action: str) -> subprocess.Popen:
    """The command in a process of its own, which carries out ``action`` itself when ``step`` is made: no clock decides when."""
    plugin = config.with_name("at_a_step.py")
    plugin.write_text(
        "import os, pathlib, signal, time\nfrom loraforge import StepFinished, hookimpl\n\n\n@hookimpl\ndef loraforge_event(event):\n"
        f"    if isinstance(event, StepFinished) and event.step == {step}:\n        {action}\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "loraforge", "-p", str(plugin), "train", "text", str(config)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize("number", everyday([signal.SIGTERM, signal.SIGINT], 1))
def test_a_stopped_run_goes_on_to_the_same_bytes(number, project, train, tmp_path):
    settings = {"epochs": 4, "lora_dropout": 0.1, "save_steps": 50}
    config = project(output_dir=str(tmp_path / "stopped"), **settings)
    process = start(config, 7, f"os.kill(os.getpid(), {int(number)})")
    out = process.communicate()[0]
    run = RunFolder(tmp_path / "stopped")
    assert process.returncode == 1 and "--resume goes on from there" in out and "Traceback" not in out, out
    assert run.manifest()["status"] == "stopped"
    (saved,) = run.checkpoints()
    assert saved.name == "step-000007"
    resumed = train(config, resume=True).run
    whole = train(project("whole.yaml", output_dir=str(tmp_path / "whole"), **settings)).run
    weights = [(r.adapter / "adapter_model.safetensors").read_bytes() for r in (resumed, whole)]
    assert weights[0] == weights[1]
    steps = [json.loads(line) for line in resumed.log_file.read_text(encoding="utf-8").splitlines()]
    assert [e["first_step"] for e in steps if e["event"] == "RunStarted"] == [0, 7]


def test_two_runs_cannot_write_into_one_folder(project, train, tmp_path):
    run = RunFolder(tmp_path / "out")
    with run.claimed():
        with pytest.raises(RunError, match="another run is writing there now"):
            train(project())
        assert [path.name for path in run.path.iterdir()] == [".lease"]
        train(project("other.yaml", output_dir=str(tmp_path / "other")))
    train(project())


def test_the_claim_of_a_killed_run_is_void(project, train, tmp_path):
    config, reached = project(epochs=200, save_steps=5), tmp_path / "reached"
    process = start(config, 12, f"pathlib.Path({str(reached)!r}).touch(), time.sleep(3600)")
    while not reached.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    with pytest.raises(RunError, match="another run is writing there now"):
        train(config, resume=True)
    process.kill()
    process.communicate()
    outcome = train(config, "epochs=200", "max_steps=20", resume=False, fresh=True)
    assert outcome.run.manifest()["status"] == "finished"
