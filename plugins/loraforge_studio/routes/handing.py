# SPDX-License-Identifier: Apache-2.0
"""Handing a run on: exports, serving, the card, the seal, and files to take along."""

from __future__ import annotations

import re
import secrets
import zipfile
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from loraforge import printable, speaker

from ..problems import Refused
from ..studio import Studio
from ..work.folders import HIDDEN, Work
from ..work.jobs import Job
from ..work.runs import Run, find_run

say = speaker(__name__)

_ADDRESS = re.compile(r"https?://[\w.:\[\]-]+:\d+")
_PACKED = 4_000_000_000  # bytes of a folder that is packed for a download
_SHOWN = 300  # files of an export that are named


class OfRun(BaseModel):
    """Something that is done to a run."""

    run: str = Field(max_length=400)


class Wanted(OfRun):
    """An export.

    Attributes:
        to: the exporter.
        webui: the folder of a WebUI into which it is installed as well; empty for none.
    """

    to: str = Field(max_length=60, pattern=r"^[\w.-]+$")
    webui: str = Field("", max_length=1000)
    overwrite: bool = False
    options: dict[Literal["quantize", "ollama-from"], str] = {}


class Proof(OfRun):
    """What a run is held against.

    Attributes:
        seal: kept elsewhere; empty for none.
        data: read the data as well.
    """

    seal: str = Field("", max_length=200, pattern=r"^[0-9a-fA-F\s]*$")
    data: bool = True


class Signer(BaseModel):
    """Whose key it will be."""

    name: str = Field(max_length=200)


def router(studio: Studio) -> APIRouter:
    """/api/works/NAME/hand and below, /api/key."""
    made = APIRouter(prefix="/api")
    listed: dict[str, list[dict[str, str]]] = {}  # what there is does not change while the studio runs, only its language does

    @made.get("/works/{name}/hand/exporters")
    def exporters(name: str, run: str) -> dict[str, Any]:
        """What the run's task can be exported to, and the files that were written."""
        found = find_run(studio.folders, name, run)
        language, task = studio.language, found.manifest.get("task")
        if language not in listed:
            listed[language] = [row for row in studio.ask(["list", "--json"]).done() if row["kind"] == "exporter"]
        return {"command": "loraforge list", "exporters": [
            {"name": row["name"], "help": say(row["help"]), "files": _files(found, found.path / "export" / row["name"])}
            for row in listed[language] if row["task"] == task
        ]}  # fmt: skip

    @made.get("/works/{name}/hand")
    def overview(name: str, run: str) -> dict[str, Any]:
        found = find_run(studio.folders, name, run)
        manifest = found.manifest
        return {
            "run": found.word, "task": manifest.get("task"), "serving": _serving(studio, found.work),
            "base": (manifest.get("config") or {}).get("base_model"), "golden": (found.path / "adapter" / "golden_prompts.json").is_file(),
            "seal": _seal(found), "signed": (found.path / "manifest.json.minisig").is_file(),
        }  # fmt: skip

    @made.post("/works/{name}/hand/export", status_code=201)
    def export(name: str, wanted: Wanted) -> dict[str, Any]:
        found = find_run(studio.folders, name, wanted.run)
        words: list[object] = ["export", found.word, "--to", wanted.to]
        if wanted.webui.strip():
            words += ["--webui", studio.folders.inside(wanted.webui.strip(), found.work), *(["--overwrite"] if wanted.overwrite else [])]
        for option, value in wanted.options.items():
            words += [f"--{option}", value.strip()] if value.strip() else []
        return studio.start(found.work, "export", [*words, "--json"], run=found.word, to=wanted.to)

    @made.post("/works/{name}/hand/serve", status_code=201)
    def serve(name: str, wanted: OfRun) -> dict[str, Any]:
        found = find_run(studio.folders, name, wanted.run)
        return studio.start(found.work, "serve", ["serve", found.word, "--port", "0"], run=found.word)

    @made.get("/works/{name}/hand/serving")
    def serving(name: str) -> dict[str, Any] | None:
        """The newest server of the work: ``job``, and ``address`` as soon as it answers there."""
        return _serving(studio, studio.folders.work(name))

    _trust(made, studio)
    _downloads(made, studio)
    return made


def _trust(made: APIRouter, studio: Studio) -> None:
    """The card, the seal and signatures."""

    @made.get("/works/{name}/hand/card")
    def card(name: str, run: str) -> dict[str, Any]:
        file = find_run(studio.folders, name, run).path / "model-card.md"
        return {"text": file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""}

    @made.post("/works/{name}/hand/card")
    def write(name: str, wanted: OfRun) -> dict[str, Any]:
        found = find_run(studio.folders, name, wanted.run)
        said = studio.ask(["card", found.word, "--json"], found.work, note=True)
        return {**said.done(), "command": said.command, "text": (found.path / "model-card.md").read_text(encoding="utf-8")}

    @made.post("/works/{name}/hand/verify")
    def verify(name: str, wanted: Proof) -> dict[str, Any]:
        found = find_run(studio.folders, name, wanted.run)
        seal = "".join(wanted.seal.split()).lower()
        words = ["verify", found.word, *(["--seal", seal] if seal else []), *([] if wanted.data else ["--no-data"]), "--json"]
        said = studio.ask(words, found.work, seconds=6 * 3600)
        if not isinstance(said.value, dict) or "sound" not in said.value:
            said.done()
            raise Refused(422, said.problems, said.command)
        return {**said.value, "command": said.command}  # exit code 1 says that something was altered, and what stands there says what

    @made.post("/key", status_code=201)
    def key(wanted: Signer) -> dict[str, Any]:
        said = studio.ask(["keygen", *(["--name", wanted.name.strip()] if wanted.name.strip() else []), "--json"])
        told = said.done()
        return {"public_key": told["public_key"], "id": told["id"], "key": told["key"], "command": said.command}


def _downloads(made: APIRouter, studio: Studio) -> None:
    @made.get("/works/{name}/download")
    def download(name: str, path: str) -> Response:
        """A file of a work as a file to keep, never shown; a folder packed as one."""
        work = studio.folders.work(name)
        place = studio.folders.inside(path, work)
        if any(part == HIDDEN for part in place.parts) or place.name == "review-keys.json":
            raise Refused(403, say("{path} is not handed out.", path=printable(path)))
        if place.is_file():
            return _attached(place, place.name)
        if not place.is_dir() or not place.is_relative_to(work.folder) or place == work.folder:
            raise Refused(404, say("there is no file {path}.", path=printable(path)))
        packed = _packed(work, place)
        return _attached(packed, f"{work.name}-{place.name}.zip", BackgroundTask(packed.unlink, missing_ok=True))


def _attached(place: Path, name: str, after: BackgroundTask | None = None) -> FileResponse:
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cache-Control": "private, no-cache",
    }
    return FileResponse(place, media_type="application/octet-stream", headers=headers, background=after)


def _packed(work: Work, folder: Path) -> Path:
    """The folder as a ZIP file in the studio's own; adapters do not shrink, so nothing is compressed.

    Raises:
        Refused: if it is too large, or the disk takes nothing.
    """
    files = [one for one in sorted(folder.rglob("*")) if one.is_file() and not one.is_symlink()]
    total = sum(one.stat().st_size for one in files)
    if total > _PACKED:
        raise Refused(413, say("{path} holds {n} GB: copy the folder itself.", path=folder, n=total // 10**9))
    place = work.hidden / f"{secrets.token_hex(8)}.zip"
    try:
        work.hidden.mkdir(exist_ok=True)
        with zipfile.ZipFile(place, "w", zipfile.ZIP_STORED) as out:
            for one in files:
                out.write(one, f"{folder.name}/{one.relative_to(folder).as_posix()}")
    except OSError as error:
        place.unlink(missing_ok=True)
        raise Refused(507, say("{path} cannot be packed: {error}.", path=folder, error=error)) from None
    return place


def _files(run: Run, folder: Path) -> list[dict[str, Any]]:
    """What an export consists of, relative to the work."""
    found = [one for one in sorted(folder.rglob("*")) if one.is_file()] if folder.is_dir() else []
    before = run.path.as_posix()
    return [
        {"path": f"{run.word}{one.as_posix()[len(before) :]}", "name": one.relative_to(folder).as_posix(), "bytes": one.stat().st_size}
        for one in found[:_SHOWN]
    ]


def _seal(run: Run) -> str:
    """The seal that lies beside the manifest; empty if there is none."""
    try:
        return (run.path / "manifest.sha256").read_text(encoding="ascii").split()[0][:64]
    except (OSError, ValueError, IndexError):
        return ""


def _serving(studio: Studio, work: Work) -> dict[str, Any] | None:
    job = next((one for one in studio.jobs.of(work) if one.kind == "serve"), None)
    return None if job is None else {"job": job.as_json(), "address": _address(job) if job.state == "running" else ""}


def _address(job: Job) -> str:
    """Where it answers, as it says on standard output; empty until then."""
    try:
        with (job.folder / "out.txt").open("rb") as file:
            said = file.read(1 << 16).decode("utf-8", "replace")
    except OSError:
        return ""
    found = _ADDRESS.search(said)
    return found[0] if found else ""
