# SPDX-License-Identifier: Apache-2.0
"""docs/files.md names every key of the files that a run really leaves, and no key that no run leaves."""

from __future__ import annotations

import csv
import json
import re

import pytest
from builders import ROOT

from loraforge.testing import finished_run

SOMETIMES = {"figures", "cut", "earlier"}  # of other tasks, of a run that continues one, of one with too little time


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that answered its held-out questions; a few seconds."""
    return finished_run(tmp_path_factory.mktemp("files"), eval_answers=True, max_steps=2, save_steps=2).path


def tables(heading: str) -> list[set[str]]:
    """The names in the first column of each table below a heading."""
    page = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)[1]
    found = re.findall(r"^\|[^\n]*\|\n\|---[^\n]*\n((?:\|[^\n]*\n)+)", section, re.MULTILINE)
    return [{name for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])} for table in found]


def test_manifest(run):
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    keys, data, rows = tables("manifest.json")
    assert keys == manifest.keys() and data == manifest["data"].keys()
    assert rows == {key for row in manifest["data"]["rows"] for key in row}


def test_evaluation(run):
    result = json.loads((run / "eval.json").read_text(encoding="utf-8"))
    keys, comparisons, rows = tables("eval.json")
    assert keys - SOMETIMES == result.keys()
    assert comparisons == result["comparisons"][0].keys() and rows == result["rows"][0].keys()


def test_log(run):
    events = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(tables("log.jsonl")[0] <= event.keys() for event in events)
    steps = [event["step"] for event in events if event["event"] == "StepFinished"]
    assert steps == [1, 2], "the example of the page"


def test_adapter_and_checkpoint(run):
    files, loraforge_json = tables("adapter/")
    assert {file.name for file in (run / "adapter").iterdir()} == files - {"preview.png"}
    assert json.loads((run / "adapter" / "loraforge.json").read_text(encoding="utf-8")).keys() == loraforge_json
    assert {f"{file.name}/" if file.is_dir() else file.name for file in (run / "checkpoints" / "step-000002").iterdir()} == tables(
        "checkpoints/step-000050/"
    )[0]


def test_folder(run):
    """Everything there is on the page."""
    there = {f"{file.name}/" if file.is_dir() else file.name for file in run.iterdir()}
    assert there - tables("The folder")[0] == set()


def test_record(run, command):
    assert command("export", run, "--to", "merged")[0] == 0
    record = json.loads((run / "records" / "0001.json").read_text(encoding="utf-8"))
    assert tables("records/0001.json")[0] == record.keys()


def test_findings(project, command, tmp_path):
    command("check", "text", project(), "--report", tmp_path / "findings.csv")
    with (tmp_path / "findings.csv").open(encoding="utf-8-sig", newline="") as file:
        assert tables("findings.csv")[0] == set(next(csv.reader(file)))
