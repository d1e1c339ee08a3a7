# SPDX-License-Identifier: Apache-2.0
"""``[[datasets]]`` of sd-scripts: folders, repeats, prior pictures, and what belongs into a ``concept.yaml``."""

from __future__ import annotations

import pytest

from loraforge.plugin_api.host import PluginHost
from loraforge.starting.translating import translate

HOST = PluginHost(blocked=())
TRAINING = 'pretrained_model_name_or_path = "m.safetensors"\nnetwork_module = "networks.lora"\nnetwork_dim = 8\nmax_train_epochs = 2\n'
ONE = """
[general]
shuffle_caption = true
caption_extension = ".txt"
[[datasets]]
resolution = 768
batch_size = 2
enable_bucket = true
  [[datasets.subsets]]
  image_dir = "pics/cat"
  num_repeats = 10
"""
MORE = (
    ONE
    + """
  [[datasets.subsets]]
  image_dir = "pics/dog"
  num_repeats = 3
  class_tokens = "a dog"
  keep_tokens = 1
  [[datasets.subsets]]
  image_dir = "prior"
  is_reg = true
  num_repeats = 1
"""
)


def told(tmp_path, data: str, training: str = TRAINING + 'dataset_config = "data.toml"\n'):
    (tmp_path / "data.toml").write_text(data, encoding="utf-8")
    (tmp_path / "c.toml").write_text(training, encoding="utf-8")
    return translate(HOST, tmp_path / "c.toml", None, tmp_path / "my.yaml")


def test_one_subset_is_a_folder_with_repeats(tmp_path):
    found = told(tmp_path, ONE)
    values = {line.key: line.value for line in found.lines}
    expected = {
        "train_data_dir": "pics/cat",
        "repeats": 10,
        "resolution": 768,
        "batch_size": 2,
        "caption_shuffle": True,
        "caption_extension": ".txt",
    }
    assert {key: values.get(key) for key in expected} == expected and not found.lost
    assert "dataset_config" in found.taken


def test_the_same_in_one_file(tmp_path):
    values = {line.key: line.value for line in told(tmp_path, "", TRAINING + ONE).lines}
    assert (values["train_data_dir"], values["repeats"], values["resolution"]) == ("pics/cat", 10, 768)


def test_of_several_subsets_each_difference_is_a_line_to_write(tmp_path):
    found = told(tmp_path, MORE)
    values = {line.key: line.value for line in found.lines}
    assert values["train_data_dir"] == "pics" and values["prior_data_dir"] == "prior" and "repeats" not in values
    why = found.lost["dataset_config"]
    assert "pics/cat: write a concept.yaml into it, with repeats: 10" in why
    assert "repeats: 3; caption: a dog" in why and "pics/dog: keep_tokens hold for a whole run here" in why


def test_a_missing_file_and_a_subset_without_a_folder_are_told(tmp_path):
    missing = told(tmp_path, "", TRAINING + 'dataset_config = "nowhere.toml"\n')
    assert "was not found" in missing.lost["dataset_config"]
    assert "metadata_file" in told(tmp_path, ONE.replace('image_dir = "pics/cat"', 'metadata_file = "m.json"')).lost["dataset_config"]


@pytest.mark.parametrize("data", ["datasets = [1, 2]\n", 'datasets = "x"\n', "[[datasets]]\nsubsets = [1]\n"])
def test_data_sets_without_a_subset_are_told(tmp_path, data):
    assert "train_data_dir" in told(tmp_path, data).lost["dataset_config"]
