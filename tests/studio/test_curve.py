# SPDX-License-Identifier: Apache-2.0
"""A run's log as a curve, whatever becomes of the log: half-written lines, repeated steps, another log in its place, very many lines."""

from __future__ import annotations

import asyncio
import json

from loraforge_studio.routes import logs
from loraforge_studio.work.curve import Curve, identity


def line(event, time=0.0, **told):
    return json.dumps({"time": time, "event": event, **told}) + "\n"


def begun(steps=100, first=0, time=1.0):
    return line("RunStarted", time, folder="x", task="text", steps=steps, first_step=first, facts={"epochs": 2})


def step(number, loss=1.0, steps=100, time=None):
    more = {"weight": 1.0, "units": 1.0, "seconds": 0.1, "grad_norm": 1.0, "rates": {}}
    told = {"step": number, "steps": steps, "epoch": number / 10, "loss": loss, "learning_rate": 2e-05, **more}
    return line("StepFinished", float(number) if time is None else time, **told)


def read(curve, points=1500):
    curve.update()
    return curve.as_json(points)


def test_what_a_log_tells_and_only_whole_lines_of_it(tmp_path):
    log = tmp_path / "log.jsonl"
    curve = Curve(log)
    assert read(curve)["train"] == [] and identity(log) == ""
    whole = (
        begun()
        + line("Evaluated", step=0, loss=7.5, examples=3)
        + step(1, 4.0)
        + step(2, float("nan"))
        + "no JSON\n[1]\n{}\n"
        + step(3, 2.0)
    )
    torn = step(4, 1.5)
    log.write_text(whole + torn[:70])
    told = read(curve)
    assert told["train"] == [(1, 4.0, 4.0, 4.0), (3, 2.0, 2.0, 2.0)] and told["held"] == [(0, 7.5)] and told["offset"] == len(whole)
    assert (told["step"], told["steps"], told["pace"], told["left"]) == (3, 100, 1.0, 97.0)
    with log.open("a") as file:
        file.write(torn[70:] + line("SamplesDrawn", step=4, path="p.png") + line("CheckpointSaved", step=4, path="c"))
        file.write(line("MemoryRanOut", step=5, rows=2, passes=2) + line("StoppedEarly", step=9, best_step=4))
        file.write(line("RunFailed", folder="x", error="no room"))
    told = read(curve)
    assert [one[0] for one in told["train"]] == [1, 3, 4] and told["samples"] == [(4, "p.png")] and told["checkpoints"] == [(4, "c")]
    assert told["ended"] == {"ok": False, "error": "no room", "metrics": {}} and told["left"] is None
    assert told["memory"]["rows"] == 2 and told["stopped"] == {"step": 9, "best": 4}


def test_a_resumed_run_has_each_step_once(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text(begun() + "".join(step(n, 1.0) for n in range(1, 9)) + line("Evaluated", step=8, loss=3.0, examples=1))
    curve = Curve(log)
    assert len(read(curve)["train"]) == 8
    with log.open("a") as file:
        file.write(begun(first=5))
    told = read(curve)
    assert [one[0] for one in told["train"]] == [1, 2, 3, 4, 5] and told["held"] == [] and (told["starts"], told["ended"]) == (2, None)
    with log.open("a") as file:
        file.write(step(6, 9.0))
    assert read(curve)["train"][-1] == (6, 9.0, 9.0, 9.0)


def test_another_log_in_its_place_is_read_anew_even_with_the_same_number_and_size(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text(begun(time=1.0) + step(1, 1.0))
    curve = Curve(log)
    first = read(curve)
    log.write_text(begun(time=2.0) + step(1, 3.0))  # in place: the file keeps its number
    second = read(curve)
    assert second["offset"] == first["offset"] and second["log"] != first["log"] and second["train"] == [(1, 3.0, 3.0, 3.0)]
    log.unlink()
    assert read(curve)["train"] == []


def test_many_steps_become_few_points_and_only_what_was_added_is_read(tmp_path, monkeypatch):
    log = tmp_path / "log.jsonl"
    many = 60_000
    log.write_text(begun(many) + "".join(step(n, float(n % 10), many) for n in range(1, many + 1)))
    curve = Curve(log)
    told = read(curve, 1000)
    assert len(told["train"]) == 1000 and told["train"][0] == (60, 4.5, 0.0, 9.0) and told["train"][-1][0] == many
    taken = []
    monkeypatch.setattr(Curve, "_take", lambda self, line: taken.append(line))
    with log.open("a") as file:
        file.write(step(1) + "x" * 5_000_000)
    curve.update()
    assert [one for one in taken if one] == [step(1).encode().rstrip()]


class Visitor:
    """A page that listens until it has what it wants."""

    async def is_disconnected(self):
        return False


def heard(file, log, offset, count, meanwhile=lambda: None):
    """The first ``count`` events that a page hears, each as (name, value, id)."""

    async def listen():
        found = []
        stream = logs._followed(file, log, offset, Visitor())
        while len(found) < count:
            try:
                text = await asyncio.wait_for(anext(stream), 5)
            except StopAsyncIteration:
                break
            parts = dict(row.split(": ", 1) for row in text.strip().split("\n") if not row.startswith(":"))
            found.append((parts["event"], json.loads(parts["data"]), parts["id"]))
            if len(found) == 1:
                meanwhile()
        await stream.aclose()
        return found

    return asyncio.run(listen())


def test_a_page_goes_on_where_it_was_and_hears_of_another_log(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "_PAUSE", 0.01)
    log = tmp_path / "log.jsonl"
    log.write_text(begun() + step(1) + step(2, float("nan")) + step(3)[:40])
    whole = len(begun() + step(1) + step(2, float("nan")))

    def more():
        with log.open("a") as file:
            file.write(step(3)[40:])

    first, second = heard(log, identity(log), len(begun()), 2, more)
    assert [told["step"] for told in first[1]] == [1, 2] and first[1][1]["loss"] is None and first[2] == f"{identity(log)}-{whole}"
    assert [told["step"] for told in second[1]] == [3]
    assert heard(log, "00000000", 5, 2) == [("anew", {}, f"{identity(log)}-0")]
    assert heard(log, identity(log), 10_000, 2)[0][0] == "anew"
    huge = tmp_path / "huge.jsonl"
    huge.write_text(begun() + "x" * (3 << 20) + "\n" + step(1))
    assert heard(huge, identity(huge), len(begun()), 1)[0][1][-1]["step"] == 1
