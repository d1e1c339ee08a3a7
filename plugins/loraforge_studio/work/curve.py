# SPDX-License-Identifier: Apache-2.0
"""A run's ``log.jsonl`` as what a page can draw: read once, then only what was added; a million steps as a few thousand points.

Where a resumed run repeated steps, the last repetition counts.
"""

from __future__ import annotations

import json
import os
import re
import threading
import zlib
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_PIECE = 1 << 22  # bytes read at once
_KEPT = 8  # runs whose curves stay in memory
_MOST = 1 << 20  # bytes of a line; none of ours is as long
_NUMBER = rb"([-+\w.]+)"
# A step as the log has it: three times as quick as reading all of its JSON, which is done wherever this does not match.
_STEP = re.compile(
    rb'\{"time": %s, "event": "StepFinished", "step": (\d+), "steps": (\d+), "epoch": %s, "loss": %s, "learning_rate": %s[,}]'
    % ((_NUMBER,) * 4)
)


def identity(file: Path) -> str:
    """Which log this is, by its first line: a file in its place has another, whatever its number or size; "" while there is none."""
    try:
        with file.open("rb") as data:
            return _named(data.read(4096))
    except OSError:
        return ""


def _named(head: bytes) -> str:
    line, mark, _ = head.partition(b"\n")
    return f"{zlib.crc32(line):08x}" if mark or len(head) >= 4096 else ""


class Curve:
    """What one log tells. ``offset`` is how many of its bytes were read."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self.offset, self.log = 0, ""
        self._steps, self._losses, self._rates, self._times = array("q"), array("d"), array("d"), array("d")
        self.held: dict[int, float] = {}
        self.samples: dict[int, str] = {}
        self.checkpoints: dict[int, str] = {}
        self.stages: list[dict[str, Any]] = []
        self.facts: Mapping[str, Any] = {}
        self.total = self.first = self.starts = 0
        self.epoch = self.began = 0.0
        self.ended: dict[str, Any] | None = None
        self.stopped: dict[str, Any] | None = None
        self.memory: dict[str, int] | None = None

    def update(self) -> None:
        """Reads what was added. A log in the place of another is read anew."""
        with self._lock:
            try:
                with self._file.open("rb") as data:
                    log = _named(data.read(4096))
                    if log != self.log or os.fstat(data.fileno()).st_size < self.offset:
                        self._begin()
                        self.log = log
                    data.seek(self.offset)
                    held = b""
                    while piece := data.read(_PIECE):
                        whole, mark, held = (held + piece).rpartition(b"\n")
                        if mark:
                            self.offset += len(whole) + 1
                            for line in whole.split(b"\n"):
                                self._take(line)
                        elif len(held) > _MOST:
                            self.offset, held = self.offset + len(held), b""
            except OSError:
                if not self._file.exists():
                    self._begin()

    def _take(self, line: bytes) -> None:
        try:
            if quick := _STEP.match(line):
                time, step, steps, epoch, loss, rate = quick.groups()
                self._step(int(step), float(loss), float(rate), float(time))
                self.total, self.epoch = int(steps), float(epoch)
                return
            told = json.loads(line)
            if told["event"] == "StepFinished":
                self._step(int(told["step"]), float(told["loss"]), float(told["learning_rate"]), float(told["time"]))
                self.total, self.epoch = int(told["steps"]), float(told["epoch"])
            else:
                self._other(told["event"], told)
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            return  # a torn line, or one of a later version

    def _step(self, step: int, loss: float, rate: float, time: float) -> None:
        self._forget(step - 1)
        self._steps.append(step)
        self._losses.append(loss)
        self._rates.append(rate)
        self._times.append(time)

    def _forget(self, last: int) -> None:
        """Takes the steps after ``last`` back: they are made again."""
        while self._steps and self._steps[-1] > last:
            for values in (self._steps, self._losses, self._rates, self._times):
                values.pop()

    def _other(self, kind: str, told: Mapping[str, Any]) -> None:
        if kind == "RunStarted":
            self.total, self.first, self.facts, self.ended, self.stopped = (
                int(told["steps"]),
                int(told["first_step"]),
                told["facts"],
                None,
                None,
            )
            self.began, self.starts = float(told["time"]), self.starts + 1
            self.held = {step: loss for step, loss in self.held.items() if step <= self.first}
            self._forget(self.first)
        elif kind == "Evaluated":
            if finite(float(told["loss"])) is not None:
                self.held[int(told["step"])] = float(told["loss"])
        elif kind == "SamplesDrawn":
            self.samples[int(told["step"])] = str(told["path"])
        elif kind == "CheckpointSaved":
            self.checkpoints[int(told["step"])] = str(told["path"])
        elif kind == "MemoryRanOut":
            self.memory = {"step": int(told["step"]), "rows": int(told["rows"]), "passes": int(told["passes"])}
        elif kind == "StageStarted":
            self.stages = [*self.stages[-199:], {"stage": told["stage"], "detail": told["detail"]}]
        elif kind == "StoppedEarly":
            self.stopped = {"step": told["step"], "best": told["best_step"]}
        elif kind in ("RunFinished", "RunFailed"):
            self.ended = {"ok": kind == "RunFinished", "error": told.get("error", ""), "metrics": told.get("metrics", {})}

    def as_json(self, points: int = 1500) -> dict[str, Any]:
        """All that there is, the training losses as at most ``points`` means with the least and the largest of each."""
        with self._lock:
            count = len(self._times)
            pace = None
            if count > 1:
                back = max(0, count - 200)  # the last two hundred steps say how fast it is now
                pace = (self._times[-1] - self._times[back]) / max(1, self._steps[-1] - self._steps[back])
            left = pace * (self.total - self._steps[-1]) if pace is not None and not self.ended else None
            return {
                "log": self.log, "offset": self.offset, "steps": self.total, "step": self._steps[-1] if count else self.first,
                "epoch": self.epoch,
                "train": list(self._points(points)), "held": sorted(self.held.items()), "samples": sorted(self.samples.items()),
                "checkpoints": sorted(self.checkpoints.items()), "stages": self.stages, "facts": self.facts, "began": self.began,
                "starts": self.starts, "ended": self.ended, "stopped": self.stopped, "memory": self.memory, "left": left,
                "pace": pace, "rate": self._rates[-1] if count else None, "loss": finite(self._losses[-1]) if count else None,
            }  # fmt: skip

    def _points(self, points: int) -> Iterator[tuple[int, float, float, float]]:
        """(step, mean, least, largest) of as many steps as belong to one point; what is not finite is left out."""
        each = max(1, -(-len(self._steps) // points))
        for begin in range(0, len(self._steps), each):
            values = [loss for loss in self._losses[begin : begin + each] if finite(loss) is not None]
            if values:
                last = min(begin + each, len(self._steps)) - 1
                yield self._steps[last], sum(values) / len(values), min(values), max(values)


def finite(value: float) -> float | None:
    """What JSON can hold: a loss of a run that went astray is no number."""
    return value if value - value == 0 else None


class Curves:
    """Those that were looked at last."""

    def __init__(self) -> None:
        self._found: OrderedDict[Path, Curve] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, run: Path) -> Curve:
        """That of a run's folder, up to date."""
        with self._lock:
            curve = self._found.pop(run, None) or Curve(run / "log.jsonl")
            self._found[run] = curve
            while len(self._found) > _KEPT:
                self._found.popitem(last=False)
        curve.update()
        return curve
