# SPDX-License-Identifier: Apache-2.0
"""Configs of sd-scripts and lora-scripts in our keys, by the definitions of their options."""

from __future__ import annotations

import pytest

from loraforge.plugin_api.host import PluginHost
from loraforge.starting.translating import translate

HOST = PluginHost(blocked=())
FIRST = 'pretrained_model_name_or_path = "./m.safetensors"\ntrain_data_dir = "./train"\nresolution = "512,512"\nenable_bucket = true\n'


def told(tmp_path, text: str, first: str = FIRST):
    file = tmp_path / "c.toml"
    file.write_text(first + text, encoding="utf-8")
    return translate(HOST, file, None, tmp_path / "my.yaml")


def values_of(tmp_path, text: str) -> dict:
    return {line.key: line.value for line in told(tmp_path, text).lines}


def test_what_it_takes_where_nothing_is_said_is_written_out(tmp_path):
    """train_util's and train_network's options, torch's AdamW (weight_decay 0.01), networks.lora (rank 4, alpha 1)."""
    values = values_of(tmp_path, 'network_module = "networks.lora"\n')
    expected = {"lora_rank": 4, "lora_alpha": 1, "lora_dropout": 0.0, "batch_size": 1, "learning_rate": 2e-6, "lr_scheduler": "constant"}
    expected |= {"warmup": 0.0, "precision": "fp32", "eval_ratio": 0.0, "save_steps": 0, "caption_extension": ".caption"}
    expected |= {"train_text_encoder": True, "weight_decay": 0.01, "max_steps": 1600, "epochs": 10000.0}
    assert {key: values.get(key) for key in expected} == expected


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("network_dim = 32\nnetwork_alpha = 16", {"lora_rank": 32, "lora_alpha": 16}),
        ("network_dim = 32\nnetwork_alpha = 0", {"lora_alpha": 32}),
        ("max_train_epochs = 10\nmax_train_steps = 99", {"epochs": 10, "max_steps": None}),
        ("max_train_epoches = 7", {"epochs": 7}),
        ("max_train_steps = 800", {"max_steps": 800, "epochs": 10000.0}),
        ("learning_rate = 1e-5\nunet_lr = 1e-4\ntext_encoder_lr = 2e-5", {"learning_rate": 1e-4, "text_encoder_lr": 2e-5, "train_text_encoder": True}),
        ("learning_rate = 1e-5\nunet_lr = 1e-4", {"learning_rate": 1e-4, "text_encoder_lr": 1e-5}),
        ("unet_lr = 1e-4\ntext_encoder_lr = 1e-5\nnetwork_train_unet_only = true", {"learning_rate": 1e-4, "text_encoder_lr": None, "train_text_encoder": False}),
        ("network_train_text_encoder_only = true\nlearning_rate = 1e-5", {"train_unet": False, "train_text_encoder": True, "learning_rate": 1e-5}),
        ('lr_scheduler = "cosine_with_restarts"\nlr_scheduler_num_cycles = 3\nlr_warmup_steps = 50', {"lr_scheduler": "cosine_with_restarts", "lr_scheduler_cycles": 3, "warmup": 50}),
        ('lr_scheduler = "constant"\nlr_warmup_steps = 50', {"warmup": 0.0}),
        ('optimizer_type = "AdamW8bit"', {"optimizer": "adamw_8bit", "weight_decay": 0.01}),
        ('optimizer_type = "Lion"', {"optimizer": "lion", "weight_decay": None}),
        ('optimizer_type = "Prodigy"\noptimizer_args = ["decouple=True", "weight_decay=0.05", "d_coef=2"]', {"optimizer": "prodigy", "weight_decay": 0.05, "optimizer_args": ["decouple=True", "d_coef=2"]}),
        ('mixed_precision = "bf16"\nsave_precision = "float"', {"precision": "bf16", "save_precision": "fp32"}),
        ("min_snr_gamma = 5\nnoise_offset = 0.05", {"min_snr_gamma": 5, "noise_offset": 0.05}),
        ('shuffle_caption = true\nkeep_tokens = 2\ncaption_extension = ".txt"', {"caption_shuffle": True, "keep_tokens": 2, "caption_extension": ".txt"}),
        ("save_every_n_epochs = 2", {"save_epochs": 2, "save_steps": None}),
        ('network_module = "lycoris.kohya"\nnetwork_dim = 16\nnetwork_alpha = 8\nnetwork_args = ["algo=lokr", "factor=8", "conv_dim=16", "conv_alpha=8"]', {"lora_variant": "lokr", "lokr_factor": 8, "conv_rank": 16}),
        ('network_module = "lycoris.kohya"\nnetwork_dim = 16\nnetwork_alpha = 16\nnetwork_args = ["algo=locon"]', {"lora_variant": "lora", "conv_rank": 16}),
        ('network_module = "networks.lora"\nnetwork_dim = 8\nnetwork_alpha = 4\nnetwork_args = ["conv_dim=4", "conv_alpha=2"]', {"conv_rank": 4, "lora_variant": "lora"}),
        ("text_encoder_lr = 1e-5\nunet_lr = 0", {"train_unet": False, "learning_rate": 1e-5, "text_encoder_lr": None}),
        ('optimizer_type = "PagedAdamW8bit"', {"optimizer": "adamw_8bit", "weight_decay": 0.01}),
        ('optimizer_type = "Lion8bit"', {"optimizer": "lion"}),
        ('optimizer_type = "DAdaptAdam"\nunet_lr = 1.0', {"optimizer": "prodigy", "learning_rate": 1.0}),
        ('lr_scheduler = "cosine_with_min_lr"', {"lr_scheduler": "cosine"}),
        ("save_every_n_epochs = 2", {"export_at_saves": True}),
        ('caption_extention = ".txt"', {"caption_extension": ".txt"}),
        ("min_bucket_reso = 512\nmax_bucket_reso = 1024", {"bucket_max_ratio": None}),
        ("min_bucket_reso = 320\nmax_bucket_reso = 960", {"bucket_max_ratio": 3.0}),
        ("max_bucket_reso = 4096", {"bucket_max_ratio": 4.0}),
        ("reg_data_dir = ''", {"prior_data_dir": None}),
        ("clip_skip = 2\nseed = 1337\nmax_token_length = 225", {"clip_skip": 2, "seed": 1337, "max_caption_tokens": 225}),
        ("max_token_length = 255", {"max_caption_tokens": 225}),
        ("[a]\nnetwork_dim = 8\n[b]\nv_parameterization = true", {"lora_rank": 8, "prediction_type": "v_prediction"}),
    ],
)  # fmt: skip
def test_values_are_converted(tmp_path, text, ours):
    values = values_of(tmp_path, text + "\n")
    assert {key: values.get(key) for key in ours} == ours


@pytest.mark.parametrize(("text", "side"), [('"512,768"', 627), ("[512, 768]", 627), ('"1024x1024"', 1024), ("640", 640), ('"640"', 640)])
def test_a_resolution_is_the_side_of_a_square_of_its_area(tmp_path, text, side):
    found = told(tmp_path, f"resolution = {text}\nnetwork_dim = 4\n", FIRST.replace('resolution = "512,512"\n', ""))
    assert {line.key: line.value for line in found.lines}["resolution"] == side
    assert any("area" in note for note in found.notes) == (side == 627)


@pytest.mark.parametrize(
    ("text", "key", "why"),
    [
        ('network_args = ["conv_dim=8"]\nnetwork_dim = 8\nnetwork_alpha = 8', "network_args (conv_alpha)", "scale of convolutions"),
        ('network_args = ["dropout=0.3"]', "network_args (network_dropout)", "between the two matrices"),
        ('network_module = "networks.oft"', "network_module", "no full training"),
        ("network_alpha = 0.5", "network_alpha", "lora_rank"),
        ("learning_rate = 1\nunet_lr = 1e-4\ntext_encoder_lr = 1e-5", "learning_rate", "used for nothing"),
        ('optimizer_type = "DAdaptation"', "optimizer_type", "prodigy"),
        ('sample_prompts = "nowhere.txt"', "sample_prompts", "was not found"),
        ("max_bucket_reso = 2048", "max_bucket_reso", "bucket_max_ratio"),
        ('network_args = ["rank_dropout=0.1", "conv_dim=2"]', "network_args (rank_dropout)", "nothing like it"),
        ("network_args = 7", "network_args", "not understood"),
        ('lr_scheduler = "constant"\nlr_warmup_steps = 50', "lr_warmup_steps", "constant_with_warmup"),
        ('optimizer_type = "DAdaptAdam"', "optimizer_type", "Written: optimizer: prodigy"),
        ("save_every_n_epochs = 2\nsave_last_n_epochs = 3", "save_last_n_epochs", "keeps all"),
        ("gpu_ids = ['0']", "gpu_ids", "accelerate"),
    ],
)
def test_what_has_no_counterpart_is_named_with_the_reason(tmp_path, text, key, why):
    assert why in told(tmp_path, text + "\n").lost[key]


def test_prompts_come_from_their_file(tmp_path):
    (tmp_path / "p.txt").write_text("# prompts\na house --n rain --s 20\n\na tree\n", encoding="utf-8")
    assert values_of(tmp_path, 'sample_prompts = "p.txt"\n')["sample_prompts"] == ["a house --n rain --s 20", "a tree"]


def test_pictures_that_were_cut_to_one_shape_are_told_of(tmp_path):
    assert "buckets" in told(tmp_path, "network_dim = 4\n", FIRST.replace("enable_bucket = true\n", "")).lost["enable_bucket"]


def test_what_adds_nothing_to_other_lines_is_not_called_lost(tmp_path):
    found = told(tmp_path, 'fp8_base = true\nmixed_precision = "bf16"\n')
    assert "mixed_precision" not in found.lost and any("mixed_precision: adds nothing" in line for line in found.unneeded)
