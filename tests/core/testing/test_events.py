# SPDX-License-Identifier: Apache-2.0
"""event_stream holds every kind of event; check_observer passes the built-in observers and tells each broken promise."""

from __future__ import annotations

import inspect
import io
from pathlib import Path

import pytest

from loraforge import Evaluated, RunFinished, RunStarted, StepFinished, hookimpl
from loraforge.plugin_api import events as kinds
from loraforge.runs.observers import JsonLog, LossCurve, Progress, TensorBoard
from loraforge.testing import check_observer, event_stream


def test_no_kind_of_event_is_missing(tmp_path):
    known = {kind for _, kind in inspect.getmembers(kinds, inspect.isclass) if issubclass(kind, kinds.Event)} - {kinds.Event}
    assert {type(event) for event in event_stream(tmp_path / "run")} == known


def test_the_events_are_those_of_a_run(tmp_path, project, host):
    """In the order of a real one, which they are compared with, and with files that are there."""
    heard = []
    stream = kinds_of(event_stream(tmp_path / "made"))

    class Listener:
        @hookimpl
        def loraforge_event(self, event):
            heard.append(event)

    from loraforge.pipeline.run import run_training
    from loraforge.plan import make_plan

    host.register(Listener(), "listener")
    run_training(make_plan(host, "text", project(epochs=2, save_steps=2, eval_answers=True)), host)
    told = kinds_of(heard)
    made = [name for name in stream[: stream.index("RunFinished") + 1] if name in told]
    assert order(made) == order(told)
    real = next(event for event in heard if isinstance(event, RunStarted))
    ours = next(event for event in event_stream(tmp_path / "again") if isinstance(event, RunStarted))
    assert set(real.facts) == set(ours.facts)
    for event in event_stream(tmp_path / "third"):
        for value in vars(event).values():
            assert not isinstance(value, Path) or value.exists(), event


def kinds_of(events) -> list[str]:
    return [event.name for event in events]


def order(names) -> list[str]:
    """The kinds in the order in which each comes first."""
    return list(dict.fromkeys(names))


@pytest.mark.parametrize("observer", [JsonLog, LossCurve, TensorBoard])
def test_the_built_in_observers_keep_the_contract(observer, tmp_path):
    check_observer(observer, tmp_path / "run")
    assert {JsonLog: "log.jsonl", LossCurve: "loss.png", TensorBoard: "tensorboard"}[observer] in {
        p.name for p in (tmp_path / "run").iterdir()
    }


@pytest.mark.parametrize("terminal", [False, True])
def test_the_progress_bar_keeps_the_contract(terminal, tmp_path):
    from rich.console import Console

    shown = io.StringIO()
    check_observer(Progress(Console(file=shown, force_terminal=terminal, width=120), "tokens"), tmp_path / "run")
    assert "stopped early" in shown.getvalue()


def test_the_observers_of_the_plugins_are_none(host):
    """Only the core's four observe; a fifth would have to be checked here."""
    observing = {info.name for info in host.plugins() if "loraforge_event" in info.hooks}
    assert {"log", "loss_curve", "tensorboard"} <= observing and not observing & {"text", "image"}


# --- and observers that break a promise ------------------------------------------------------------------------------------------


def observer(work):
    class Observer:
        def __init__(self):
            self.heard = {}

        @hookimpl
        def loraforge_event(self, event):
            return work(self.heard, event)

    return Observer


def needs_a_start(heard, event):
    """Counts on RunStarted before RunFailed, which comes alone where a run fails early."""
    if isinstance(event, RunStarted):
        heard["folder"] = event.folder
    elif event.name in ("RunFinished", "RunFailed"):
        heard.pop("folder").exists()


def knows_them_all(heard, event):
    {name: 1 for name, kind in vars(kinds).items() if inspect.isclass(kind)}[event.name]


def changes_facts(heard, event):
    if isinstance(event, RunStarted):
        event.facts["seen"] = True


def changes_itself(heard, event):
    if isinstance(event, StepFinished):
        object.__setattr__(event, "loss", 0.0)


def rewrites_the_manifest(heard, event):
    if isinstance(event, RunFinished):
        (event.folder / "manifest.json").write_text("{}", encoding="utf-8")


def tidies_up(heard, event):
    if isinstance(event, RunFinished):
        (event.folder / "samples" / "samples.png").unlink()


def divides(heard, event):
    if isinstance(event, Evaluated):
        1 / event.step


BROKEN = {
    "raises": (divides, "an observer must not raise; this one does on Evaluated: ZeroDivisionError"),
    "counts on a start": (needs_a_start, "must not raise; this one does on RunFailed: KeyError"),
    "counts on known events": (knows_them_all, "this one does on a kind of event that it does not know: KeyError"),
    "returns something": (lambda heard, event: event.name, "an observer must return nothing; this one returns 'FromTheFuture'"),
    "changes facts": (changes_facts, "an observer must leave events as they are; this one changes RunStarted"),
    "changes events": (changes_itself, "an observer must leave events as they are; this one changes StepFinished"),
    "writes into the manifest": (rewrites_the_manifest, "must leave the files of the run as they are; this one changes manifest.json"),
    "deletes files": (tidies_up, "must leave the files of the run as they are; this one changes samples/samples.png"),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_an_observer_that_breaks_a_promise_is_told(name, tmp_path):
    work, message = BROKEN[name]
    with pytest.raises(AssertionError, match=message):
        check_observer(observer(work), tmp_path / "run")


def test_an_observer_may_print_and_write_files_of_its_own(tmp_path):
    def work(heard, event):
        print(event.name)
        if isinstance(event, RunStarted):
            (event.folder / "mine.txt").write_text("x", encoding="utf-8")

    check_observer(observer(work), tmp_path / "run")


def test_what_is_no_observer_is_told(tmp_path):
    class Unmarked:
        def loraforge_event(self, event):
            """Never called."""

    class Misspelt:
        @hookimpl
        def loraforge_events(self, event):
            """Never called."""

    class Nothing:
        pass

    with pytest.raises(AssertionError, match="is not marked with @hookimpl"):
        check_observer(Unmarked(), tmp_path)
    with pytest.raises(AssertionError, match="Did you mean 'loraforge_event'"):
        check_observer(Misspelt(), tmp_path)
    with pytest.raises(AssertionError, match="an observer needs a function loraforge_event"):
        check_observer(Nothing(), tmp_path)


def test_an_observer_that_leaves_out_the_event(tmp_path):
    count = []

    class Counter:
        @hookimpl
        def loraforge_event(self):
            count.append(1)

    check_observer(Counter, tmp_path / "run")
    assert len(count) > 30
