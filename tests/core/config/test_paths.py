# SPDX-License-Identifier: Apache-2.0
"""Places that are not there: the nearest one is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loraforge import ConfigError, RunConfig
from loraforge.config.schema import validate
from loraforge.config.yaml_reader import read
from loraforge.plan import make_plan


def said(folder: Path, line: str) -> str:
    keys = {"train_data_dir": ".", "base_model": "tiny-chat"}
    key, _, value = line.partition(": ")
    (folder / "c.yaml").write_text("".join(f"{k}: {v}\n" for k, v in {**keys, key: value}.items()), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        validate(read(folder / "c.yaml"), [RunConfig])
    assert len(error.value.problems) == 1 and error.value.problems[0].startswith(f"{folder / 'c.yaml'}:")
    return error.value.problems[0]


@pytest.fixture
def tree(tmp_path) -> Path:
    (tmp_path / "models" / "Qwen3-8B").mkdir(parents=True)
    (tmp_path / "data" / "legal").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("key", "written", "there"),
    [("base_model", "{}/models/Qwen3-8b", "models/Qwen3-8B"), ("base_model", "./models/Qwen-8B", "models/Qwen3-8B"),
     ("base_model", "{}/model/Qwen3-8B", "models/Qwen3-8B"), ("train_data_dir", "data/leagl", "data/legal"), ("train_data_dir", "dta/legal", "data/legal"),
     ("metadata_path", "./data/legel", "data/legal"), ("init_from_adapter", "{}/data/legal2", "data/legal")],
)  # fmt: skip
def test_the_nearest_place(tree, key, written, there):
    assert said(tree, f"{key}: {written.format(tree)}").endswith(f"Did you mean '{tree / there}'?")


@pytest.mark.parametrize("written", ["/no/such/place/at/all", "./zzz", "zzz/legal"])
def test_nothing_is_guessed_where_nothing_is_near(tree, written):
    assert "Did you mean" not in said(tree, f"train_data_dir: {written}")


def test_a_hub_id_where_a_file_is_wanted(tree):
    assert "If that is the id of something on a hub: init_from_adapter is" in said(tree, "init_from_adapter: ostris/training_adapter")
    assert "on a hub" not in said(tree, "init_from_adapter: models/training_adapter")


@pytest.mark.skipif(os.name == "nt", reason="there they are paths")
def test_backslashes_on_a_system_that_has_none(tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert said(tree, "train_data_dir: data\\legal").endswith("Did you mean 'data/legal'?")
    assert "That is a path of Windows" in said(tree, "base_model: D:\\models\\Qwen3-8B")
    assert "That is a path of Windows" in said(tree, "base_model: D:/models/Qwen3-8B")


@pytest.mark.parametrize("ending", ["gguf", "safetensors", "bin", "ckpt", "pt"])
def test_a_weights_file_that_is_not_there_is_no_hub_id(tree, ending):
    assert "there is no 'models/qwen." in said(tree, f"base_model: models/qwen.{ending}") or "is neither at" in said(
        tree, f"base_model: models/qwen.{ending}"
    )


@pytest.mark.parametrize("key", ["train_data_dir", "base_model", "metadata_path"])
def test_an_address_on_the_web_is_no_place(tree, key):
    assert "is an address on the web. Write " in said(tree, f"{key}: https://example.org/a/b/c/d")


@pytest.mark.parametrize("written", ["tiny-chat ", " tiny-chat", "tiny-chat\t"])
def test_spaces_around_the_name_of_a_base_mean_nothing(host, project, written):
    assert make_plan(host, "text", project(base_model=written)).config.base_model == "tiny-chat"


@pytest.mark.parametrize("below", ["", "run", "a/b"])
def test_a_file_where_the_runs_folder_should_be_is_told_by_check(command, project, tmp_path, below):
    (tmp_path / "taken").write_text("x")
    code, _, err = command("check", "text", project(output_dir=str(tmp_path / "taken" / below)))
    assert code == 2 and "output_dir: " in err and "taken is a file" in err and "config.yaml:" in err


@pytest.mark.parametrize("key", ["prompt_template", "data_loader", "model_family"])
def test_a_name_that_no_plugin_brings_is_told_at_its_line(command, project, key):
    code, _, err = command("check", "text", project(**{key: "nobody"}))
    assert code == 2 and f": {key}: there is no " in err and "config.yaml:" in err
