# SPDX-License-Identifier: Apache-2.0
"""Examples: written with their data, taken again, never over something else."""

from __future__ import annotations

import pytest
from builders import ROOT

from loraforge import ConfigError
from loraforge.plugin_api.host import PluginHost
from loraforge.starting.examples import all_examples, find_example, place_example

HOST = PluginHost(blocked=())


def test_every_config_of_the_repository_is_an_example_of_one_task():
    found = {path for named in all_examples(HOST).values() for path in named.values()}
    assert found == set((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize(
    ("name", "task", "said"),
    [
        ("lega", None, "Did you mean 'legal'"),
        ("legal", "image", "'legal' is an example of text, not of image"),
        ("zzz", "text", "There are: legal, medical"),
    ],
)
def test_what_is_no_example_is_answered_with_those_that_are(name, task, said):
    with pytest.raises(ConfigError, match=said):
        find_example(HOST, name, task)


def test_an_example_is_written_with_its_data_and_taken_again(tmp_path):
    task, source = find_example(HOST, "medical", None)
    config, written = place_example(source, "medical", tmp_path)
    assert task.name == "text" and written == [tmp_path / "medical.yaml", tmp_path / "data" / "medical"]
    assert config.read_bytes() == (ROOT / "configs" / "medical_qa.yaml").read_bytes()
    data = tmp_path / "data" / "medical" / "metadata.csv"
    assert data.read_bytes() == (ROOT / "configs" / "data" / "medical" / "metadata.csv").read_bytes()
    assert place_example(source, "medical", tmp_path, again=True) == (config, [])
    with pytest.raises(ConfigError, match=r"medical\.yaml exists already"):
        place_example(source, "medical", tmp_path)
    config.write_text("changed: true\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="no longer the example as it came"):
        place_example(source, "medical", tmp_path, again=True)
    config.unlink()
    data.write_text("mine\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"data.medical exists already"):
        place_example(source, "medical", tmp_path, again=True)
    assert data.read_text(encoding="utf-8") == "mine\n" and not config.exists()


def test_a_config_for_somebodys_own_data_comes_alone(tmp_path):
    assert place_example(find_example(HOST, "sdxl", "image")[1], "sdxl", tmp_path)[1] == [tmp_path / "sdxl.yaml"]
