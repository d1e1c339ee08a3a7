# SPDX-License-Identifier: Apache-2.0
"""One name for each layer: there and back for all that the readers know, and as diffusers' own converter has it."""

from __future__ import annotations

import pytest
from loraforge_image.families.stable_diffusion.kohya_names import known_modules, of_canonical
from loraforge_image.lora_files.names import canonical, of_network


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
def test_every_known_module_has_one_name_and_finds_back(family):
    names = known_modules(family)
    called = {canonical(name) for name in names}
    assert len(called) == len(names) and {of_canonical(one, family) for one in called} == names


def test_original_names_are_turned_as_diffusers_turns_them():
    from types import SimpleNamespace

    from diffusers.loaders.lora_conversion_utils import _maybe_map_sgm_blocks_to_diffusers

    names = sorted(name for name in known_modules("sdxl") if "_unet_" in name)
    keys = {f"{name}.lora_down.weight": name for name in names}
    turned = _maybe_map_sgm_blocks_to_diffusers(dict(keys), SimpleNamespace(layers_per_block=2))
    inside = {
        **{"in_layers_2": "conv1", "out_layers_3": "conv2", "emb_layers_1": "time_emb_proj", "skip_connection": "conv_shortcut"},
        **{"input_blocks": "down_blocks", "output_blocks": "up_blocks", "middle_block": "mid_block", "samplers_0_op": "samplers_0_conv"},
    }
    assert len(turned) == len(names) > 700
    for key, name in turned.items():
        path = key.removeprefix("lora_unet_").removesuffix(".lora_down.weight")
        for old, new in inside.items():
            path = path.replace(old, new)
        assert canonical(name) == f"denoiser_{path}", name


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("base_model.model.unet.mid_block.attentions.0.proj_in", "denoiser_mid_block_attentions_0_proj_in"),
        ("lora_unet_output_blocks_2_1_conv", "denoiser_up_blocks_0_upsamplers_0_conv"),
        ("lora_unet_output_blocks_5_2_conv", "denoiser_up_blocks_1_upsamplers_0_conv"),
        ("diffusion_model.input_blocks.3.0.op", "denoiser_down_blocks_0_downsamplers_0_conv"),
        ("down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_out", "denoiser_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0"),
        ("text_encoder.text_model.encoder.layers.3.self_attn.to_q", "te1_encoder_layers_3_self_attn_q_proj"),
        ("lora_te_text_model_encoder_layers_3_mlp_fc1", "te1_encoder_layers_3_mlp_fc1"),
        ("text_encoders.clip_g.transformer.text_model.encoder.layers.3.mlp.fc1", "te2_encoder_layers_3_mlp_fc1"),
        ("text_encoder_2.encoder.layers.3.mlp.fc1", "te2_encoder_layers_3_mlp_fc1"),
        ("lora_te3_encoder_block_0_layer_0_SelfAttention_q", "te3_encoder_block_0_layer_0_SelfAttention_q"),
        ("transformer.transformer_blocks.0.attn.to_q", "denoiser_transformer_blocks_0_attn_to_q"),
        ("transformer_blocks.0.attn.to_q", "denoiser_transformer_blocks_0_attn_to_q"),
        ("something.else", "something.else"),
    ],
)  # fmt: skip
def test_names_of_every_program(name, called):
    assert canonical(name) == called


def test_modules_of_a_pipeline_meet_them():
    assert of_network("transformer.transformer_blocks.0.attn.to_q", "transformer") == canonical(
        "lora_transformer_transformer_blocks_0_attn_to_q"
    )
    assert of_network("text_encoder.encoder.layers.0.mlp.fc1", "unet") == canonical("lora_te1_text_model_encoder_layers_0_mlp_fc1")
