# SPDX-License-Identifier: Apache-2.0
"""Which layers ``lora_target`` means."""

from __future__ import annotations

import pytest
from loraforge_image.families.targets import linear_layers, narrowed

from loraforge import ConfigError

NAMES = [
    "unet.a.attn1.to_q", "unet.a.attn1.to_k", "unet.a.attn2.to_v", "unet.a.attn2.to_out.0", "unet.a.attn.add_q_proj", "unet.a.attn.add_k_proj",
    "unet.a.ff.net.2", "text.0.self_attn.v_proj", "text.0.self_attn.out_proj", "text.0.attention.to_q", "text.0.mlp.fc1", "unet.attnx.to_q",
]  # fmt: skip
LAYERS = {name: number for number, name in enumerate(NAMES, 4)}
ATTENTION = [0, 1, 2, 3, 4, 5, 7, 8, 9]
MEANT = [
    ("all-linear", range(12)), ("attention", ATTENTION), ("q,v", [0, 2, 4, 7, 9]), ("q, v", [0, 2, 4, 7, 9]), ("q_v", [0, 2, 4, 7, 9]),
    ("to_q", [0, 9, 11]), ("to_q, net.2", [0, 6, 9, 11]), (["to_q", "fc1"], [0, 9, 10, 11]), ("unet.a.attn1.to_k", [1]), ("attn1.to_k", [1]),
    (r".*\.to_[qk]", [0, 1, 9, 11]), (r"text.*fc1|unet.a.ff.net.2", [6, 10]), ("0", [3]), (["q,v", "fc1"], [10]),
]  # fmt: skip


@pytest.mark.parametrize(("target", "numbers"), MEANT, ids=str)
def test_what_a_target_means(target, numbers):
    assert narrowed(LAYERS, target) == {NAMES[number]: number + 4 for number in numbers}
    assert list(narrowed(LAYERS, target)) == [NAMES[number] for number in numbers]  # in the network's order


@pytest.mark.parametrize(
    ("target", "called"),
    [("gone", "gone"), (["gone", "no"], "gone', 'no"), ("o_q", "o_q"), (".to_q", ".to_q"), (r"to_[qk]", r"to_\[qk\]"), ("tn1.to_k", "tn1.to_k")],
    ids=str,
)  # fmt: skip
def test_what_means_no_layer_is_told_what_there_is(target, called):
    there = "add_k_proj, add_q_proj, fc1, net.2, out_proj, to_k, to_out.0, to_q, to_v, v_proj"
    with pytest.raises(ConfigError, match=rf"no layer of the base model is called '{called}'\. There are: {there}\.$"):
        narrowed(LAYERS, target)


def test_what_is_no_regular_expression_is_said():
    with pytest.raises(ConfigError, match=r"lora_target: 'to_\[q' is not a regular expression: unterminated character set"):
        narrowed(LAYERS, "to_[q")


def test_the_linear_layers_of_a_part_that_a_pattern_finds():
    from torch import nn

    inner = nn.ModuleDict({"b": nn.Linear(1, 1), "conv": nn.Conv2d(1, 1, 1), "a": nn.Sequential(nn.Linear(1, 1), nn.ReLU())})
    network = nn.ModuleDict({"unet": inner, "other": nn.Sequential(nn.Linear(1, 1))})
    assert list(linear_layers(network, "unet", "", 3).items()) == [("unet.b", 3), ("unet.a.0", 3)]
    assert linear_layers(network, "unet", r"\.0$", 5) == {"unet.a.0": 5} and linear_layers(network, "unet", "unet", 5) == {}
