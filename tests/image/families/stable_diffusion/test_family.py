"""What the three families share before anything is loaded. Without torch."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from loraforge_image.families import base_files
from loraforge_image.families.stable_diffusion import families
from loraforge_image.families.stable_diffusion.published import PUBLISHED
from loraforge_image.families.stable_diffusion.targets import splits_text_attention, strange_convolutions
from loraforge_image.records import ImageKeys

from loraforge import RunConfig

TINY = base_files.EMBEDDED["tiny-sd"]
NAMED = {family.name: family for family in families()}
SD15 = NAMED["sd15"]


def config(base="tiny-sd", **values) -> RunConfig:
    return RunConfig(train_data_dir="x", base_model=str(base), **values)


def test_each_takes_its_own_bases(tmp_path):
    assert list(NAMED) == ["sd15", "sd2", "sdxl"]
    assert [family.matches("tiny-sd") for family in NAMED.values()] == [True, False, False]
    assert not SD15.matches("nonsense") and SD15.describe_base("nonsense") == "" and SD15.describe_base("tiny-sd") == "Stable Diffusion 1.x"
    assert all(family.multiple == 8 for family in NAMED.values())


def test_what_is_usual_is_another_thing_for_a_tiny_base():
    assert SD15.typical_ranges("org/name") == {"learning_rate": (5e-5, 5e-4), "lora_rank": (4, 64)}
    assert SD15.typical_ranges("tiny-sd") == {"learning_rate": (5e-4, 1e-2), "lora_rank": (4, 64)}


def test_what_is_kept_of_the_keys():
    keys = ImageKeys(resolution=640, prediction_type="epsilon", clip_skip=2, allow_pickle=True, base_config="x", flip=True)
    assert SD15.settings(keys) == {
        "resolution": 640, "prediction_type": "epsilon", "clip_skip": 2, "allow_pickle": True, "base_config": "x",
    }  # fmt: skip


def test_what_is_wrong_with_a_base_is_said_at_once(tmp_path):
    place = Path(shutil.copytree(TINY, tmp_path / "base"))
    assert SD15.problems(config(place), ImageKeys()) == []
    shutil.rmtree(place / "tokenizer")
    assert SD15.problems(config(place), ImageKeys()) == [f"base_model {place} lacks tokenizer."]
    file = tmp_path / "x.ckpt"
    file.touch()
    first, *rest = SD15.problems(config(file), ImageKeys(base_config="nonsense"))
    assert first.startswith(f"base_model {file} is a pickle") and rest == SD15.problems(
        config(file), ImageKeys(base_config="nonsense", allow_pickle=True)
    )
    assert [one.partition(" is ")[0] for one in rest] == ["base_config: 'nonsense'"]


@pytest.mark.parametrize(("keys", "said"), [({"conv_rank": 1}, True), ({}, False), ({"conv_rank": 1, "train_unet": False}, False)], ids=str)
def test_convolutions_that_get_no_lora_are_named_where_they_would_get_one(keys, said):
    found = SD15.remarks(config(), ImageKeys(train_text_encoder=True, **keys))
    assert list(found) == ["conv_rank leaves out down_blocks.3.resnets.0.conv_shortcut: Stable Diffusion 1.x has no such layer, "
                           "so no WebUI would read a LoRA on it"] * said  # fmt: skip


def test_a_base_that_grows_as_the_published_ones_do_leaves_out_nothing():
    assert strange_convolutions({"block_out_channels": [1, 2, 3, 3]}, "sd15") == strange_convolutions({}, "sd15") == []
    assert strange_convolutions({"block_out_channels": [1, 1, 1, 2]}, "sd15") == ["down_blocks.3.resnets.0.conv_shortcut"]
    assert strange_convolutions({"block_out_channels": [1, 2, 4]}, "sdxl") == []


def test_all_that_a_base_is_loaded_from(tmp_path):
    place = Path(shutil.copytree(TINY, tmp_path / "base"))
    (place / "safety_checker").mkdir()
    (place / "safety_checker" / "config.json").touch()
    used = {path.relative_to(place).parts[0] for path in SD15.base_files(config(place))}
    assert used == {"model_index.json", "unet", "vae", "scheduler", "text_encoder", "tokenizer"}
    (tmp_path / "x.safetensors").touch()
    assert SD15.base_files(config(tmp_path / "x.safetensors")) == [tmp_path / "x.safetensors"]


@pytest.mark.parametrize(
    ("target", "splits"),
    [("q,v", True), ("attention", False), ("all-linear", False), (["q_proj", "k_proj", "v_proj"], True), ("to_q", False), ("fc1", False),
     (["q_proj", "k_proj", "v_proj", "out_proj"], False), (r"text_encoder.*layers\.31\..*q_proj", True), (r"text_encoder.*layers\.0\..*q_proj", True)],
    ids=str,
)  # fmt: skip
def test_whether_a_target_takes_some_of_the_text_encoders_attention(target, splits):
    assert splits_text_attention(target) is splits


def test_what_is_published_of_each():
    from loraforge_image.families.stable_diffusion.kohya_names import KohyaFormat

    assert {name: (one.pipeline, one.tokenizers, one.smallest, one.predicts) for name, one in PUBLISHED.items()} == {
        "sd15": ("StableDiffusionPipeline", ("tokenizer",), 384, "epsilon"),
        "sd2": ("StableDiffusionPipeline", ("tokenizer",), 384, ""),
        "sdxl": ("StableDiffusionXLPipeline", ("tokenizer", "tokenizer_2"), 768, "epsilon"),
    }
    # As kohya's trainer writes them (its sai_model_spec.py and train_util.py).
    heads = {(name, p): tuple(KohyaFormat(name).header(p).values()) for name in PUBLISHED for p in ("epsilon", "v_prediction")}
    ours, theirs = "diffusers", "https://github.com/Stability-AI/generative-models"
    assert heads == {
        ("sd15", "epsilon"): ("sd_v1", "False", "stable-diffusion-v1/lora", ours, "epsilon"),
        ("sd15", "v_prediction"): ("sd_v1_v", "False", "stable-diffusion-v1/lora", ours, "v"),
        ("sd2", "epsilon"): ("sd_v2", "True", "stable-diffusion-v2-512/lora", ours, "epsilon"),
        ("sd2", "v_prediction"): ("sd_v2_v", "True", "stable-diffusion-v2-768-v/lora", ours, "v"),
        ("sdxl", "epsilon"): ("sdxl_base_v1-0", "False", "stable-diffusion-xl-v1-base/lora", theirs, "epsilon"),
        ("sdxl", "v_prediction"): ("sdxl_base_v1-0", "False", "stable-diffusion-xl-v1-base/lora", theirs, "v"),
    }
    assert [KohyaFormat(name).card for name in PUBLISHED] == ["SD1", "SD2", "SDXL"]
