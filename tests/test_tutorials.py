# SPDX-License-Identifier: Apache-2.0
"""The tutorials are done from top to bottom: files are written as they stand there, commands run, and what is shown is what is printed."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import shlex
import shutil
from pathlib import Path

import pytest
from builders import ROOT, everyday

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```', re.MULTILINE | re.DOTALL)

# What would take minutes is begun and ended at once; the tables that it prints are the README's, which were measured with it.
SHORT = {
    "train text legal.yaml": ["--set", "max_steps=1", "--set", "eval_answers=false"],
    "train image cyberpunk.yaml": ["--set", "max_steps=1", "--set", "eval_answers=false", "--set", "sample_steps=1"],
    "sample output/cyberpunk": ["--steps", "1"],
}


@dataclasses.dataclass
class Step:
    """A file to write, or a command with what it printed."""

    kind: str
    title: str
    text: str
    shown: str = ""


def steps(page: Path) -> list[Step]:
    """What the reader of a page does, in order."""
    found: list[Step] = []
    for kind, title, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind == "text" and found and found[-1].kind == "sh" and not found[-1].shown:
            found[-1].shown = text
        elif kind == "sh" or title:
            found.append(Step(kind, title, text))
    return found


def pattern(shown: str) -> re.Pattern[str]:
    """Of the shown text: numbers may differ from computer to computer, and dots stand for anything."""
    lines = [" ".join(line.split()) for line in shown.strip().splitlines()]
    return re.compile(r"\n".join(".*?" if line == "…" else ".*?".join(map(_loose, line.split("…"))) for line in lines), re.DOTALL)


def _loose(text: str) -> str:
    return re.sub(r"\d+(\\?[.,]\d+)*", r"\\d[\\d.,]*", re.escape(text).replace(r"\ ", " "))


def put(step: Step, folder: Path) -> None:
    """Writes a file, or the rows of it that the title names."""
    name, _, rows = step.title.partition(", row")
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    if not rows:
        file.write_text(step.text, encoding="utf-8")
        return
    table = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8"))))
    for number, row in zip(re.findall(r"\d+", rows), csv.reader(io.StringIO(step.text)), strict=True):
        table[int(number) - 1] = row
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows(table)


@pytest.mark.slow  # four first hours in a quarter of a minute each: no other test does what a newcomer does, in one folder and in order
@pytest.mark.parametrize("page", everyday(TUTORIALS, 1, 2), ids=lambda page: page.stem)  # the pages of a pair do the same
def test_every_command_of_a_tutorial_does_what_is_shown(page, command, tmp_path, monkeypatch):
    (tmp_path / "stable-diffusion-webui" / "models" / "Lora").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("LORAFORGE_LANG", "zh" if page.name.endswith(".zh-CN.md") else "en")
    for step in steps(page):
        if step.kind != "sh":
            put(step, tmp_path)
            continue
        for line in step.text.strip().splitlines():
            run(shlex.split(line, comments=True), step.shown, command, monkeypatch)


@pytest.mark.parametrize("language", ["", ".zh-CN"])
def test_the_table_of_the_run_that_takes_minutes_is_the_readmes(language):
    step = next(step for step in steps(ROOT / "docs" / "tutorials" / f"lawyer{language}.md") if "train text legal.yaml" in step.text)
    assert step.shown and step.shown in (ROOT / f"README{language}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["lawyer", "illustrator"])
def test_both_languages_do_the_same(name):
    english, chinese = (steps(ROOT / "docs" / "tutorials" / f"{name}{language}.md") for language in ("", ".zh-CN"))
    assert [(step.kind, step.title) for step in english] == [(step.kind, step.title) for step in chinese]


def run(words: list[str], shown: str, command, monkeypatch) -> None:
    if words[0] != "loraforge":
        return shell(words)
    short = next((more for begun, more in SHORT.items() if " ".join(words[1:]).startswith(begun)), None)
    if words[1] == "serve" and "--new-token" not in words:
        answers(monkeypatch)
    code, out, err = command(*words[1:], *(short or ()))
    assert code == 0, f"{words}: {err}"
    if shown and words[1:] != ["train", "text", "legal.yaml"]:
        said = "\n".join(" ".join(line.split()) for line in f"{out}\n{err}".splitlines()) + "\n"
        assert pattern(shown).search(said), f"{words} printed\n{said}\nand the page shows\n{shown}"


def shell(words: list[str]) -> None:
    """The two commands of the shell that a tutorial needs."""
    if words[:2] == ["cp", "-r"]:
        shutil.copytree(*words[2:])
    else:
        assert words[0] == "rm" and len(words) == 2, words
        Path(words[1]).unlink()


def answers(monkeypatch) -> None:
    """The server is made, says where it listens, and is left before it waits for somebody."""
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets=None: None)
