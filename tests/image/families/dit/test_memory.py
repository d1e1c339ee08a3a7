# SPDX-License-Identifier: Apache-2.0
"""The estimate of what a transformer needs, against the real thing: numbers counted by torch, and what autograd keeps."""

from __future__ import annotations

import json

import pytest
from builders.dit.parts import config_of
from loraforge_image.families.dit.memory import Walk, activation_bytes, adapted, part_size
from loraforge_image.records import ImageKeys

from loraforge import KeySet, RunConfig


def settings(folder="x", **values):
    own = {key: value for key, value in values.items() if key in ImageKeys.model_fields}
    shared = {"precision": "bf16", "lora_dropout": 0.0, **{key: value for key, value in values.items() if key not in own}}
    config = RunConfig(train_data_dir="x", base_model=str(folder), **shared)
    return config, KeySet({RunConfig: config, ImageKeys: ImageKeys(**own)})


def test_every_number_is_counted(case, tiny):
    from loraforge_image.testing import check_walk

    check_walk(case.family(), tiny(case))


def test_published_sizes(case, tiny):
    """Billions of parameters, and the layers that get a LoRA, of the real model: built by diffusers without numbers."""
    import diffusers
    import torch

    given, billions, layers = case.published
    family = case.family()
    with torch.device("meta"):
        model = getattr(diffusers, family.transformer)(**given)
    walk = Walk(4096, 512)
    family.walk(model.config, walk)
    assert walk.parameters == sum(value.numel() for value in model.parameters())
    assert walk.parameters / 1e9 == pytest.approx(billions, abs=0.01)
    config, _ = settings(lora_rank=16)
    assert len(adapted(walk, config, family)) == layers
    # A forward pass multiplies the weights with the tokens of the picture, or of the caption in streams of its own, and tokens with tokens.
    assert 0.3 * walk.parameters * 4096 < walk.macs < 2 * walk.parameters * 4608


@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_autograd_keeps_is_what_is_said(checkpointing, case, base_of):
    import torch

    from loraforge.adapters import lora

    base, family = base_of(case), case.family()
    config, keys = settings(lora_rank=4, precision="fp32", gradient_checkpointing=checkpointing, kernels="off")
    if checkpointing:
        base.enable_gradient_checkpointing()
    targets = base.targets(config, keys[ImageKeys], base.network)
    injected = lora.inject(base.network, config, modules=targets)
    shape = base.latent_shape(256, 192)
    noisy = torch.randn(1, *shape)
    row = base.embed("word " * 25)
    length = max(len(value) for value in row.values() if value.ndim == 2)
    kept: dict[int, int] = {}
    frozen = {value.untyped_storage().data_ptr() for value in injected.model.parameters()}

    def keep(value):
        if value.untyped_storage().data_ptr() not in frozen:
            kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    injected.model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        guess = injected.model(noisy, torch.tensor([0.5]), base.join([row]), {})
    measured = sum(kept.values())
    assert guess.requires_grad
    walk = Walk(base.tokens(shape), length)
    family.walk(base.denoiser.config, walk)
    said, _ = activation_bytes(walk, adapted(walk, config, family), config, 1, "cpu")
    if checkpointing:  # beside what blocks are given, that of the block which is computed again
        assert measured < 1.1 * said
    else:
        assert 0.8 * measured < said < 1.3 * measured


def test_parts_are_counted_by_headers_shards_or_configurations(case, tiny, base_of, tmp_path):
    folder, pipe = tiny(case), base_of(case).pipe
    for name in ("vae", "text_encoder"):
        whole = {value.data_ptr(): value.numel() for value in getattr(pipe, name).state_dict().values()}  # files hold shared tensors once
        assert part_size(folder, name) == sum(whole.values())
    place = tmp_path / "text_encoder"
    place.mkdir()
    (place / "config.json").write_text(json.dumps({"dtype": "bfloat16"}), encoding="utf-8")
    assert part_size(tmp_path, "text_encoder") == 0
    (place / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 8_000}, "weight_map": {}}), encoding="utf-8")
    assert part_size(tmp_path, "text_encoder") == 4_000
    vae = config_of(folder, "vae")
    if vae["_class_name"] == "AutoencoderKL":  # nothing but the configuration of a hub id is fetched by check
        (tmp_path / "vae").mkdir()
        (tmp_path / "vae" / "config.json").write_text(json.dumps(vae), encoding="utf-8")
        assert part_size(tmp_path, "vae") == part_size(folder, "vae")


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        ({"_class_name": "AutoencoderKLQwenImage", "base_dim": 96}, 126.9), ({"_class_name": "AutoencoderKLQwenImage"}, 0),
        ({"architectures": ["T5EncoderModel"], "d_model": 4096}, 4762.3), ({"architectures": ["Qwen3ForCausalLM"], "hidden_size": 64}, 0),
        ({"architectures": ["Qwen2_5_VLForConditionalGeneration"], "text_config": {"hidden_size": 3584}}, 8292.2), ({}, 0),
    ],
    ids=str,
)  # fmt: skip
def test_parts_of_which_only_the_configuration_is_there_have_their_published_size(config, millions, tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert part_size(tmp_path, "part") == round(millions * 1e6)


def test_the_estimate_follows_the_settings(case, tiny):
    family, folder = case.family(), tiny(case)
    facts = {"pictures": 10, "rows": 10, "texts": 11, "caption_tokens": 30, "buckets": [(512, 512, 10)]}

    def needs(**values):
        config, keys = settings(folder, **{"batch_size": 1, **values})
        return family.estimate_memory(config, keys, facts, "cuda")

    plain = needs()
    assert plain.weights == 2 * plain.parameters["transformer"] + 4 * plain.parameters["vae"] // 2
    assert set(plain.parameters) >= {"transformer", "vae", "text_encoder"}
    # The transformer comes to the card when the encoders have left.
    vae = config_of(folder, "vae")
    width = vae["block_out_channels"][0] if "block_out_channels" in vae else vae["base_dim"]
    encoding = 2 * sum(plain.parameters.values()) - 2 * plain.parameters["transformer"] + 2 * plain.parameters["vae"]
    assert plain.phases["encoding"] == encoding + round(4 * 4.5 * 512 * 512 * width)
    matrices = 2 * plain.parameters["transformer"] - needs(precision="fp8", sample_prompts=[]).weights  # a byte less for each
    waiting = needs(offload="blocks", offload_share=0.5)
    assert 0 < matrices < plain.parameters["transformer"] and plain.weights - waiting.weights == matrices
    assert needs(precision="4bit").weights == plain.weights - round((2 - 4.5 / 8) * matrices) and waiting.transient > plain.transient
    assert plain.precisions == ("fp32", "bf16", "fp8", "4bit") and plain.savings[0] == {"offload": "encoders"} and len(plain.sums) == 2
    assert needs(sample_prompts=[]).weights == 2 * plain.parameters["transformer"]
    assert needs(gradient_checkpointing=True).activations < plain.activations < needs(batch_size=4).activations
    assert needs(lora_rank=32).trainable == 2 * needs(lora_rank=16).trainable > 0
    latents = 10 * 64 * 64 * case.channels * 2 * 4  # mean and deviation in float32
    assert latents < plain.files["cache"] < 2 * latents
    assert needs(flip=True).files["cache"] - plain.files["cache"] == latents
    assert dict(needs(resolution=1024, bucket_step=64).smaller)
