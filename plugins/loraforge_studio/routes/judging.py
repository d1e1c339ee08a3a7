# SPDX-License-Identifier: Apache-2.0
"""Judging a run: base beside adapter, questions of one's own, blind grading, and the checkpoints."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from loraforge import printable, speaker

from ..problems import Refused
from ..studio import Studio
from ..work.runs import Run, figures, find_run, measures, samples_of
from ..work.sheets import copy_for, judge, next_sheet, read_sheet, sheets_of

say = speaker(__name__)


class OfRun(BaseModel):
    """Something that is done to a run."""

    run: str = Field(max_length=400)


class Question(OfRun):
    """A question of one's own, and who is to answer it.

    Attributes:
        steps: checkpoints that answer in place of the run's adapter.
        scales: how strongly; each of the checkpoints, or the adapter, answers once with each.
        options: of the task, such as ``seed``.
    """

    prompts: list[str] = Field(min_length=1, max_length=8)
    base: bool = True
    steps: list[int] = Field([], max_length=12)
    scales: list[float] = Field([], max_length=8)
    options: dict[Literal["negative", "steps", "cfg", "size", "sampler", "seed", "max-tokens", "temperature", "top-p"], str] = {}


class Promotion(OfRun):
    """Which checkpoint becomes the adapter."""

    step: int = Field(ge=1)


class Grader(BaseModel):
    """Somebody who judges on a copy of a sheet."""

    sheet: str = Field(max_length=400)
    name: str = Field(max_length=200)


class Verdict(BaseModel):
    """Cells of one question."""

    file: str = Field(max_length=400)
    row: int
    values: dict[Literal["a_ok", "b_ok", "better", "remarks"], str]


class Grading(OfRun):
    """The filled sheets that count."""

    files: list[str] = Field(min_length=1, max_length=50)


def router(studio: Studio) -> APIRouter:
    """/api/works/NAME/judge and below."""
    made = APIRouter(prefix="/api/works/{name}/judge")

    @made.get("")
    def overview(name: str, run: str) -> dict[str, Any]:
        """The figures of the run."""
        found = find_run(studio.folders, name, run)
        manifest, evaluation = found.manifest, found.evaluation
        return {
            "run": found.word, "task": manifest.get("task"), "base": (manifest.get("config") or {}).get("base_model"),
            "facts": _facts(manifest), "evaluation": _shortly(evaluation) if evaluation else None,
            "grades": manifest.get("grades"), "samples": samples_of(found),
        }  # fmt: skip

    @made.get("/checkpoints")
    def checkpoints(name: str, run: str) -> dict[str, Any]:
        """The checkpoints as `loraforge runs RUN` compares them."""
        found = find_run(studio.folders, name, run)
        said = studio.ask(["runs", found.word, "--json"], found.work)
        return {"checkpoints": said.done()["checkpoints"], "command": said.command}

    @made.get("/rows")
    def rows(name: str, run: str) -> list[dict[str, Any]]:
        """Every held-out question with both answers, as the last comparison had them."""
        evaluation = find_run(studio.folders, name, run).evaluation or {}
        keys = ("where", "question", "reference", "base", "adapter", "answer_learned", "ended")
        return [{key: row.get(key) for key in keys} for row in evaluation.get("rows") or ()]

    @made.post("/eval", status_code=201)
    def evaluate(name: str, wanted: OfRun) -> dict[str, Any]:
        found = find_run(studio.folders, name, wanted.run)
        return studio.start(found.work, "eval", ["eval", found.word], run=found.word)

    @made.post("/ask", status_code=201)
    def ask(name: str, wanted: Question) -> dict[str, Any]:
        found = find_run(studio.folders, name, wanted.run)
        prompts = [prompt.strip() for prompt in wanted.prompts if prompt.strip()]
        if not prompts:
            raise Refused(400, say("Write what you want to ask."))
        about = {
            "run": found.word,
            "prompts": prompts,
            "base": wanted.base,
            "steps": wanted.steps,
            "scales": wanted.scales,
            "options": dict(wanted.options),
        }
        return studio.start(found.work, "sample", _sample(found, wanted, prompts), **about)

    @made.post("/promote", status_code=201)
    def promote(name: str, wanted: Promotion) -> dict[str, Any]:
        found = find_run(studio.folders, name, wanted.run)
        return studio.start(found.work, "promote", ["promote", found.word, wanted.step, "--json"], run=found.word, step=wanted.step)

    _blind(made, studio)
    return made


def _blind(made: APIRouter, studio: Studio) -> None:
    """The routes of the sheets. What names the sides is kept from them: the job that writes a sheet prints no JSON."""

    def file_of(name: str, path: str) -> Path:
        return studio.folders.inside(path, studio.folders.work(name))

    @made.get("/sheets")
    def sheets(name: str) -> list[dict[str, Any]]:
        return sheets_of(studio.folders.work(name))

    @made.post("/sheets", status_code=201)
    def write(name: str, wanted: OfRun) -> dict[str, Any]:
        found = find_run(studio.folders, name, wanted.run)
        file = next_sheet(found.work, found.path.name)
        (found.work.folder / "review").mkdir(exist_ok=True)
        return studio.start(found.work, "sheet", ["eval", found.word, "--sheet", file], run=found.word, file=file)

    @made.post("/graders", status_code=201)
    def grader(name: str, wanted: Grader) -> dict[str, Any]:
        work = studio.folders.work(name)
        place = copy_for(work, file_of(name, wanted.sheet), wanted.name)
        return {"path": place.relative_to(work.folder).as_posix()}

    @made.get("/sheet")
    def sheet(name: str, file: str) -> dict[str, Any]:
        return read_sheet(file_of(name, file))

    @made.put("/sheet")
    def verdict(name: str, wanted: Verdict) -> dict[str, Any]:
        place = file_of(name, wanted.file)
        if not place.is_relative_to(studio.folders.work(name).folder / "review"):
            raise Refused(403, say("{path} was brought from elsewhere, and stays as it is.", path=printable(wanted.file)))
        return judge(place, wanted.row, {str(key): value for key, value in wanted.values.items()})

    @made.post("/grade")
    def grade(name: str, wanted: Grading) -> dict[str, Any]:
        found = find_run(studio.folders, name, wanted.run)
        words: list[object] = ["eval", found.word]
        for path in wanted.files:
            place = file_of(name, path)
            words += ["--grade", place.relative_to(found.work.folder).as_posix() if place.is_relative_to(found.work.folder) else place]
        said = studio.ask([*words, "--json"], found.work, note=True)
        return {**said.done(), "command": said.command}


def _sample(run: Run, wanted: Question, prompts: list[str]) -> list[object]:
    """The command: every checkpoint with every strength, in this order."""
    words: list[object] = ["sample", run.word, *(["--base"] if wanted.base else [])]
    scales = [f"{scale:g}" for scale in wanted.scales]
    adapters = [f"{run.word}/checkpoints/step-{step:06d}" for step in wanted.steps]
    if len(adapters) > 1 and len(scales) > 1:
        for adapter in adapters:
            for scale in scales:
                words += ["--adapter", adapter, "--scale", scale]
    else:
        for adapter in adapters:
            words += ["--adapter", adapter]
        for scale in scales:
            words += ["--scale", scale]
    for option, value in wanted.options.items():
        words += [f"--{option}", value] if value.strip() else []
    if run.manifest.get("task") == "image":  # pictures of one prompt with other settings must not take each other's place
        words += ["--out", f"{run.word}/answers/{time.strftime('%Y%m%d-%H%M%S')}"]
    return [*words, "--json", "--", *prompts]


def _facts(manifest: dict[str, Any]) -> dict[str, Any]:
    """What the head of the step says of the run."""
    return {
        "started": manifest.get("started"),
        "step": (manifest.get("chosen") or {}).get("step"),
        "by": (manifest.get("chosen") or {}).get("by"),
        "examples": len((manifest.get("data") or {}).get("rows") or ()),
        "prompts": (manifest.get("config") or {}).get("sample_prompts") or [],
        "trigger": (manifest.get("config") or {}).get("trigger_word") or "",
    }


def _shortly(evaluation: dict[str, Any]) -> dict[str, Any]:
    """A comparison without its rows."""
    keys = ("examples", "held_out", "missing", "verdict", "headline", "parts", "step", "memorisation", "cut", "repeating")
    return {
        **{key: evaluation.get(key) for key in keys},
        "sentence": evaluation.get("sentence") or [],
        "measures": measures(evaluation),
        "figures": figures(evaluation),
        "answers": len(evaluation.get("rows") or ()),
    }
