# SPDX-License-Identifier: Apache-2.0
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
        "resolution": 640, "prediction_type": "epsilon", "zero_terminal_snr": "auto", "clip_skip": 2, "allow_pickle": True, "base_config": "x",
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


# --- keys that mean something -----------------------------------------------------------------------------------------------

# What a key needs to mean something: nothing; a schedule of alphas; CLIP alone; a U-Net; a base in one file.
MEANS = {
    "": "resolution bucket_step bucket_max_ratio bucket_no_upscale crop flip mask unmasked_weight trigger_word caption_shuffle keep_tokens "
    "keep_tokens_separator tag_dropout caption_dropout train_unet min_timestep max_timestep loss_type huber_c huber_schedule ip_noise_gamma "
    "prior_data_dir prior_loss_weight sample_prompts sample_negative sample_steps sample_cfg sample_seed cache_dir prompt_scorer "
    "more_resolutions offload offload_share vae_tiling",
    "alphas": "prediction_type zero_terminal_snr noise_offset multires_noise_iterations multires_noise_discount min_snr_gamma "
    "debiased_estimation",
    "clip": "train_text_encoder text_encoder_lr clip_skip max_caption_tokens",
    "unet": "conv_rank",
    "file": "allow_pickle base_config",
    "distilled": "assistant_adapter",
}


def test_every_key_means_something_to_a_base_or_is_refused():
    """A new key has to be put somewhere."""
    from builders.strangers import sd3

    means = {kind: set(names.split()) for kind, names in MEANS.items()}
    known = set.union(*means.values())
    assert set(ImageKeys.model_fields) == known
    assert set(sd3().StableDiffusion3().meaningless()) == known - means[""]
    for family in NAMED.values():
        assert set(family.meaningless()) == {"assistant_adapter", *(["clip_skip"] if family.name == "sdxl" else [])}


# --- captions and what a base says of itself -------------------------------------------------------------------------------


def rows(*captions):
    from loraforge_image.records import Picture

    from loraforge import Span

    return [(Picture(where=str(i), path=f"{i}.png", caption=text), [Span(text)]) for i, text in enumerate(captions)]


@pytest.mark.parametrize(
    ("keys", "captions", "facts", "said"),
    [
        ({}, ["short"], {"max_caption_tokens": 75}, ""),
        ({}, ["! a " * 40], {"max_caption_tokens": 150}, "captions have up to 80 tokens: max_caption_tokens is 150"),
        ({}, ["! a " * 400], {"max_caption_tokens": 225}, "max_caption_tokens is 225\n1 caption is cut at 225 tokens: 0 (800)"),
        ({"max_caption_tokens": 75}, ["! a " * 40], {"max_caption_tokens": 75}, "1 caption is cut at 75 tokens: 0 (80)"),
        ({"caption_shuffle": True}, ["a, b, c, d"], {"max_caption_tokens": 75}, ""),
        (
            {"caption_shuffle": True},
            ["a, b, c, d, e"],
            {"max_caption_tokens": 75, "captions_in_step": True},
            "the text encoders stay in memory",
        ),
        ({"caption_shuffle": True, "train_text_encoder": True}, ["a, b, c, d, e"], {"max_caption_tokens": 75}, ""),
        ({"tag_dropout": 0.1}, ["x\na, b, c, d, e"], {"max_caption_tokens": 75, "captions_in_step": True}, "stay in memory"),
    ],
)
def test_what_is_known_of_captions(keys, captions, facts, said):
    found, lines = SD15.examine_captions(config(), ImageKeys(**keys), rows(*captions))
    assert found == facts and (said in "\n".join(lines) if said else not lines)


@pytest.mark.parametrize(
    ("base", "keys", "said"),
    [
        ({"prediction": "v_prediction", "zero_snr": True}, {}, ["its noise ends in noise alone (zero terminal SNR); it is trained and drawn so"]),
        ({"zero_snr": True}, {}, ["but not that it predicts velocity"]),
        ({"prediction": "v_prediction", "zero_snr": True}, {"zero_terminal_snr": False}, ["zero_terminal_snr: false is what the config says; the base says true"]),
        ({"prediction": "v_prediction"}, {"prediction_type": "epsilon"}, ["prediction_type: epsilon is what the config says; the base says v_prediction"]),
        ({"clip_skip": 2}, {}, ["was trained with clip_skip: 2; the config has 1"]), ({"clip_skip": 2}, {"clip_skip": 2}, []), ({}, {}, []),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_base_says_of_itself_is_told(base, keys, said, monkeypatch):
    from loraforge_image.families.stable_diffusion import family as module
    from loraforge_image.families.stable_diffusion.identify import Base

    monkeypatch.setattr(module, "identify", lambda *_: Base(TINY, "sd15", "x", **base))
    found = SD15.remarks(config(), ImageKeys(**keys))
    assert len(found) == len(said) and all(one in line for one, line in zip(said, found, strict=True))
    if base.get("clip_skip"):
        assert not NAMED["sdxl"].remarks(config(), ImageKeys())  # which takes another layer always


def test_noise_alone_tells_nothing_of_noise():
    (problem,) = SD15.problems(config(), ImageKeys(zero_terminal_snr=True))
    assert problem.startswith("zero_terminal_snr: true goes with bases that predict velocity")
    assert not SD15.problems(config(), ImageKeys(zero_terminal_snr=True, prediction_type="v_prediction"))


@pytest.mark.parametrize(("keys", "said"), [({"text_encoder_lr": 0}, "text_encoder_lr: 0: the text encoders are not trained"),
                                            ({"text_encoder_lr": [0, 1e-5]}, "[0.0, 1e-05]: the text encoders with a rate of 0"), ({}, "")])  # fmt: skip
def test_a_rate_of_nothing_is_said(keys, said):
    assert said in "".join(SD15._rates(config(), ImageKeys(train_text_encoder=True, **keys)))


@pytest.mark.parametrize(("part", "value"), [("unet", "nan"), ("text_encoder", "inf"), ("vae", "-inf")])
def test_a_base_that_holds_no_numbers_is_named_as_that(part, value, sd_bases, tmp_path):
    import safetensors.torch

    from loraforge import KeySet, ModelError

    place = Path(shutil.copytree(sd_bases("sd15"), tmp_path / "base"))
    (file,) = (place / part).glob("*.safetensors")
    tensors = safetensors.torch.load_file(file)
    name = sorted(name for name, tensor in tensors.items() if tensor.ndim == 2)[3]
    tensors[name].view(-1)[1] = float(value)
    safetensors.torch.save_file(tensors, file, {"format": "pt"})
    with pytest.raises(ModelError, match=r"1 of its tensors holds values that are no numbers \(NaN or infinite\): ") as caught:
        SD15.load(config(place, precision="fp32"), KeySet({RunConfig: config(place, precision="fp32"), ImageKeys: ImageKeys()}), None)
    # transformers puts a level of its own away
    assert f"{part}." in str(caught.value) and name.removeprefix("text_model.") in str(caught.value)


def test_levels_that_are_none_are_refused():
    from builders.strangers import sd3

    found = [family._level_problems(ImageKeys(min_timestep=500, max_timestep=500)) for family in (SD15, sd3().StableDiffusion3())]
    assert found == [["min_timestep: must be less than max_timestep (500); got 500."]] * 2
    keys = ImageKeys(loss_type="huber", huber_schedule="snr")
    assert (
        not SD15._level_problems(keys) and "huber_schedule: snr means nothing for sd3" in sd3().StableDiffusion3()._level_problems(keys)[0]
    )
