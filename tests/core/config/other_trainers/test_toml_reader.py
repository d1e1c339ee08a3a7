# SPDX-License-Identifier: Apache-2.0
"""TOML of sd-scripts as flat values: sections say nothing, lines are told, mistakes are sentences."""

from __future__ import annotations

import pytest

from loraforge import ConfigError
from loraforge.config.other_trainers.toml_reader import read_toml


def written(tmp_path, text: str):
    file = tmp_path / "c.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_sections_are_put_together_and_lists_of_tables_stay(tmp_path):
    source = read_toml(
        written(tmp_path, 'seed = 1\n[one]\nnetwork_dim = 8\n[two]\n"lr" = 1e-4\n[[datasets]]\n  [[datasets.subsets]]\n  image_dir = "a"\n')
    )
    assert {key: value.value for key, value in source.values.items()} == {
        "seed": 1, "network_dim": 8, "lr": 1e-4, "datasets": [{"subsets": [{"image_dir": "a"}]}],
    }  # fmt: skip
    assert source.values["network_dim"].where.endswith("c.toml:3") and source.values["lr"].where.endswith("c.toml:5")


def test_of_equal_keys_the_last_one_holds_which_is_said_where_they_differ(tmp_path):
    source = read_toml(written(tmp_path, "a = 1\n[x]\nb = 1\na = 2\n[y]\nb = 1\n"))
    assert source.values["a"].value == 2 and len(source.notes) == 1 and "'a' is given twice" in source.notes[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('ok = 1\ndir = "D:\\法律"\n', "c.toml:2: is not valid TOML: in double quotes a backslash"),
        ("a = \n", "c.toml:1: is not valid TOML"),
        ("a: 1\n", "c.toml:1: "),
    ],
)
def test_what_is_no_toml_is_said_with_its_line(tmp_path, text, said):
    with pytest.raises(ConfigError, match="c.toml") as error:
        read_toml(written(tmp_path, text))
    assert said in str(error.value)
