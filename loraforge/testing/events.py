# SPDX-License-Identifier: Apache-2.0
"""What an observer hears: a stream of events with everything in it, and ``check_observer``, which feeds it."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pluggy

from ..errors import PluginError
from ..plugin_api import hookspecs
from ..plugin_api.events import (
    CheckpointSaved,
    Compared,
    Evaluated,
    Event,
    Exported,
    MemoryRanOut,
    RunFailed,
    RunFinished,
    RunStarted,
    SamplesDrawn,
    StageStarted,
    StepFinished,
    StoppedEarly,
)
from ..plugin_api.host import PluginHost
from .guards import equal

_PLANNED, _STEPS, _SAVED = 12, 6, 2
_EXAMPLES, _HELD_OUT = 20, 5


@dataclass(frozen=True)
class FromTheFuture(Event):
    """A kind of event that this version does not have: an observer ignores what it does not know."""

    detail: str = "later versions tell more"


def event_stream(folder: Path) -> list[Event]:
    """Every kind of event, in the order of real runs: a training that runs out of memory once, stops early and is finished; then one that
    goes on from a checkpoint and is stopped.

    The files that the events name are there: ``folder`` with a checkpoint, a picture and an export.
    """
    return [*_finished(folder), *_broken_off(folder)]


def _finished(folder: Path) -> list[Event]:
    """A training from its first event to its last."""
    picture = _files(folder)
    events: list[Event] = [
        StageStarted("data", "data/metadata.csv"),
        StageStarted("template", "chatml"),
        StageStarted("base model", "tiny-chat"),
        StageStarted("LoRA injection", "18,432 of 4,000,000 parameters are trained (0.461%), in 14 layers"),
        RunStarted(folder, "text", _PLANNED, 0, _facts()),
        Evaluated(0, 3.5, _HELD_OUT),
        SamplesDrawn(0, picture),
        MemoryRanOut(1, 2, 2),
        StageStarted("memory", "the device has too little memory for 4 examples at once"),
    ]
    for step in range(1, _STEPS + 1):
        events.append(_step(step))
        if step % _SAVED == 0:
            events += [Evaluated(step, 3.0 + 0.1 * step, _HELD_OUT), SamplesDrawn(step, picture)]
            events.append(CheckpointSaved(step, folder / "checkpoints" / f"step-{step:06d}"))
    return [
        *events,
        StoppedEarly(_STEPS, _SAVED),
        StageStarted("adapter", "from step 2, whose held-out loss is the lowest (3.200)"),
        StageStarted("export", "peft"),
        Exported("peft", folder / "export" / "peft"),
        StageStarted("comparison", "base and adapter on the held-out examples"),
        *(Compared(done, 2 * _HELD_OUT) for done in range(2 * _HELD_OUT + 1)),
        RunFinished(folder, 12.5, {"train_loss": 1.9, "held_out_loss_base": 3.5, "held_out_loss": 3.2, "best_step": 2, "seconds": 12.5}),
    ]


def _broken_off(folder: Path) -> list[Event]:
    """A training that goes on from a checkpoint and is stopped."""
    return [
        StageStarted("advice", "learning_rate 0.0002 -> 0.0001"),
        StageStarted("data", "data/metadata.csv"),
        StageStarted("resume", str(folder / "checkpoints" / "step-000002")),
        RunStarted(folder, "text", _PLANNED, _SAVED, {**_facts(), "estimated_seconds": None}),
        _step(_SAVED + 1),
        StageStarted("stop", "asked to stop: finishing this step and saving; a second Ctrl-C stops at once"),
        CheckpointSaved(_SAVED + 1, folder / "checkpoints" / "step-000004"),
        RunFailed(folder, "Stopped after step 3, as asked; everything is saved. --resume goes on from there."),
    ]


def _step(step: int) -> StepFinished:
    return StepFinished(step, _PLANNED, step / 5, 3.0 / step, 2e-4, 120.0, 340.0, 0.25, 1.5)


def _facts() -> dict[str, Any]:
    """What ``RunStarted`` says of a run."""
    return {
        "base_model": "tiny-chat",
        "examples": _EXAMPLES,
        "held_out": _HELD_OUT,
        "epochs": 2.0,
        "steps": _PLANNED,
        "trainable_parameters": 18_432,
        "parameters": 4_000_000,
        "device": "CPU, 1 threads",
        "precision": "fp32",
        "template": "chatml",
        "continues": None,
        "estimated_seconds": 12.0,
        "tokens": 6_800,
        "learned_tokens": 2_400,
        "longest_row": 96,
    }


def _files(folder: Path) -> Path:
    """The files that the events name; the picture among them."""
    from PIL import Image

    for name in ("samples", "adapter", "export/peft", *(f"checkpoints/step-{step:06d}" for step in (2, 4, 6))):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text('{"status": "running"}\n', encoding="utf-8")
    for name in ("adapter", "export/peft", "checkpoints/step-000002"):
        (folder / name / "adapter_config.json").write_text('{"peft_type": "LORA"}\n', encoding="utf-8")
    picture = folder / "samples" / "samples.png"
    Image.new("RGB", (32, 16), (200, 120, 40)).save(picture)
    return picture


def check_observer(observer: object, folder: Path, events: Sequence[Event] | None = None) -> None:
    """It hears a run that is finished, one that is resumed and broken off, one that fails before it began, and a kind of event that this
    version does not know; it raises at none, returns nothing, and changes neither events nor files of the run.

    Args:
        observer: the module or object with a marked ``loraforge_event``; of a class, an object is made as for an entry point.
        folder: an empty folder for the run's files; what the observer writes is found there afterwards.
        events: what it is told instead of ``event_stream``.

    Raises:
        AssertionError: with the promise that is not kept.
    """
    heard = _implementation(observer() if isinstance(observer, type) else observer)
    given = list(event_stream(folder) if events is None else events)
    _check_told(heard, [*_with_strangers(given)], folder)
    _check_told(heard, [StageStarted("data", "data/metadata.csv"), RunFailed(folder, "the disk is full")], folder)


def _implementation(observer: object) -> pluggy.HookImpl:
    """The observer's hook, as the host finds it."""
    try:
        PluginHost(entry_points=False).register(observer, "observer-under-test")
    except PluginError as error:
        raise AssertionError(f"the observer cannot be used: {error}") from None
    manager = pluggy.PluginManager("loraforge")
    manager.add_hookspecs(hookspecs)
    manager.register(observer)
    found = manager.hook.loraforge_event.get_hookimpls()
    assert found, "an observer needs a function loraforge_event that is marked with @hookimpl"
    return found[0]


def _with_strangers(events: Iterable[Event]) -> Iterator[Event]:
    """The events, with one that nobody knows before the first, after each start of a run, and after the last."""
    yield FromTheFuture()
    for event in events:
        yield event
        if isinstance(event, RunStarted):
            yield FromTheFuture()
    yield FromTheFuture()


def _check_told(observer: pluggy.HookImpl, events: Sequence[Event], folder: Path) -> None:
    """Tells the events one by one."""
    before = _hashes(folder)
    for event in events:
        kept = copy.deepcopy(vars(event))
        try:
            answer = observer.function(event) if observer.argnames else observer.function()
        except Exception as error:
            what = "a kind of event that it does not know" if isinstance(event, FromTheFuture) else event.name
            raise AssertionError(f"an observer must not raise; this one does on {what}: {type(error).__name__}: {error}") from error
        assert answer is None, f"an observer must return nothing; this one returns {answer!r:.100} on {event.name}"
        assert equal(kept, vars(event)), f"an observer must leave events as they are; this one changes {event.name}"
    after = _hashes(folder)
    changed = sorted(name for name, content in before.items() if after.get(name) != content)
    assert not changed, f"an observer must leave the files of the run as they are; this one changes {', '.join(changed[:3])}"


def _hashes(folder: Path) -> dict[str, str]:
    """The run's own files; what observers write is theirs."""
    own = ("manifest.json", "samples/", "adapter/", "export/", "checkpoints/")
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items() if name.startswith(own)}
