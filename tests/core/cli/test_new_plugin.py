# SPDX-License-Identifier: Apache-2.0
"""``loraforge new-plugin``: what it says, and that what it prints works."""

from __future__ import annotations

import json

import pytest


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_it_says_what_is_there_and_what_comes_next(command, tmp_path):
    code, out, err = command("new-plugin", "house-rules", "--kind", "check", "--kind", "exporter")
    assert code == 0 and err == ""
    for line in (
        "house-rules: the package loraforge-house-rules, with its tests:",
        "  pip install -e './house-rules[dev]'",
        "  pytest house-rules",
        "  loraforge export output/my-run --to house-rules",
    ):
        assert line in out.splitlines()
    assert (tmp_path / "house-rules" / "src" / "loraforge_house_rules" / "check.py").is_file()
    code, out, err = command("new-plugin", "house-rules")
    assert code == 2 and "house-rules is there already; nothing was written" in err


def test_without_a_kind_it_is_a_loader_and_json_says_the_same(command, tmp_path):
    code, out, _ = command("new-plugin", "notes", "--json")
    said = json.loads(out)
    assert code == 0 and said["kinds"] == ["loader"] and said["plugin"] == "notes"
    assert all((tmp_path / "notes" / name).is_file() for name in said["files"]) and len(said["files"]) == 7


@pytest.mark.parametrize(
    ("given", "words"),
    [(["法律"], "cannot be the name of a plugin"), (["text"], "there is a plugin 'text' already"),
     (["x", "--kind", "loder"], "loder"), (["train", "--kind", "command"], "there is a command 'train' already"), ([], "NAME")],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_a_sentence(given, words, command, tmp_path):
    code, _, err = command("new-plugin", *given)
    assert code == 2 and words in err and "Traceback" not in err and list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_written_is_a_sentence(command, tmp_path, monkeypatch):
    import tempfile

    def refused(*arguments, **named):
        raise PermissionError(13, "Permission denied", "./.mine.x")

    monkeypatch.setattr(tempfile, "mkdtemp", refused)
    code, _, err = command("new-plugin", "mine")
    assert code == 2 and "Permission denied" in err and "Traceback" not in err


def test_a_plugin_of_it_is_used_as_the_last_lines_say(command, tmp_path):
    command("new-plugin", "house-notes")
    (tmp_path / "data").mkdir()
    rows = "".join(f"## Question {i} of the house?\nAnswer number {i}.\n" for i in range(12))
    (tmp_path / "data" / "faq.md").write_text(rows, encoding="utf-8")
    (tmp_path / "my.yaml").write_text("train_data_dir: data\nbase_model: tiny-chat\noutput_dir: out\n", encoding="utf-8")
    file = "house-notes/src/loraforge_house_notes/loader.py"
    code, out, err = command("-p", file, "check", "text", "my.yaml", "--set", "data_loader=house-notes", "--json")
    said = json.loads(out)
    assert code == 0 and said["examples"] + said["held_out"] == 12, err
