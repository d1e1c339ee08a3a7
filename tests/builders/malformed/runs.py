# SPDX-License-Identifier: Apache-2.0
"""Malformed runs, checkpoints and waivers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from builders.malformed.adapters import _first, _rewrite
from builders.malformed.bases import _NO_JSON, _TRAIN, _damaged_weights
from builders.malformed.case import Case, sound

_ODD: dict[str, Any] = {"text": "x", "a number": 3, "a list": [1], "true": True}


def _run_with(change: Callable[[Path], Any]) -> Callable[[Path, Path, Path], None]:
    def build(here: Path, base: Path, run: Path) -> None:
        change(shutil.copytree(run, here / "run"))

    return build


def _run_cases() -> Iterator[Case]:
    ask, out = ("sample", "run", "x", "--max-tokens", "1"), ("export", "run", "--to", "peft", "--out", "new")
    for name, written in _NO_JSON.items():
        change = _run_with(lambda f, w=written: (f / "manifest.json").write_bytes(w if isinstance(w, bytes) else w.encode()))
        yield Case("run", f"manifest.json: {name}", change, ("manifest.json",), ask)
        yield Case("run", f"manifest.json, verified: {name}", change, ("manifest.json",), ("verify", "run"))
    for key in ("config", "template", "task", "family", "base", "data", "facts", "chosen", "exports"):
        for name, value in _ODD.items():
            if key in ("task", "family") and name not in ("a list", "a number"):
                continue
            change = _run_with(_rewrite("manifest.json", lambda old, key=key, value=value: {**old, key: value}))
            yield Case(
                "run",
                f"manifest.json: {key} is {name}",
                change,
                ("run",) if key not in ("task", "family") else (),
                ask if name != "text" else out,
            )
    entries: dict[str, dict[str, Any]] = {
        "jinja that is a number": {"jinja": 3}, "jinja that is broken": {"jinja": "{% for %}"}, "stops that are a number": {"stops": 3},
        "tokens that are a list": {"tokens": [1]}, "kwargs that are text": {"kwargs": "x"}, "an inline that is a list": {"inline": [1]}, "a system that is a list": {"system": [1]},
        "a name that is a list": {"name": [1]},
    }  # fmt: skip
    for name, entry in entries.items():
        change = _run_with(_rewrite("manifest.json", lambda old, entry=entry: {**old, "template": {**old["template"], **entry}}))
        yield Case("run", f"template: {name}", change, (), ask)
    for name, entry in {"a rank that is text": {"lora_rank": "x"}, "no base": {"base_model": None}, "a base that is gone": {"base_model": "/nowhere/at/all"}, "a precision that is none": {"precision": "fp9"}}.items():  # fmt: skip
        change = _run_with(_rewrite("manifest.json", lambda old, entry=entry: {**old, "config": {**old["config"], **entry}}))
        yield Case("run", f"config: {name}", change, (), ask)
    yield Case("run", "no manifest", _run_with(lambda f: (f / "manifest.json").unlink()), ("run",), ask)
    yield Case("run", "no adapter", _run_with(lambda f: shutil.rmtree(f / "adapter")), ("run",), ask)
    yield Case("run", "missing", lambda here, base, run: None, ("run",), ask)
    yield Case("run", "a file", lambda here, base, run: (here / "run").write_text("x"), ("run",), ask)
    yield Case("run", "an adapter that was altered", _run_with(_altered), ("adapter_model.safetensors",), out)
    yield Case("run", "an adapter that was altered, verified", _run_with(_altered), (), ("verify", "run"), 1)  # documented: 1
    at = ("sample", "run", "x", "--max-tokens", "1", "--adapter", "run/checkpoints/step-000001")
    for name in ("empty", "truncated", "a pickle", "a length that lies"):

        def damage(folder: Path, name: str = name) -> None:
            file = folder / "checkpoints" / "step-000001" / "adapter" / "adapter_model.safetensors"
            file.write_bytes(_damaged_weights(file.read_bytes())[name])

        yield Case("checkpoint", f"its adapter: {name}", _run_with(damage), ("step-000001",), at)
        yield Case("checkpoint", f"its adapter, promoted: {name}", _run_with(damage), ("step-000001",), ("promote", "run", "1"))
    yield Case("checkpoint", "one that is not there", _run_with(lambda f: None), ("run",), ("promote", "run", "7"))
    yield Case("checkpoint", "resuming a finished run", _resumed(lambda f: None), ("out",), (*_TRAIN, "--resume"))
    for name, written in _NO_JSON.items():
        yield Case("checkpoint", f"resuming, manifest.json: {name}", _resumed(lambda f, w=written: (f / "manifest.json").write_bytes(w if isinstance(w, bytes) else w.encode())), ("manifest.json",) if name != "null" else (), (*_TRAIN, "--resume"))  # fmt: skip


def _altered(run: Path) -> None:
    _first(lambda t: t * 2)(run / "adapter")


def _resumed(change: Callable[[Path], Any]) -> Callable[[Path, Path, Path], None]:
    def build(here: Path, base: Path, run: Path) -> None:
        sound(here, base)
        change(shutil.copytree(run, here / "out"))

    return build


WAIVERS: dict[str, str | bytes] = {
    "empty": "", "other columns": "a,b\n1,2\n", "binary": bytes(range(256)), "a workbook": b"PK\x03\x04", "nul bytes": b"waive,id\0\n", "JSON": '[{"id": 1}]',
    "an open quote": 'severity,check,"where\n', "a huge cell": 'waive,"' + "x" * 300_000,
}  # fmt: skip


def _waiver_cases() -> Iterator[Case]:
    for name, written in WAIVERS.items():

        def build(here: Path, base: Path, run: Path, written: str | bytes = written) -> None:
            (here / "w.csv").write_bytes(written.encode() if isinstance(written, str) else written)
            sound(here, base, waivers=str(here / "w.csv"))

        yield Case("waivers", name, build, ("w.csv",))
    yield Case("waivers", "missing", lambda here, base, run: sound(here, base, waivers=str(here / "w.csv")), ("w.csv",))
    yield Case(
        "waivers",
        "a folder",
        lambda here, base, run: ((here / "w.csv").mkdir(), sound(here, base, waivers=str(here / "w.csv")))[1],
        ("w.csv",),
    )
