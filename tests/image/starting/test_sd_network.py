# SPDX-License-Identifier: Apache-2.0
"""``network_module`` and its arguments in our keys, by sd-scripts' ``networks`` and by LyCORIS' ``kohya.py`` and ``config.py``."""

from __future__ import annotations

import pytest

from loraforge.plugin_api.host import PluginHost
from loraforge.starting.translating import translate

HOST = PluginHost(blocked=())
FIRST = 'pretrained_model_name_or_path = "./m.safetensors"\ntrain_data_dir = "./train"\nenable_bucket = true\nmax_train_epochs = 2\n'


def told(tmp_path, text: str, *arguments: str, module: str = "lycoris.kohya"):
    file = tmp_path / "c.toml"
    file.write_text(f"{FIRST}network_module = '{module}'\n{text}\nnetwork_args = {list(arguments)}\n", encoding="utf-8")
    return translate(HOST, file, None, tmp_path / "my.yaml")


def values_of(found) -> dict:
    return {line.key: line.value for line in found.lines}


@pytest.mark.parametrize(
    ("preset", "ours"),
    [
        ("full", {"conv_rank": 16}),
        ("full-lin", {"conv_rank": None}),
        ("attn-mlp", {"conv_rank": None, "train_text_encoder": True, "lora_target": None}),
        ("attn-only", {"conv_rank": None, "lora_target": "attention"}),
        ("unet-only", {"conv_rank": 16, "train_text_encoder": False}),
        ("unet-transformer-only", {"conv_rank": None, "train_text_encoder": False}),
    ],
)
def test_a_preset_of_lycoris_says_where_the_adapter_sits(tmp_path, preset, ours):
    found = told(tmp_path, "network_dim = 16\nnetwork_alpha = 8", f"preset={preset}", "algo=lora")
    assert {key: values_of(found).get(key) for key in ours} == ours and not found.lost


@pytest.mark.parametrize(("preset", "why"), [("my.toml", "lora_target"), ("unet-convblock-only", "transformers too")])
def test_a_preset_without_a_counterpart_is_told(tmp_path, preset, why):
    assert why in told(tmp_path, "network_dim = 16", f"preset={preset}").lost["network_args (preset)"]


def test_a_rank_for_convolutions_that_a_preset_leaves_alone_is_told(tmp_path):
    found = told(tmp_path, "network_dim = 16", "preset=attn-mlp", "conv_dim=8", "conv_alpha=4")
    assert "attn-mlp" in found.lost["network_args (conv_dim)"] and "conv_rank" not in values_of(found)


@pytest.mark.parametrize("switch", ["dora_wd=True", "rs_lora=True"])
def test_dora_and_rslora_are_switches_in_lycoris(tmp_path, switch):
    variant = "dora" if switch.startswith("dora") else "rslora"
    assert values_of(told(tmp_path, "network_dim = 4", switch))["lora_variant"] == variant
    assert variant in told(tmp_path, "network_dim = 4", "algo=loha", switch).lost[f"network_args ({switch.partition('=')[0]})"]


def test_switches_that_are_off_ask_for_nothing(tmp_path):
    arguments = ("dora_wd=False", "rs_lora=False", "bypass_mode=False", "use_tucker=False", "train_norm=False", "dropout=0")
    assert not told(tmp_path, "network_dim = 4", "algo=lokr", "factor=-1", *arguments).lost


def test_an_alpha_of_0_is_the_rank_for_convolutions_too(tmp_path):
    """``alpha = lora_dim if alpha is None or alpha == 0``, in every module of LyCORIS."""
    found = told(tmp_path, "network_dim = 16\nnetwork_alpha = 0", "conv_dim=8")
    assert values_of(found)["lora_alpha"] == 16 and values_of(found)["conv_rank"] == 8 and not found.lost


def test_lokr_with_a_rank_beyond_all_layers_keeps_its_scale_of_1(tmp_path):
    """``if self.use_w2 and self.use_w1: alpha = lora_dim``, as in LyCORIS' own example (network_dim 100000, alpha 1)."""
    found = told(tmp_path, "network_dim = 100000\nnetwork_alpha = 1", "preset=attn-mlp", "algo=lokr", "factor=6")
    values = values_of(found)
    assert (values["lora_rank"], values["lora_alpha"], values["lokr_factor"]) == (512, 512, 6)
    assert "two matrices" in found.lost["network_dim"]


@pytest.mark.parametrize(
    ("module", "algo", "why"),
    [
        ("lycoris.kohya", "locon", "what the adapter adds"),
        ("lycoris.kohya", "loha", "drop nothing"),
        ("networks.lora", "", "between the two"),
    ],
)
def test_where_a_network_drops_is_told(tmp_path, module, algo, why):
    for text, listed in (("network_dropout = 0.1", ()), ("", ("dropout=0.1",))):
        found = told(tmp_path, text, *listed, *([f"algo={algo}"] if algo else []), module=module)
        assert why in found.lost["network_args (network_dropout)" if listed else "network_dropout"]


def test_arguments_as_keys_of_their_own_are_taken_once(tmp_path):
    """As lora-scripts' page has them: nothing that is taken, or is so here anyway, is called lost."""
    found = told(
        tmp_path, 'network_dim = 8\nnetwork_alpha = 8\nlycoris_algo = "lokr"\nconv_dim = 4\nconv_alpha = 4\nlokr_factor = -1\ndropout = 0'
    )
    assert not found.lost and "conv_dim" in found.taken and values_of(found)["conv_rank"] == 4
