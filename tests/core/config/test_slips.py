# SPDX-License-Identifier: Apache-2.0
"""YAML as people write it: each slip is told at its line, with the line that was meant."""

from __future__ import annotations

import ast
import inspect
import os
import re
import string
from pathlib import Path

import pytest
import yaml

from loraforge import ConfigError, RunConfig
from loraforge.config.schema import validate
from loraforge.config.slips import number_meant, parser_says
from loraforge.config.yaml_reader import read


def problems(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "c.yaml"
    file.write_bytes(text.encode())
    try:
        validate(read(file), [RunConfig])
    except ConfigError as error:
        return [line.replace(str(file), "c.yaml") for line in error.problems]
    return []


def one(tmp_path: Path, line: str) -> str:
    """What is said of the third line of an otherwise sound config."""
    found = problems(tmp_path, f"train_data_dir: .\nbase_model: tiny-chat\n{line}\nepochs: 2\n")
    assert len(found) == 1, found
    return found[0]


PATHS = ["D:\\法律\\data", "D:\\new\\table", "C:\\Users\\me\\data", "C:\\data\\", "E:\\a b\\c", ".\\data\\new", "..\\legal\\x", "~\\data"]
PATHS += [f"D:\\{letter}x" for letter in string.ascii_letters + string.digits]


@pytest.mark.parametrize("path", PATHS)
def test_a_windows_path_in_double_quotes(tmp_path, path):
    """For every letter: some are escapes that YAML refuses, some are escapes that it reads, and the path would have had a new line in it."""
    said = one(tmp_path, f'init_from_adapter: "{path}"')
    assert said.startswith("c.yaml:3: init_from_adapter: in double quotes a backslash begins an escape")
    assert f"init_from_adapter: '{path}'" in said and f"init_from_adapter: {path.replace(chr(92), '/')}" in said
    line = f"init_from_adapter: '{path}'"
    assert yaml.safe_load(line) == {"init_from_adapter": path}  # the advice is sound YAML of the same path


@pytest.mark.parametrize("written", ['"D:\\\\data\\\\new"', "'D:\\data\\new'", "D:\\data\\new", "D:/data/new"])
def test_a_windows_path_that_is_written_well(tmp_path, written):
    said = one(tmp_path, f"init_from_adapter: {written}")
    assert "escape" not in said and ("there is no" in said or "is neither at" in said)
    if os.name != "nt":
        assert "That is a path of Windows" in said


def test_a_new_line_in_a_relative_path_is_explained(tmp_path):
    assert "In double quotes a backslash begins an escape" in one(tmp_path, 'init_from_adapter: "data\\new"')


@pytest.mark.parametrize(("left", "right"), ["“”", "‘’", "「」", "『』", "＂＂", "””"])
def test_typographic_quotes(tmp_path, left, right):
    said = one(tmp_path, f"revision: {left}main{right}")
    assert said.startswith(f"c.yaml:3: revision: {left}main{right} stands in typographic quotes") and 'revision: "main"' in said
    assert problems(tmp_path, f"train_data_dir: .\nbase_model: tiny-chat\nrevision: '{left}main{right}'\n") == []  # in straight ones: meant


@pytest.mark.parametrize("line", ["epochs：6", "epochs ： 6", "epochs：6 # 轮"])
def test_a_full_width_colon(tmp_path, line):
    found = problems(tmp_path, f"base_model: tiny-chat\n{line}\nseed: 1\n")
    assert found == ["c.yaml:2: has a full-width colon (：). Write an ordinary one and a space: 'key: value'."]
    assert problems(tmp_path, line + "\n")[0].startswith("c.yaml:1: has a full-width colon")  # also where no line is right


@pytest.mark.parametrize("space", ["\u3000", "\u00a0", "\u2003"])
def test_spaces_that_yaml_does_not_know(tmp_path, space):
    for line in (f"seed:{space}6", f"{space}seed: 6", f"revision: main{space}", f"revision: {space}main"):
        found = problems(tmp_path, f"base_model: tiny-chat\n{line}\nepochs: 1\n")
        assert found == ["c.yaml:2: there is a space of another kind, which YAML does not know. Type an ordinary one."], (line, found)


def test_a_missing_space_and_a_tab(tmp_path):
    assert problems(tmp_path, "seed:1\nepochs:2\n")[0].startswith("c.yaml:1: a space is missing after the colon")
    assert problems(tmp_path, "seed: 1\n\tepochs: 2\n") == [
        "c.yaml:2: is not valid YAML: it begins with a tab. Use spaces, or nothing: the file is flat."
    ]


@pytest.mark.parametrize(
    "text",
    ["seed = 1\nepochs = 2\n", "[training_arguments]\nseed = 1\n", "--seed 1 \n--epochs 2\n", "seed＝1\nepochs＝2\n"],
)
def test_toml_and_command_lines(tmp_path, text):
    found = problems(tmp_path, text)
    assert found == [
        "c.yaml:1: is not written as YAML (2 lines are like this one). Write 'key: value' instead of 'key = value' or --key value, and no [sections]."
    ]


@pytest.mark.parametrize("comma", ["，", "、", " ， "])
def test_full_width_commas_in_a_list(tmp_path, comma):
    assert one(tmp_path, f"export: [peft{comma}merged]").startswith("c.yaml:3: export: has a full-width comma")
    assert problems(tmp_path, "train_data_dir: .\nbase_model: tiny-chat\nexport: [一只猫，坐着]\n") == []  # one item in Chinese


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_ends_of_lines_of_every_system(tmp_path, end):
    assert problems(tmp_path, end.join(["train_data_dir: .", "base_model: tiny-chat", "seed: 1", ""])) == []
    assert problems(tmp_path, end.join(["train_data_dir: .", "base_model: tiny-chat", "seed: x", ""]))[0].startswith("c.yaml:3: seed")


@pytest.mark.parametrize(
    ("key", "written", "meant"),
    [("batch_size", "２", "2"), ("batch_size", "'1,000'", "1000"), ("batch_size", "1,000", "1000"), ("save_steps", "500步", "500"),
     ("save_steps", "100 steps", "100"), ("epochs", "3轮", "3"), ("epochs", "３.５", "3.5"), ("eval_ratio", "20%", "0.2"),
     ("eval_ratio", "0,2", "0.2"), ("learning_rate", "１e-４", "1e-4"), ("batch_size", "４", "4"), ("epochs", "10epochs", "10")],
)  # fmt: skip
def test_numbers_as_people_write_them(tmp_path, key, written, meant):
    said = one(tmp_path, f"{key}: {written}") if key != "epochs" else problems(
        tmp_path, f"train_data_dir: .\nbase_model: tiny-chat\n{key}: {written}\n")[0]  # fmt: skip
    assert said.startswith(f"c.yaml:3: {key}: must be a") and said.endswith(f" Write {key}: {meant}")
    assert problems(tmp_path, f"train_data_dir: .\nbase_model: tiny-chat\n{key}: {meant}\n") == []


@pytest.mark.parametrize("written", ["many", "1k", "2w", "8B", "1.2.3", "1-2", "一千", "", "0x10", "1e", "--5", 7, None, ["1"]])
def test_what_is_unclear_is_not_guessed(written):
    assert number_meant(written) == ""


@pytest.mark.parametrize("text", ["1", "1.5", "2e-4"])
def test_a_number_needs_no_advice(text):
    assert number_meant(text) == ""


@pytest.mark.parametrize(("word", "value"), [("yes", True), ("no", False), ("on", True), ("off", False), ("True", True), ("FALSE", False), ("1", True), ("0", False)])  # fmt: skip
def test_switches(tmp_path, word, value):
    file = tmp_path / "c.yaml"
    file.write_text(f"train_data_dir: .\nbase_model: tiny-chat\ngradient_checkpointing: {word}\n", encoding="utf-8")
    assert validate(read(file), [RunConfig])[RunConfig].gradient_checkpointing is value


@pytest.mark.parametrize(
    ("line", "meant"),
    [("export: peft", "export: [peft]"), ("export: peft,merged", "export: [peft, merged]"), ("export: peft，merged", "export: [peft, merged]"),
     ("precision: BF16", "precision: bf16"), ("precision: 4-bit", "precision: 4bit"), ("lora_variant: DoRA", "lora_variant: dora"),
     ("lr_scheduler: constant-with-warmup", "lr_scheduler: constant_with_warmup")],
)  # fmt: skip
def test_lists_and_choices(tmp_path, line, meant):
    said = one(tmp_path, line)
    assert said.startswith("c.yaml:3: ") and said.endswith(f" Write {meant}")
    assert problems(tmp_path, f"train_data_dir: .\nbase_model: tiny-chat\n{meant}\n") == []


def test_a_choice_that_is_misspelt(tmp_path):
    assert one(tmp_path, "optimizer: adamw8").endswith("Did you mean 'adamw_8bit'?") or "Did you mean 'adamw'?" in one(
        tmp_path, "optimizer: adamw8"
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [("revision: a: b", "second colon"), ("seed", "without a colon"), ("seed: 1\n  epochs: 2", "second colon"), ('revision: "a" b', "closing quote"),
     ('revision: "abc', "a quote is opened"), ("revision: 'abc", "a quote is opened"), ("export: [peft", "a bracket is opened"),
     ("checks: {a: 'off'", "a bracket is opened"), ("revision: @main", "begins with @"), ("revision: `x`", "begins with `"),
     ("revision: %x", "begins with %"), ('revision: "a\\qb"', "escape"), ("lora_target: *proj", "stands for something else")],
)  # fmt: skip
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_parsers_words_are_plain(tmp_path, monkeypatch, language, line, words):
    """In Chinese nothing of PyYAML's English is left."""
    monkeypatch.setenv("LORAFORGE_LANG", language)
    found = "\n".join(problems(tmp_path, f"train_data_dir: .\nbase_model: tiny-chat\n{line}\n"))
    assert (
        words in found
        if language == "en"
        else not any(text in found for text in ("expected", "found", "mapping", "block", "token", "scan"))
    )


def parsers_problems() -> list[str]:
    """All problems that the installed PyYAML can name, from its source, with what varies in them filled in."""
    found = set()
    for module in (yaml.scanner, yaml.parser, yaml.composer, yaml.constructor):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith("Error") and len(node.args) >= 3:
                texts = [part.value for part in ast.walk(node.args[2]) if isinstance(part, ast.Constant) and isinstance(part.value, str)]
                found |= {re.sub("%[rsd]", "'x'", text) for text in texts if " " in text}
    return sorted(found)


@pytest.mark.parametrize("problem", parsers_problems())
def test_every_problem_of_the_parser_is_told_in_chinese(monkeypatch, problem):
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    assert len(parsers_problems()) > 40
    said = parser_says(problem)
    assert re.search("[\u4e00-\u9fff]", said) and not re.search("[A-Za-z]{2}", said.replace("YAML", "").replace("key: value", ""))


@pytest.mark.parametrize(
    "line", ["seed: !!int abc", "seed: !!float x", "seed: !!bool maybe", "seed: !!python/name:os.system x", "seed: " + "[" * 2000]
)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_a_tag_asks_for_and_is_not_there(tmp_path, monkeypatch, language, line):
    monkeypatch.setenv("LORAFORGE_LANG", language)
    found = "\n".join(problems(tmp_path, f"train_data_dir: .\nbase_model: tiny-chat\n{line}\n"))
    assert "invalid literal" not in found and "could not" not in found and "recursion" not in found and found
    assert language == "en" or ("YAML" in found and not re.search(r"\b(?:is|not|the|of|found)\b", found))
