# SPDX-License-Identifier: Apache-2.0
"""Which layers ``lora_target`` means, by their names alone."""

from __future__ import annotations

import pytest

from loraforge import ConfigError
from loraforge.adapters.targets import match_layers, scanned_layers

NAMES = [
    "model.layers.0.self_attn.q_proj",
    "model.layers.0.self_attn.k_proj",
    "model.layers.0.self_attn.v_proj",
    "model.layers.0.mlp.up_proj",
    "model.layers.1.Attention.qkv",
    "model.layers.1.cross.q_proj",
    "up_proj",
]


@pytest.mark.parametrize(
    ("wanted", "places"),
    [
        ("all-linear", [0, 1, 2, 3, 4, 5, 6]),
        ("attention", [0, 1, 2, 4]),
        ("q,v", [0, 2, 4]),  # a q_proj outside of attention is none of them
        (" q, v ", [0, 2, 4]),
        ("q_v", [0, 2, 4]),
        ("qv", [0, 2, 4]),
        ("q_proj", [0, 5]),
        ("v_proj,q_proj", [0, 2, 5]),  # in the model's order
        (["up_proj"], [3, 6]),
        (["roj", "up_proj"], None),  # only whole parts of a name
        ("mlp.up_proj", [3]),
        (r"model\.layers\.1\..*", [4, 5]),
        (r"model\.layers\.1", None),  # the whole name, not its beginning
        (r".*\.0\..*(q|v)_proj", [0, 2]),
        ("k_proj, ,up_proj,", [1, 3, 6]),
        (["q_proj", "nothing"], None),
        ("nothing", None),
        ([".*"], None),  # a list holds names
    ],
)
def test_what_a_target_means(wanted, places):
    if places is None:
        with pytest.raises(ConfigError, match="It has: k_proj, q_proj, qkv, up_proj, v_proj"):
            match_layers(wanted, NAMES)
    else:
        assert match_layers(wanted, NAMES) == [NAMES[i] for i in places]


def test_all_that_is_missing_is_named_and_nothing_else():
    with pytest.raises(ConfigError, match="no linear layer 'one', 'two'"):
        match_layers("one,q_proj,two", NAMES)
    for wanted in ("attention", "q,v", "x.*"):
        with pytest.raises(ConfigError, match="no linear layer"):
            match_layers(wanted, ["mlp.up_proj"])


@pytest.mark.parametrize(
    "fused", ["query_key_value", "qkv_proj", "c_attn", "W_pack", "Wqkv", "qkv", "query", "value", "to_q", "wq", "q_lin"]
)
def test_query_and_value_under_the_names_of_the_architectures(fused):
    assert match_layers("q,v", [f"h.0.attn.{fused}", f"h.0.attn.{fused}_norm", f"h.0.attn.my_{fused}"]) == [f"h.0.attn.{fused}"]


@pytest.mark.parametrize(("kind", "scanned"), [("mamba", True), ("falcon_h1", True), ("zamba2", True), ("llama", False), (None, False)])
def test_what_mambas_scan_reads_itself(kind, scanned):
    assert scanned_layers(kind) == (("out_proj", "conv1d") if scanned else ())


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [
        ("all", "Did you mean 'all-linear'?"),
        ("ALL", "Did you mean 'all-linear'?"),
        ("all_linear", "Did you mean 'all-linear'?"),
        ("All-Linear", "Did you mean 'all-linear'?"),
        ("linear", "Did you mean 'all-linear'?"),
        ("attn", "Did you mean 'attention'?"),
        ("Attention", "Did you mean 'attention'?"),
        ("Q_PROJ", "Did you mean 'q_proj'?"),
        ("q_porj", "Did you mean 'q_proj'?"),
        ("q", "Did you mean 'q_proj'?"),
        ("qproj", "Did you mean 'q_proj'?"),
        ("up", "Did you mean 'up_proj'?"),
        ("self_attn.q_porj", "Did you mean 'q_proj'?"),
        (["q_proj", "v_porj"], "Did you mean 'v_proj'?"),
        ("q_proj v_proj", "with commas between: q_proj,v_proj."),
        ("q_proj/v_proj", "with commas between: q_proj,v_proj."),
        ("q_proj;v_proj", "with commas between: q_proj,v_proj."),
        ("['q_proj', 'v_proj']", "with commas between: q_proj,v_proj."),
        ("q，v", "with commas between: q,v."),
        ("q_proj、v_proj", "with commas between: q_proj,v_proj."),
        ("lm_head", "'lm_head' is its output layer or its embedding"),
        ("model.embed_tokens", "'embed_tokens' is its output layer or its embedding"),
        (["q_proj", "lm_head"], "'lm_head' is its output layer or its embedding"),
    ],
)
def test_what_was_probably_meant(wanted, hint):
    with pytest.raises(ConfigError) as error:
        match_layers(wanted, NAMES)
    assert str(error.value).startswith("lora_target: the base model has no linear layer") and hint in str(error.value)


def test_nothing_is_guessed_where_nothing_is_near():
    with pytest.raises(ConfigError) as error:
        match_layers("experts", NAMES)
    assert str(error.value).endswith("It has: k_proj, q_proj, qkv, up_proj, v_proj.")
