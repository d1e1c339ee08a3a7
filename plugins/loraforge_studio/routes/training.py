# SPDX-License-Identifier: Apache-2.0
"""Training: what there is of a run, the command that begins or continues it, and the pictures that it draws on its way."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel

from loraforge import speaker

from ..problems import Refused
from ..studio import Studio
from ..work.configs import read_config, read_values
from ..work.folders import Work
from .choosing import begun
from .works import task_of

say = speaker(__name__)

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


class Begin(BaseModel):
    """How a run begins: in an empty place, from its last checkpoint, or anew with the earlier run under another name."""

    how: Literal["new", "resume", "fresh"] = "new"


def router(studio: Studio) -> APIRouter:
    """/api/works/NAME/training and /samples."""
    made = APIRouter(prefix="/api/works")

    @made.get("/{name}/training")
    def state(name: str) -> dict[str, Any]:
        """What the page of the training shows: the run's folder, the last job on it, what ``runs`` says of it, and who else trains."""
        work = begun(studio, name)
        run = run_of(work)
        jobs = [job for job in studio.jobs.of(work) if job.kind == "train" and job.about.get("run") == run]
        job = jobs[0].as_json() if jobs else None
        others = [one.work.name for one in studio.jobs.all() if one.kind == "train" and one.state == "running" and one.work.name != name]
        place = studio.folders.inside(run, work)
        running = job is not None and job["state"] == "running"
        return {
            "run": run, "job": job, "others": others, "occupied": place.is_dir() and any(place.iterdir()),
            "known": None if running or not place.is_dir() else _listed(studio, work, place),
        }  # fmt: skip

    @made.post("/{name}/train")
    def train(name: str, wanted: Begin) -> dict[str, Any]:
        work = begun(studio, name)
        words = ["train", task_of(work), work.config.name, "--json"]
        words += [] if wanted.how == "new" else [f"--{wanted.how}"]
        busy = next((job for job in studio.jobs.of(work) if job.kind == "train" and job.state == "running"), None)
        if busy is not None:
            raise Refused(409, say("this work is being trained already. Wait for it, or stop it."), work.shown(words[:3]))
        return studio.start(work, "train", words, run=run_of(work), how=wanted.how)

    @made.get("/{name}/samples")
    def samples(name: str, run: str) -> list[dict[str, Any]]:
        """Pictures that the run drew, by step: step 0 is the base model."""
        work = studio.folders.work(name)
        prompts = read_values(read_config(work.config)).get("sample_prompts") if work.config.is_file() else None
        found = []
        for folder in sorted((studio.folders.inside(run, work) / "samples").glob("step-*")):
            step = re.fullmatch(r"step-(\d+)", folder.name)
            if step is None or not folder.is_dir():
                continue
            files = sorted(file for file in folder.iterdir() if file.suffix.lower() in _PICTURES and not file.name.startswith("."))
            found.append({"step": int(step[1]), "pictures": [_picture(file, work, prompts) for file in files]})
        return sorted(found, key=lambda one: one["step"])

    return made


def run_of(work: Work) -> str:
    """The folder of the run as the config names it, from the work's folder on."""
    named = str(read_values(read_config(work.config)).get("output_dir") or "./output/run")
    return Path(named).as_posix()


def _listed(studio: Studio, work: Work, place: Path) -> dict[str, Any] | None:
    """What ``runs`` says of a run: its status, figures and checkpoints; None if there is no run in the folder."""
    said = studio.ask(["runs", str(place.parent), "--json"], work)
    rows = said.value if said.code == 0 and isinstance(said.value, list) else []
    return next((row for row in rows if Path(str(row.get("run"))).name == place.name), None)


def _picture(file: Path, work: Work, prompts: Any) -> dict[str, str]:
    """Where it is, and what was asked for; the number in its name says which of the prompts."""
    number = re.match(r"(\d+)-(.*)", file.stem)
    text = number[2].replace("-", " ") if number else file.stem
    if number and isinstance(prompts, list) and 0 < int(number[1]) <= len(prompts):
        text = str(prompts[int(number[1]) - 1])
    return {"path": str(file.relative_to(work.folder)) if file.is_relative_to(work.folder) else str(file), "prompt": text}
