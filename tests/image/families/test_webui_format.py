# SPDX-License-Identifier: Apache-2.0
"""A table from the original model's layers to diffusers'."""

from __future__ import annotations

import json

import pytest
from loraforge_image.families import WebuiTable

TABLE = WebuiTable(
    architecture="some-model/lora",
    base_version="some_v1",
    plain={"x.{i}.proj": "blocks.{i}.out", "last": "proj_out"},
    fused={"x.{i}.qkv": ["blocks.{i}.q", "blocks.{i}.k", "blocks.{i}.v"]},
)
QKV = {"lora_unet_x_3_qkv": ("transformer.blocks.3.q", "transformer.blocks.3.k", "transformer.blocks.3.v")}


def test_layers_have_the_original_names_with_all_that_is_in_them():
    assert TABLE.layers(["transformer.blocks.3.v", "transformer.blocks.3.q"]) == QKV
    assert TABLE.layers(["transformer.blocks.12.out", "transformer.proj_out"]) == {
        "lora_unet_x_12_proj": ("transformer.blocks.12.out",),
        "lora_unet_last": ("transformer.proj_out",),
    }


def test_what_has_no_name_is_named():
    """Of another part, of no block, with more behind or before it."""
    wrong = ["unet.blocks.0.q", "transformer.blocks.x.q", "transformer.blocks.0.q.more", "transformer.a.blocks.0.q", "transformer.projXout"]
    with pytest.raises(ValueError) as told:
        TABLE.layers([*wrong, "transformer.blocks.0.q"])
    assert list(told.value.args) == wrong == TABLE.strange([*wrong, "transformer.blocks.0.q"])
    assert TABLE.strange(["transformer.blocks.0.q"]) == []


def test_what_is_described_is_remembered_with_the_rows_of_layers_that_got_no_lora():
    import torch

    block = torch.nn.ModuleDict({name: torch.nn.Linear(2, rows) for name, rows in (("q", 3), ("k", 4), ("v", 5), ("own", 6), ("out", 7))})
    network = torch.nn.ModuleDict({"transformer": torch.nn.ModuleDict({"blocks": torch.nn.ModuleList([block])})})
    adapted = ["transformer.blocks.0.q", "transformer.blocks.0.out", "transformer.blocks.0.own"]  # the last has no name
    described = json.loads(json.dumps(TABLE.describe(network, adapted)))
    assert described["rows"] == {"transformer.blocks.0.k": 4, "transformer.blocks.0.v": 5}
    again = WebuiTable.recall(described)
    assert again.layers(["transformer.blocks.3.k"]) == QKV and again.rows == described["rows"]
    assert again.header("flow") == TABLE.header("flow")


@pytest.mark.parametrize(("prediction", "called"), [("v_prediction", "v"), ("epsilon", "epsilon"), ("flow", "")])
def test_the_header_says_what_the_base_predicts(prediction, called):
    assert TABLE.header(prediction) == {
        "ss_base_model_version": "some_v1",
        "ss_v2": "False",
        "modelspec.architecture": "some-model/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.prediction_type": called,
    }
