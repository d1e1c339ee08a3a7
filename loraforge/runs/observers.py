# SPDX-License-Identifier: Apache-2.0
"""What watches a run: progress bar, log.jsonl, TensorBoard, loss curve. Ordinary plugins on ``loraforge_event``."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bars import Bar
from ..messages import speaker
from ..plugin_api.events import (
    CheckpointSaved,
    Compared,
    Evaluated,
    Event,
    RunFailed,
    RunFinished,
    RunStarted,
    SamplesDrawn,
    StageStarted,
    StepFinished,
    StoppedEarly,
)
from ..plugin_api.hookspecs import hookimpl

if TYPE_CHECKING:
    from rich.console import Console

say = speaker(__name__)


def plain(event: Event) -> dict[str, Any]:
    """An event as JSON values."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in dataclasses.asdict(event).items()}


class JsonLog:
    """``log.jsonl``: one event a line, with the time in seconds since 1970, appended as it happens.

    A line that cannot be written (the disk is full, the folder has vanished) is kept for the next attempt, and the error goes to whoever
    tells of the event: the run does not end for it.
    """

    def __init__(self) -> None:
        self._file: Path | None = None
        self._early: list[str] = []

    @hookimpl
    def loraforge_event(self, event: Event) -> None:
        if isinstance(event, Compared):
            return  # eval.json says it all
        line = json.dumps({"time": round(time.time(), 3), "event": event.name, **plain(event)}, ensure_ascii=False, default=str)
        if isinstance(event, RunStarted):
            self._file = event.folder / "log.jsonl"
        self._early.append(line)
        if self._file is None and isinstance(event, RunFailed):
            self._keep_beside(event.folder)
        if self._file is None:
            return  # the folder is made after the data has been read
        file, over = self._file, isinstance(event, RunFinished | RunFailed)
        if over:
            self._file = None
        try:
            self._append(file)
        finally:
            self._early = [] if over else self._early

    def _keep_beside(self, folder: Path) -> None:
        """For a run that failed before it had a folder to log in."""
        from .unstarted import append_log, log_beside

        lines, self._early = self._early, []
        append_log(log_beside(folder), "".join(f"{line}\n" for line in lines))

    def _append(self, path: Path) -> None:
        with path.open("a+b") as file:
            start = file.seek(0, os.SEEK_END)
            torn = b""
            if start:
                file.seek(start - 1)
                torn = b"" if file.read(1) == b"\n" else b"\n"  # a killed run's last line
            try:
                file.write(torn + "".join(f"{text}\n" for text in self._early).encode("utf-8", "surrogatepass"))
                file.flush()
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(start)  # what came through is written again with the rest
                raise
        self._early = []


class TensorBoard:
    """``tensorboard/``: loss, held-out loss, learning rate, gradient norm, tokens per second. A local file; no network."""

    def __init__(self) -> None:
        self._writer: Any = None
        self._hook = threading.excepthook

    @hookimpl
    def loraforge_event(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            from torch.utils.tensorboard import SummaryWriter

            if threading.excepthook != self._quiet:
                self._hook, threading.excepthook = threading.excepthook, self._quiet
            self._writer = SummaryWriter(str(event.folder / "tensorboard"), purge_step=event.first_step + 1 if event.first_step else None)
        elif self._writer is None:
            return
        elif isinstance(event, StepFinished):
            rate = event.units / event.seconds if event.seconds else 0.0
            for tag, value in (
                ("loss/train", event.loss),
                ("learning_rate", event.learning_rate),
                ("grad_norm", event.grad_norm),
                ("units_per_second", rate),
                *((f"learning_rate/{name}", one) for name, one in event.rates.items()),
            ):
                self._writer.add_scalar(tag, value, event.step)
        elif isinstance(event, SamplesDrawn):
            import numpy as np
            from PIL import Image

            with Image.open(event.path) as picture:
                self._writer.add_image("samples", np.asarray(picture.convert("RGB")), event.step, dataformats="HWC")
        elif isinstance(event, Evaluated):
            self._writer.add_scalar("loss/held_out", event.loss, event.step)
        elif isinstance(event, RunFinished | RunFailed):
            writer, self._writer = self._writer, None
            try:
                writer.close()
            finally:
                threading.excepthook = self._hook

    def _quiet(self, failed: Any) -> None:
        """TensorBoard writes in a thread of its own, and raises what went wrong there at the next event too: that is enough."""
        if not type(failed.thread).__module__.startswith("tensorboard."):
            self._hook(failed)


class LossCurve:
    """``loss.png``, drawn when the run ends, from ``log.jsonl`` where a resumed run has an earlier part."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._began = 0.0
        self._resumed: list[int] = []
        self._per_epoch = 1
        self._train: dict[int, float] = {}
        self._heldout: dict[int, float] = {}

    @hookimpl
    def loraforge_event(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._begin(event)
        elif isinstance(event, StepFinished):
            self._train[event.step] = event.loss
            self._per_epoch = max(1, round(event.step / event.epoch)) if event.epoch else 1
        elif isinstance(event, Evaluated):
            self._heldout[event.step] = event.loss
        elif isinstance(event, RunFinished | RunFailed) and self._folder is not None and self._train:
            from ..charts import name_of
            from ..diagnosis.curves import draw_loss
            from ..diagnosis.history import History

            train, held = sorted(self._train.items()), sorted(self._heldout.items())
            history = History(train, held, self._per_epoch, 0.0, began=self._began, resumed=self._resumed)
            draw_loss(history, self._folder / "loss.png", name_of(self._folder))

    def _begin(self, event: RunStarted) -> None:
        """What the log tells of the run so far: when it began, and the steps before a resume."""
        from ..diagnosis.history import history_from_log

        log = event.folder / "log.jsonl"
        self._folder, self._began, self._train, self._heldout, self._resumed = event.folder, time.time(), {}, {}, []
        if not log.is_file():
            return
        told = history_from_log(log)
        self._began = told.began or self._began
        if upto := event.first_step:
            self._resumed = sorted({*(step for step in told.resumed if step < upto), upto})
            self._train = {step: loss for step, loss in told.losses if step <= upto}
            self._heldout = {step: loss for step, loss in told.heldout if step <= upto}


class Progress:
    """The progress bar of ``loraforge train``: loss, learning rate, units per second, time left. The CLI registers it.

    On a terminal it is one live line; in a file or a pipe it is a plain line now and then.
    """

    def __init__(self, console: Console, unit: str) -> None:
        self._console, self._unit = console, unit
        self._bar = Bar(console)
        self._last = 0.0
        self._started = 0.0
        self._first = 0
        self._stage = ""
        self._comparing: float | None = None
        self._continues = False

    @hookimpl
    def loraforge_event(self, event: Event) -> None:
        if isinstance(event, StageStarted):
            label = say(event.stage) if event.stage != self._stage else ""
            self._stage = event.stage
            self._line(label, event.detail)
        elif isinstance(event, CheckpointSaved):
            self._line(say("checkpoint"), str(event.path))
        elif isinstance(event, SamplesDrawn):
            self._line(say("samples"), str(event.path))
        elif isinstance(event, RunStarted):
            self._started, self._first, self._comparing = time.monotonic(), event.first_step, None
            self._continues = bool(event.facts.get("continues"))
            self._summary(event)
            self._bar.start(event.steps, event.first_step)
        elif isinstance(event, StepFinished):
            self._show(event)
        elif isinstance(event, Evaluated):
            start = say("at the start") if self._continues else say("base model")
            where = start if event.step == 0 else say("step {step}", step=event.step)
            text = say("loss {loss:.3f} on {n} held-out examples ({where})", loss=event.loss, where=where, n=event.examples)
            self._line(say("held out"), text)
        elif isinstance(event, StoppedEarly):
            text = say("after step {step}: the held-out loss was lowest after step {best}", step=event.step, best=event.best_step)
            self._line(say("stopped early"), text)
        elif isinstance(event, Compared):
            self._compare(event)
        elif isinstance(event, RunFinished | RunFailed):
            self.close()

    def _line(self, label: str, text: str) -> None:
        """One line with its label in a column; Chinese characters are two cells wide."""
        from rich.cells import set_cell_size

        self._console.print(f"  {set_cell_size(label, 14)} {text}", markup=False)

    def _summary(self, event: RunStarted) -> None:
        """What is about to happen, in plain words."""
        facts, device = event.facts, _in_words(event.facts["device"])
        lines = [
            say("{base} on {device}, {precision}", base=facts["base_model"], device=device, precision=facts["precision"]),
            say("{train} examples are learned, {held} are held out and never trained on", train=facts["examples"], held=facts["held_out"]),
            say(
                "{steps} steps ({epochs:.1f} passes over the examples)",
                steps=event.steps - event.first_step,
                epochs=facts["epochs"] * (event.steps - event.first_step) / event.steps,
            ),
        ]
        if facts["estimated_seconds"] is not None:
            lines[-1] = say("{steps}, about {time}", steps=lines[-1], time=duration(facts["estimated_seconds"]))
        if event.first_step:
            lines.append(say("continues after step {step}", step=event.first_step))
        for number, line in enumerate(lines):
            self._line("" if number else say("training"), line)

    def _compare(self, event: Compared) -> None:
        """The losses and the answers of the comparison, after the steps."""
        losses = event.of == "losses"
        if self._comparing is None or event.done == 0:
            self.close()
            self._comparing = self._last = time.monotonic()
            self._bar.start(event.total)
        if self._bar.shown:
            self._bar.update(event.done, event.total, say("losses") if losses else say("answers"))
        elif event.done and time.monotonic() - self._last >= 10:
            self._last = time.monotonic()
            left = (self._last - self._comparing) / event.done * (event.total - event.done)
            figures = {"done": event.done, "total": event.total, "left": duration(left)}
            line = say("loss {done}/{total}  {left} left", **figures) if losses else say("answer {done}/{total}  {left} left", **figures)
            self._line("", line)

    def _show(self, event: StepFinished) -> None:
        speed = event.units / event.seconds if event.seconds else 0.0
        text = say(
            "loss {loss:.3f}  rate {rate:.1e}  {speed:.0f} {unit}/s",
            loss=event.loss,
            rate=event.learning_rate,
            speed=speed,
            unit=say(self._unit),
        )
        if self._bar.shown:
            self._bar.update(event.step, event.steps, *text.split("  "))
            return
        now = time.monotonic()
        if now - self._last >= 10 or event.step == event.steps:
            self._last = now
            left = (now - self._started) / (event.step - self._first) * (event.steps - event.step)
            line = say(
                "step {step}/{steps}  epoch {epoch:.1f}  {text}  {left} left",
                step=event.step,
                steps=event.steps,
                epoch=event.epoch,
                text=text,
                left=duration(left),
            )
            self._line("", line)

    def close(self) -> None:
        """Takes the bar off the screen; safe to call twice."""
        self._bar.stop()


def _in_words(device: str) -> str:
    """A device as ``device.device_name`` records it, in the user's language."""
    threads = re.match(r"CPU, (\d+) threads\b", device)
    return say("CPU, {n} threads", n=int(threads[1])) + device[threads.end() :] if threads else device


def duration(seconds: float) -> str:
    """``12 s``, ``3 min 5 s``, ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return say("{s} s", s=whole)
    if whole < 3600:
        return say("{m} min {s} s", m=whole // 60, s=whole % 60)
    return say("{h} h {m} min", h=whole // 3600, m=whole % 3600 // 60)
