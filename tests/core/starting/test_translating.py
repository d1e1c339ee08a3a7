# SPDX-License-Identifier: Apache-2.0
"""Another program's config as ours: every key is taken, not needed, or named with a reason."""

from __future__ import annotations

import pytest
import yaml
from builders.other_trainers import KEYS

from loraforge import ConfigError
from loraforge.config.yaml_reader import read
from loraforge.plugin_api.host import PluginHost
from loraforge.starting.config_text import config_file
from loraforge.starting.translating import translate

HOST = PluginHost(blocked=())


def translated(tmp_path, text: str, name: str = "c.yaml", task: str | None = None):
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return translate(HOST, file, task, tmp_path / "my.yaml")


@pytest.mark.parametrize(
    ("program", "task", "first"), [("llama_factory", "text", "model_name_or_path: a/b"), ("kohya", "image", "network_dim: 4")]
)
def test_no_key_is_ignored_in_silence(tmp_path, program, task, first):
    """Each of the program's keys, with a value that says something, is in one of the three lists."""
    keys = [key for key in KEYS[program].split() if key not in ("datasets", "dataset_config", "general", first.partition(":")[0])]
    found = translated(tmp_path, "\n".join([first, *(f"{key}: 7" for key in keys)]), task=task)
    told = {*found.taken, *found.lost, *(word.strip(",:") for line in found.unneeded for word in line.split())}
    assert [key for key in keys if key not in told] == []
    assert all(why.strip() for why in found.lost.values())


def test_what_is_written_is_what_was_translated(tmp_path):
    found = translated(tmp_path, "model_name_or_path: a/b\nlearning_rate: 1.23456789e-5\nlora_target: q_proj,v_proj\nval_size: 0.1\n")
    file = tmp_path / "my.yaml"
    file.write_text(config_file([], found.lines), encoding="utf-8")
    written = {key: value.value for key, value in read(file).values.items()}
    assert written["learning_rate"] == 1.23456789e-5 and written["lora_target"] == "q_proj,v_proj" and written["eval_ratio"] == 0.1
    assert list(written)[:3] == ["train_data_dir", "base_model", "task_type"]


def test_a_value_that_our_key_refuses_is_lost_with_the_reason(tmp_path):
    found = translated(tmp_path, "model_name_or_path: a/b\nquantization_bit: 8\nval_size: 500\n")
    assert "4bit" in found.lost["quantization_bit"] and "share" in found.lost["val_size"]
    assert not {"precision"} & {line.key for line in found.lines}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train_data_dir: .\nbase_model: x\n", "is a config of LoRAForge already"),
        ("colour: red\n", "is no config of a program that is known here"),
    ],
)
def test_other_files_are_refused(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said):
        translated(tmp_path, text)


def test_the_task_is_that_of_the_program_or_the_one_that_is_said(tmp_path):
    assert translated(tmp_path, yaml.safe_dump({"network_dim": 4, "unet_lr": 1e-4})).task.name == "image"
    assert translated(tmp_path, yaml.safe_dump({"stage": "sft", "cutoff_len": 4})).task.name == "text"
    with pytest.raises(ConfigError, match=r"LLaMA-Factory"):
        translated(tmp_path, "network_dim: 4\n", task="text")


def test_relative_paths_are_found_around_the_config(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "config" / "autosave").mkdir(parents=True)
    file = tmp_path / "config" / "autosave" / "c.toml"
    file.write_text('network_dim = 4\ntrain_data_dir = "./train"\nresolution = 512\n', encoding="utf-8")
    found = translate(HOST, file, None, tmp_path / "my.yaml")
    assert {line.key: line.value for line in found.lines}["train_data_dir"] == "./train"
