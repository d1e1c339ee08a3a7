# SPDX-License-Identifier: Apache-2.0
"""The works: a folder each, begun from somebody's data or from an example."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from loraforge import command, speaker

from ..problems import Refused
from ..studio import Studio
from ..work.configs import changed, note_changes, read_config, read_values
from ..work.folders import Work, locked, replace_text
from ..work.jobs import Job

say = speaker(__name__)

_TASK_TYPES = {"text": ("text-generation", "causal-lm"), "image": ("text-to-image", "stable-diffusion")}  # what other trainers call them


class NewWork(BaseModel):
    """What a work begins with."""

    name: str = Field("", max_length=200)
    task: str = Field("", max_length=60)
    example: str = Field("", max_length=60)


class NewConfig(BaseModel):
    """What becomes of a config: other values (None takes a key out), or another text."""

    values: dict[str, Any] = {}
    text: str | None = Field(None, max_length=200_000)


def router(studio: Studio) -> APIRouter:
    """/api/works and the config of each."""
    made = APIRouter(prefix="/api/works")

    @made.get("")
    def listed() -> list[dict[str, Any]]:
        return [shortly(studio, work) for work in studio.folders.works()]

    @made.post("", status_code=201)
    def begin(wanted: NewWork) -> dict[str, Any]:
        work = studio.folders.new(wanted.name or wanted.example)
        try:
            return _begun(studio, work, wanted)
        except BaseException:
            shutil.rmtree(work.folder, ignore_errors=True)  # it was made just now, and nobody has brought anything
            raise

    @made.get("/{name}")
    def one(name: str) -> dict[str, Any]:
        work = studio.folders.work(name)
        text = shown_config(work)
        return {
            **shortly(studio, work),
            "config": text,
            "values": read_values(text or ""),
            "jobs": [job.as_json() for job in _todays(studio, work)[:30]],
        }

    @made.put("/{name}/config")
    def config(name: str, wanted: NewConfig) -> dict[str, Any]:
        work = studio.folders.work(name)
        if not work.config.is_file():
            raise Refused(409, say("{work} has no config yet: bring data first.", work=name))
        with locked(work.hidden / "config.lock"):
            before = read_config(work.config)
            text = wanted.text if wanted.text is not None else before
            text = changed(text, wanted.values) if wanted.values else text
            if text != before:
                replace_text(work.config, text)
                note_changes(work, before, text)
        return {"config": text, "values": read_values(text)}

    return made


def _begun(studio: Studio, work: Work, wanted: NewWork) -> dict[str, Any]:
    if not wanted.example:
        replace_text(work.hidden / "work.json", json.dumps({"task": wanted.task}))
        return shortly(studio, work)
    said = studio.ask(["init", "--example", wanted.example, ".", "--json"], work, note=True)
    told = said.done()
    take_config(work, Path(told["config"]))
    replace_text(work.hidden / "work.json", json.dumps({"task": told["task"], "example": wanted.example}))
    return {**shortly(studio, work), "command": said.command}


def take_config(work: Work, made: Path) -> None:
    """Gives the config that ``init`` wrote the work's name, and a run in the work's own folder. An earlier config stays beside it."""
    place = work.folder / made
    if work.config.exists() and place != work.config:
        number = next(n for n in range(1, 10_000) if not (work.folder / f"{work.name}.{n}.yaml").exists())
        kept = work.folder / f"{work.name}.{number}.yaml"
        work.config.rename(kept)
        work.append(command("mv", work.config.name, kept.name))
    before = read_config(place)
    place_of_runs = f"./output/{work.name}"
    text = before if read_values(before).get("output_dir") == place_of_runs else changed(before, {"output_dir": place_of_runs})
    replace_text(work.config, text)
    replace_text(work.hidden / "first.yaml", text)  # what presets are counted from
    if place != work.config:
        place.unlink()
        work.append(command("mv", made, work.config.name))
    if text != before:
        note_changes(work, before, text)


def shown_config(work: Work) -> str | None:
    """The config's text to be looked at, whatever it is written in; None while there is none."""
    return work.config.read_bytes().decode("utf-8", "replace") if work.config.is_file() else None


def task_of(work: Work) -> str:
    """``text``, ``image`` or what a plugin brings; empty while nobody has said it. A folder that came without what the studio keeps
    (``.studio``) says it in its config."""
    try:
        told = json.loads((work.hidden / "work.json").read_text(encoding="utf-8"))
        if told.get("task"):
            return str(told["task"])
    except (OSError, ValueError, AttributeError):
        pass
    given = str(read_values(shown_config(work) or "").get("task_type", ""))
    return next((task for task, names in _TASK_TYPES.items() if given in names), given)


def runs_of(work: Work) -> list[Path]:
    """The folders of its runs, the newest first."""
    folder = work.folder / "output"
    found = []
    with contextlib.suppress(OSError):  # there is none yet, or one is just being taken away
        found = [(one.stat().st_mtime, Path(one.path)) for one in os.scandir(folder) if one.is_dir() and not one.name.startswith(".")]
    return [place for _, place in sorted(found, reverse=True)]


def _todays(studio: Studio, work: Work) -> list[Job]:
    """The jobs without those on a run that another one has taken the place of (``--fresh``): what they said is not true of it."""
    began = {f"output/{run.name}": _began(run) for run in runs_of(work)}
    return [job for job in studio.jobs.of(work) if job.kind == "train" or job.started >= began.get(str(job.about.get("run")), 0.0)]


def _began(run: Path) -> float:
    """When its training began, in seconds since 1970, as its manifest says; 0 where it does not."""
    try:
        with (run / "manifest.json").open("rb") as file:
            told = re.search(rb'"started":\s*"([^"]{19,40})"', file.read(20_000))
        return time.mktime(time.strptime(told[1][:19].decode("ascii"), "%Y-%m-%dT%H:%M:%S")) if told else 0.0
    except (OSError, ValueError, OverflowError):
        return 0.0


def is_finished(run: Path) -> bool:
    """Whether its training came to its end: ``manifest.json`` is there from the beginning and says so first."""
    try:
        with (run / "manifest.json").open("rb") as file:
            return re.search(rb'"status":\s*"finished"', file.read(300)) is not None
    except OSError:
        return False


def shortly(studio: Studio, work: Work) -> dict[str, Any]:
    """A work in a list."""
    running = [job.kind for job in studio.jobs.of(work) if job.state == "running"]
    return {
        "name": work.name,
        "folder": str(work.folder),
        "task": task_of(work),
        "begun": work.config.is_file(),
        "runs": [f"output/{run.name}" for run in runs_of(work)],
        "finished": [f"output/{run.name}" for run in runs_of(work) if is_finished(run)],
        "running": running,
    }
