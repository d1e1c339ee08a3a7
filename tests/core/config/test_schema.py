# SPDX-License-Identifier: Apache-2.0
"""Flat YAML: every error at its line, all at once; YAML 1.1's traps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import Field

from loraforge import ConfigError, Keys, PluginError, RunConfig
from loraforge.config import key_docs
from loraforge.config.advice import advice
from loraforge.config.key_docs import schema
from loraforge.config.schema import validate
from loraforge.config.yaml_reader import read
from loraforge.plan import _owners, make_plan

GOOD = "train_data_dir: .\nbase_model: tiny-chat\n"


def source(tmp_path: Path, text: str, *overrides: str):
    file = tmp_path / "c.yaml"
    file.write_text(text, encoding="utf-8")
    return read(file, overrides)


def values(tmp_path: Path, text: str, *overrides: str) -> RunConfig:
    return validate(source(tmp_path, GOOD + text, *overrides), [RunConfig])[RunConfig]


def problems(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        validate(source(tmp_path, text, *overrides), [RunConfig])
    return [line.replace(str(tmp_path / "c.yaml"), "c.yaml") for line in error.value.problems]


@pytest.mark.parametrize("written", ["2e-4", "1.5e-4", "0.0002", "2.0E-04", ".0002"])
def test_numbers_in_scientific_notation_are_numbers(tmp_path, written):
    assert values(tmp_path, f"learning_rate: {written}").learning_rate == pytest.approx(float(written))


def test_no_is_text_where_text_is_wanted_and_false_where_a_switch_is(tmp_path):
    assert values(tmp_path, "revision: no").revision == "no"
    assert values(tmp_path, "gradient_checkpointing: no").gradient_checkpointing is False
    assert values(tmp_path, "revision: 2024-01-02").revision == "2024-01-02"


def test_leading_zero_is_not_octal(tmp_path):
    assert values(tmp_path, "seed: 010").seed == 10


def test_a_duplicate_key_is_an_error_that_names_both_lines(tmp_path):
    assert problems(tmp_path, GOOD + "seed: 1\nseed: 2\n") == ["c.yaml:4: 'seed' is given twice (first at c.yaml:3)."]


def test_all_problems_at_once_in_the_order_of_the_file(tmp_path):
    found = problems(
        tmp_path, GOOD + "lora_rnak: 8\nbatch_size: 0\nepochs: many\ngradient_checkpointing: 7\nprecision: fp7\nlora_rank: true\n"
    )
    assert found[0] == "c.yaml:3: unknown key 'lora_rnak'. Did you mean 'lora_rank'?"
    assert found[1] == "c.yaml:4: batch_size: must be 1 or more; got 0. (examples per forward pass and device)"
    assert found[2].startswith("c.yaml:5: epochs: must be a number; got 'many'.")
    assert found[3].startswith("c.yaml:6: gradient_checkpointing: must be true or false; got 7.")
    assert found[4].startswith("c.yaml:7: precision: must be one of 'auto', 'fp32', 'bf16', 'fp16', 'fp8', '4bit'; got 'fp7'.")
    assert found[5] == "c.yaml:8: lora_rank: must not be true or false; got true."
    assert len(found) == 6


def test_missing_keys_are_named_with_their_help(tmp_path):
    found = problems(tmp_path, "seed: 1\n")
    assert any("'train_data_dir' is missing. The folder with the examples." in line for line in found)
    assert any("'base_model' is missing." in line for line in found)


def test_set_wins_and_is_named_in_errors(tmp_path):
    assert values(tmp_path, "seed: 1", "seed=7", "learning_rate=3e-4").seed == 7
    assert problems(tmp_path, GOOD, "batch_size=-1")[0].startswith("--set batch_size: batch_size: must be 1 or more; got -1.")
    assert problems(tmp_path, GOOD, "seed") == ["--set seed: write it as key=value."]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [("a: [1, 2\n", 2, "is not valid YAML"), ("- a\n- b\n", 1, "expected lines of the form"), ("x: !!python/object:os.system {}\n", 1, "YAML"),
     ("\tkey: 1\n", 1, "is not valid YAML"), ("", None, "empty")],
)  # fmt: skip
def test_what_is_no_flat_yaml_is_refused_at_its_line(tmp_path, text, line, words):
    with pytest.raises(ConfigError) as error:
        source(tmp_path, text)
    assert words in str(error.value)
    assert f"c.yaml:{line}" in str(error.value) if line else True


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(ConfigError, match="there is no such file"):
        read(tmp_path / "nothing.yaml")
    (tmp_path / "c.yaml").write_bytes("revision: caf\u00e9".encode("latin-1"))
    with pytest.raises(ConfigError, match="Save it as UTF-8"):
        read(tmp_path / "c.yaml")


def test_relative_paths_from_the_working_directory_first_then_from_the_config(tmp_path, monkeypatch):
    (tmp_path / "configs" / "data").mkdir(parents=True)
    file = tmp_path / "configs" / "c.yaml"
    file.write_text("train_data_dir: ./data\nbase_model: tiny-chat\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert validate(read(file), [RunConfig])[RunConfig].train_data_dir == str(tmp_path / "configs" / "data")
    (tmp_path / "data").mkdir()
    assert validate(read(file), [RunConfig])[RunConfig].train_data_dir == str(tmp_path / "data")
    os.rmdir(tmp_path / "data")
    os.rmdir(tmp_path / "configs" / "data")
    with pytest.raises(ConfigError) as error:
        validate(read(file), [RunConfig])
    assert str(tmp_path / "data") in str(error.value) and str(tmp_path / "configs" / "data") in str(error.value)


def test_advice_is_given_outside_of_the_usual_range_and_only_there(tmp_path):
    def remarks(text: str) -> list[str]:
        written = source(tmp_path, GOOD + text)
        return advice(validate(written, [RunConfig]), written)

    assert remarks("lora_rank: 8\nlearning_rate: 3e-4\nbatch_size: 8\n") == []
    found = remarks("lora_rank: 64\nlearning_rate: 1e-3\nbatch_size: 32\n")
    assert [line.partition(" is ")[0].rpartition(" ")[2] for line in found] == ["lora_rank", "batch_size", "learning_rate"]
    assert "c.yaml:3: lora_rank is 64; usual is 8 to 16" in found[0].replace(str(tmp_path) + os.sep, "")


def test_two_owners_of_one_key_are_an_error_that_names_both(tmp_path):
    class Mine(Keys):
        seed: int = Field(1, description="mine")

    class Part:
        keys = Mine

    class FakeTask:
        keys = Keys

    with pytest.raises(PluginError, match=r"'seed' is declared by loraforge.config.schema.RunConfig and by .*Mine"):
        _owners(FakeTask, [Part])


def test_the_schema_is_what_editors_expect():
    made = schema([RunConfig])
    assert made["additionalProperties"] is False and {"train_data_dir", "base_model"} <= set(made["required"])
    assert made["properties"]["batch_size"]["minimum"] == 1


def test_every_key_has_help_and_a_readable_kind():
    for row in key_docs.describe("core", RunConfig):
        assert row.help and row.kind, row.name


def test_an_empty_default_is_shown_as_what_it_is():
    class Own(Keys):
        several: list[int] = Field(default_factory=list, description="a list")
        named: dict[str, str] = Field(default_factory=dict, description="lines")

    assert [row.default for row in key_docs.describe("own", Own)] == ["[]", "{}"]


def test_values_cannot_be_changed(tmp_path):
    with pytest.raises(ValueError, match="frozen"):
        values(tmp_path, "").seed = 3


def test_task_type_must_agree_with_the_command(host, project):
    assert make_plan(host, "text", project(task_type="text-generation")).task.name == "text"
    with pytest.raises(ConfigError, match="task_type is 'image-generation', but the command says 'text'"):
        make_plan(host, "text", project(task_type="image-generation"))


def test_config_and_component_errors_come_together(host, project):
    with pytest.raises(ConfigError) as error:
        make_plan(host, "text", project(prompt_template="chatlm", export=["peff"], seed=-1))
    text = str(error.value)
    assert "there is no template 'chatlm'. Did you mean 'chatml'?" in text
    assert "there is no exporter 'peff'. Did you mean 'peft'?" in text
    assert "seed: must be 0 or more; got -1" in text


def test_slips_of_chinese_keyboards_are_named_with_their_line(tmp_path, command):
    file = tmp_path / "c.yaml"
    file.write_text("base_model: tiny-chat\nepochs：6\nlora_rank:8\n", encoding="utf-8")
    code, _, err = command("check", "text", file)
    assert code == 2 and "c.yaml:2: has a full-width colon" in err and "c.yaml:3: a space is missing" in err
