# SPDX-License-Identifier: Apache-2.0
"""``loraforge init``, and ``--example`` in place of a config."""

from __future__ import annotations

import json

import pytest
from builders.tiny_text import write_rows


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("arguments", "place"), [(("text",), "."), (("text", "新 项目"), "新 项目"), (("p", "text"), "p")])
def test_without_data_a_commented_config_and_a_folder_for_them(command, tmp_path, arguments, place):
    code, out, err = command("init", *arguments)
    assert code == 0, err
    config = tmp_path / place / "my.yaml"
    lines = config.read_text(encoding="utf-8").splitlines()
    assert (tmp_path / place / "data").is_dir() and "loraforge check text" in out and "loraforge train text" in out
    assert 8 < len(lines) < 20 and sum("#" in line for line in lines) >= len(lines) - 1
    code, _, err = command("check", "text", config)
    assert code == 2 and "there is no data file" in err and "my.yaml" not in err


def test_the_next_lines_can_be_pasted(command, tmp_path):
    import shlex

    write_rows(tmp_path / "我的 表" / "metadata.csv", 30)
    out = command("init", "text", "--data", "我的 表")[1]
    lines = [shlex.split(line) for line in out.splitlines() if line.startswith("  loraforge ")]
    assert [line[:3] for line in lines] == [["loraforge", "check", "text"], ["loraforge", "train", "text"]]
    code, checked, err = command(*lines[0][1:])
    assert code == 0 and checked.startswith("In order"), err


def test_a_plugin_given_as_a_file_is_given_again_in_the_next_lines(command, tmp_path):
    (tmp_path / "mine.py").write_text("")
    code, out, err = command("-p", "mine.py", "init", "text")
    assert code == 0 and "  loraforge -p mine.py check text my.yaml\n  loraforge -p mine.py train text my.yaml\n" in out, err
    code, _, err = command("-p", "mine.py", "init", "--data", ".")
    assert code == 2 and "loraforge -p mine.py init text --data ." in err


@pytest.mark.parametrize("arguments", [("text", "--data", "t.csv"), ("text", "t.csv")], ids=["--data", "in its place"])
def test_a_table_is_looked_at_and_what_was_chosen_is_said(command, tmp_path, arguments):
    write_rows(tmp_path / "metadata.csv", 30)
    (tmp_path / "metadata.csv").rename(tmp_path / "t.csv")
    code, out, err = command("init", *arguments)
    assert code == 0, err
    assert "max_seq_length: 128  (the longest row has " in out and "metadata_path: " in (tmp_path / "my.yaml").read_text(encoding="utf-8")
    assert command("check", "text", "my.yaml")[0] == 0


def test_nothing_is_overwritten(command, tmp_path):
    (tmp_path / "my.yaml").write_text("mine\n", encoding="utf-8")
    for arguments in (("text",), ("text", "--data", "."), ("--from", "x.toml")):
        code, _, err = command("init", *arguments)
        assert code == 2 and "my.yaml exists already; nothing was written" in err, arguments
    assert (tmp_path / "my.yaml").read_text(encoding="utf-8") == "mine\n" and [path.name for path in tmp_path.iterdir()] == ["my.yaml"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "for what task? Type loraforge init image or loraforge init text"),
        (("txet", "x"), "Did you mean 'text'"),
        (("txt",), "Did you mean 'text'"),
        (("mine",), "for what task? Type loraforge init image mine or loraforge init text mine"),
        (("--data", "nowhere"), "there is no such file or folder"),
        (("text", "file/x"), "file is a file, and a folder is needed there"),
        (("text", "--example", "legal", "--data", "file"), "--example and --data exclude each other"),
        (("text", "--example", "legal", "--base", "b"), "--base and --example exclude each other"),
        (("--example", "nonsense"), "there is no example 'nonsense'"),
    ],
)
def test_what_cannot_be_is_a_sentence_and_writes_nothing(command, tmp_path, arguments, said):
    (tmp_path / "file").write_text("", encoding="utf-8")
    code, _, err = command("init", *arguments)
    assert code == 2 and said in err and [path.name for path in tmp_path.iterdir()] == ["file"]


def test_problems_of_the_data_are_said_and_the_config_is_there(command, tmp_path):
    (tmp_path / "t.csv").write_text("甲,乙\n1,2\n", encoding="utf-8")
    code, out, err = command("init", "text", "--data", "t.csv")
    assert code == 0, err
    told = next(line.strip() for line in out.splitlines() if "no column is" in line)
    assert told in command("check", "text", "my.yaml")[2]


def test_an_example_is_written_or_stands_in_for_a_config(command, tmp_path):
    code, out, err = command("init", "--example", "legal", "there")
    assert code == 0 and "Written: there/legal.yaml" in out.replace("\\", "/"), err
    code, out, err = command("check", "--example", "legal", "--json")
    assert code == 0 and json.loads(out)["examples"] == 126 and "Written: legal.yaml" in err
    code, out, err = command("check", "text", "--example", "legal")
    assert code == 0 and "Written" not in err
    code, _, err = command("check", "text", "legal.yaml", "--example", "legal")
    assert code == 2 and "--example and legal.yaml exclude each other" in err
    (tmp_path / "legal.yaml").write_text("mine: 1\n", encoding="utf-8")
    code, _, err = command("train", "text", "--example", "legal")
    assert code == 2 and "no longer the example as it came" in err


def test_as_json(command, tmp_path):
    write_rows(tmp_path / "data" / "metadata.csv", 30)
    told = json.loads(command("init", "text", "--json")[1])  # the folder data is there already, and is looked at
    assert told["config"] == "my.yaml" and told["chosen"]["max_seq_length"]["value"] == 128


def test_a_config_of_another_program_becomes_ours(command, tmp_path):
    (tmp_path / "c.yaml").write_text("model_name_or_path: tiny-chat\nstage: sft\nlora_rank: 8\nneftune_noise_alpha: 5\n", encoding="utf-8")
    code, out, err = command("init", "--from", "c.yaml", "ours")
    assert code == 0 and "neftune_noise_alpha: " in out, err
    text = (tmp_path / "ours" / "my.yaml").read_text(encoding="utf-8")
    assert "base_model: tiny-chat" in text and "# model_name_or_path" in text and "# neftune_noise_alpha: " in text
