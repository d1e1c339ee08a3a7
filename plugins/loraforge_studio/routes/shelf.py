# SPDX-License-Identifier: Apache-2.0
"""All adapters that there are: where each comes from, two beside each other, and a new work that continues from one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml
from fastapi import APIRouter
from pydantic import BaseModel, Field

from loraforge import command, printable, speaker

from ..problems import Refused
from ..studio import Studio
from ..work.configs import changed, note_changes, read_config
from ..work.folders import Work, replace_text, safe_name
from ..work.runs import Run, figures, find_run, measures, read_json, samples_of
from .works import shortly, task_of

say = speaker(__name__)

_COMMANDS = ("eval", "grade", "export", "promote", "card")  # what later commands may have done to a run


class Continuation(BaseModel):
    """A work that begins where a run ended."""

    work: str = Field(max_length=200)
    run: str = Field(max_length=400)
    name: str = Field("", max_length=200)


def router(studio: Studio) -> APIRouter:
    """/api/shelf and below."""
    made = APIRouter(prefix="/api/shelf")

    @made.get("")
    def shelf() -> dict[str, Any]:
        """The runs of all works as `loraforge runs` lists them, each with its work and size; and works that have none yet."""
        works = studio.folders.works()
        said = studio.ask(["runs", ".", "--json"])
        rows = []
        for row in said.done():
            place = (studio.folders.home / row["run"]).resolve()
            work = next((one for one in works if place.is_relative_to(one.folder.resolve())), None)
            if work is None or any(part.startswith(".") for part in place.relative_to(work.folder.resolve()).parts):
                continue
            rows.append({**row, "work": work.name, "run": place.relative_to(work.folder.resolve()).as_posix(), "folder": str(place),
                         "bytes": _size(place / "adapter"), "verdict_name": say(row["verdict"]) if row["verdict"] else "",
                         "status_name": say(row["status"]), "picture": _picture(place)})  # fmt: skip
        started = {row["work"] for row in rows}
        return {"runs": rows, "works": [shortly(studio, work) for work in works if work.name not in started],
                "folder": str(studio.folders.home), "command": said.command, "notes": list(said.lines)}  # fmt: skip

    @made.get("/run")
    def one(work: str, run: str) -> dict[str, Any]:
        """A run for the comparison with another."""
        found = find_run(studio.folders, work, run)
        manifest, evaluation = found.manifest, found.evaluation or {}
        keys = ("question", "reference", "base", "adapter")
        return {
            "work": work, "run": found.word, "folder": str(found.path), "task": manifest.get("task"), "started": manifest.get("started"),
            "config": _settings(manifest), "metrics": manifest.get("metrics") or {}, "chosen": manifest.get("chosen"),
            "data": (manifest.get("data") or {}).get("sha256"), "examples": len((manifest.get("data") or {}).get("rows") or ()),
            "lineage": _lineage(studio, found, manifest), "history": _history(found), "bytes": _size(found.path / "adapter"),
            "sentence": evaluation.get("sentence") or [], "measures": measures(evaluation), "figures": figures(evaluation),
            "rows": [{key: row.get(key) for key in keys} for row in evaluation.get("rows") or ()], "samples": samples_of(found)[-1:],
        }  # fmt: skip

    @made.post("/continue", status_code=201)
    def go_on(wanted: Continuation) -> dict[str, Any]:
        found = find_run(studio.folders, wanted.work, wanted.run)
        if not found.work.config.is_file():
            raise Refused(409, say("{work} has no config to continue with.", work=found.work.name))
        if not (found.path / "adapter").is_dir():
            raise Refused(409, say("{path} holds no adapter to continue from.", path=printable(wanted.run)))
        text = read_config(found.work.config)
        changed(text, _moved(text, found.work))  # what cannot be changed is refused before anything is made
        work = studio.folders.new(safe_name(wanted.name) or f"{found.work.name}-2")
        values = {
            **_moved(text, found.work),
            "init_from_adapter": f"../{found.work.name}/{found.word}",
            "output_dir": f"./output/{work.name}",
        }
        after = changed(text, values)
        replace_text(work.config, after)
        work.append(command("cp", f"../{found.work.name}/{found.work.config.name}", work.config.name))
        note_changes(work, text, after)
        replace_text(work.hidden / "work.json", json.dumps({"task": task_of(found.work) or str(found.manifest.get("task", ""))}))
        return shortly(studio, work)

    return made


def _moved(text: str, work: Work) -> dict[str, Any]:
    """The keys of a config that name files in its work, as they are called in a work beside it.

    Raises:
        Refused: if the config cannot be read.
    """
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError:
        values = None
    if not isinstance(values, dict):
        raise Refused(409, say("{work}: the config cannot be read; mend it in the step before training.", work=work.name))

    def moved(value: Any) -> Any:
        if isinstance(value, list):
            return [moved(one) for one in value]
        if not isinstance(value, str) or not value or "\n" in value or len(value) > 1000 or Path(value).is_absolute():
            return value
        named = value.startswith(("./", "../", ".\\", "..\\"))
        try:
            there = named or (work.folder / value).exists()
        except (OSError, ValueError):
            there = False
        return f"../{work.name}/{value.removeprefix('./')}" if there else value

    found = {str(key): moved(value) for key, value in values.items() if isinstance(value, str | list)}
    return {key: value for key, value in found.items() if value != values[key]}


def _settings(manifest: dict[str, Any]) -> dict[str, Any]:
    """The config as it was trained, without what names places."""
    config = manifest.get("config")
    if not isinstance(config, dict):
        return {}

    def plain(value: Any) -> Any:  # one folder that was named in two ways is one
        return os.path.normpath(value) if isinstance(value, str) and os.path.isabs(value) else value

    return {key: plain(value) for key, value in config.items() if key not in ("output_dir", "task_type")}


def _lineage(studio: Studio, run: Run, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs before this one, the nearest first, and the work of each that lies in this studio."""
    found = []
    for parent in manifest.get("lineage") or ():
        if not isinstance(parent, dict):
            continue
        place = Path(str(parent.get("run", "")))
        place = (place if place.is_absolute() else run.work.folder / place).resolve()
        work = next((one for one in studio.folders.works() if place.is_relative_to(one.folder.resolve())), None)
        told = {"name": place.name, "run": str(parent.get("run", "")), "work": work.name if work else "",
                "path": place.relative_to(work.folder.resolve()).as_posix() if work else ""}  # fmt: skip
        found.append({**told, "there": (place / "manifest.json").is_file()})
    return found


def _history(run: Run) -> list[dict[str, Any]]:
    """What later commands did to the run, in their order."""
    found = []
    for place in sorted((run.path / "records").glob("*.json"), key=lambda one: (len(one.name), one.name)):
        record = read_json(place)
        if not isinstance(record, dict) or record.get("command") not in _COMMANDS:
            continue
        entries = record.get("entries") or {}
        step = (entries.get("chosen") or {}).get("step") if isinstance(entries, dict) else None
        found.append({"command": record["command"], "time": str(record.get("time", "")), "step": step})
    return found


def _picture(run: Path) -> str:
    """The picture that stands for an adapter of pictures, relative to the run; empty if there is none."""
    return "adapter/preview.png" if (run / "adapter" / "preview.png").is_file() else ""


def _size(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(one.stat().st_size for one in folder.iterdir() if one.is_file()) if folder.is_dir() else 0
