# SPDX-License-Identifier: Apache-2.0
"""The settings: what there is to choose, what a choice costs, and the config as a text."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from loraforge import speaker

from ..problems import Refused
from ..studio import Studio
from ..work.choices import about, form, overrides, presets
from ..work.configs import note_changes, read_config, read_values
from ..work.folders import Work, locked, replace_text
from .works import task_of

say = speaker(__name__)


class Tried(BaseModel):
    """Values that are not written yet, and the memory of a GPU if that is not this computer's processor."""

    values: dict[str, Any] = {}
    gpu: str = Field("", max_length=20)
    page: str = Field("", max_length=60)


class NewText(BaseModel):
    """Another text for the config; ``anyway``: even if ``check`` says that it will not do; ``before``: the text that it was made of."""

    text: str = Field(max_length=200_000)
    anyway: bool = False
    before: str | None = Field(None, max_length=200_000)


def router(studio: Studio) -> APIRouter:
    """/api/works/NAME/form, /estimate and /text."""
    made = APIRouter(prefix="/api/works")
    known: dict[tuple[str, str], dict[str, Any]] = {}

    def form_of(task: str) -> dict[str, Any]:
        place = (task, studio.language)
        if place not in known:
            asked = (["keys", task, "--json"], ["keys", task, "--schema"], ["list", "--json"])
            keys, schema, listed = (studio.ask(words).done() for words in asked)
            defaults = {name: told.get("default") for name, told in schema.get("properties", {}).items()}
            known[place] = {**form(keys, schema, listed, task), "defaults": defaults}
        return known[place]

    @made.get("/{name}/form")
    def choices(name: str) -> dict[str, Any]:
        work = begun(studio, name)
        found = form_of(task_of(work))
        names = [key["name"] for key in found["keys"]]
        first = work.hidden / "first.yaml"
        values = read_values(read_config(first if first.is_file() else work.config))
        return {**found, "presets": presets(values, names), "values": read_values(read_config(work.config))}

    @made.post("/{name}/estimate")
    def estimate(name: str, tried: Tried) -> dict[str, Any]:
        """What ``check`` says of values that are not written yet. A later question of the same page ends an earlier one."""
        work = begun(studio, name)
        task = task_of(work)
        found = form_of(task)
        words = ["check", task, work.config.name, "--json", *overrides(tried.values, found["defaults"])]
        words += ["--gpu", tried.gpu] if tried.gpu else []
        said = studio.ask(words, work, newest=f"{name}/{tried.page}")
        if said.code == -9:
            raise Refused(409, say("a later question has taken this one's place."), said.command)
        names = [key["name"] for key in found["keys"]]
        told = said.value if said.code == 0 and isinstance(said.value, dict) else {}
        return {
            "command": said.command,
            "problems": [about(line, names) for line in said.problems] if said.code else [],
            "advice": [about(line, names) for line in told.get("advice", [])],
            **{key: told.get(key) for key in ("notes", "fit", "steps", "examples", "held_out", "set_aside", "findings", "base_model")},
        }

    @made.put("/{name}/text")
    def text(name: str, wanted: NewText) -> dict[str, Any]:
        """Takes a text in the config's place if ``check`` has nothing against it, or if it is wanted all the same."""
        work = begun(studio, name)
        command = work.shown(["check", task_of(work), work.config.name])
        if not wanted.anyway:
            aside = work.folder / f".{work.name}.new.yaml"  # beside the config, for what its paths begin with
            try:
                replace_text(aside, wanted.text)
                said = studio.ask(["check", task_of(work), aside.name, "--json"], work)
            finally:
                aside.unlink(missing_ok=True)
            if said.code:
                raise Refused(422, [line.replace(aside.name, work.config.name) for line in said.problems], command)
        with locked(work.hidden / "config.lock"):
            before = read_config(work.config)
            if wanted.before is not None and wanted.before != before:
                raise Refused(409, say("the config has been changed meanwhile, in another tab: load the page again."), command)
            replace_text(work.config, wanted.text)
            if wanted.text != before:
                note_changes(work, before, wanted.text)
        return {"config": wanted.text, "values": read_values(wanted.text), "command": command}

    return made


def begun(studio: Studio, name: str) -> Work:
    """A work that has a config.

    Raises:
        Refused: if there is none.
    """
    work = studio.folders.work(name)
    if not work.config.is_file():
        raise Refused(409, say("{work} has no config yet: bring data first.", work=name))
    return work
