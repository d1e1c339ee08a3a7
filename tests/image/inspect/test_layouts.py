# SPDX-License-Identifier: Apache-2.0
"""Namings and kinds that were misjudged: the verdicts are what each program's own code did with such files (counts of changed modules)."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0."
TEXT = "text_model.encoder.layers.0.self_attn.q_proj"


@pytest.fixture
def look(command, tmp_path):
    def go(tensors):
        save_file({name: t.contiguous() for name, t in tensors.items()}, tmp_path / "a.safetensors", {"ss_base_model_version": "sd_v1"})
        code, out, err = command("inspect", tmp_path / "a.safetensors", "--json")
        assert code == 0, err
        found = json.loads(out)
        return found, {reader: judged["verdict"] for reader, judged in found["readers"].items()}

    return go


def pair(name, into=768, parts=("lora_A", "lora_B"), alpha=False):
    tensors = {f"{name}.{parts[0]}.weight": torch.ones(2, into), f"{name}.{parts[1]}.weight": torch.ones(8, 2)}
    return tensors | ({f"{name}.alpha": torch.tensor(1.0)} if alpha else {})


def many(start, end, n, **options):
    return {k: v for i in range(n) for k, v in pair(f"{start}{i}{end}", **options).items()}


def test_comfyui_reads_its_own_names_whole_and_forge_refuses_what_is_left_over(look):
    """OneTrainer's COMFY format: ComfyUI 264 of 264, Forge 192 of 264 with more left over than it allows."""
    unet = many("diffusion_model.input_blocks.1.1.transformer_blocks.", ".attn2.to_k", 3, alpha=True)
    text = many("text_encoders.clip_l.transformer.text_model.encoder.layers.", ".self_attn.q_proj", 5, alpha=True)
    found, verdicts = look(unet | text)
    assert verdicts["ComfyUI"] == "takes" and verdicts["Forge"] == "refuses" and found["parts"] == {"attention": 3, "te1": 5}
    assert look(unet)[1]["Forge"] == "takes"


def test_forge_loads_nothing_of_diffusers_new_names_where_comfyui_only_drops_the_attention(look):
    tensors = many(f"unet.{BLOCK}attn1.to_q", "", 1) | many("unet.down_blocks.", ".attentions.0.transformer_blocks.0.attn2.to_k", 9)
    tensors |= pair(f"unet.{BLOCK}ff.net.0.proj")
    _, verdicts = look(tensors)
    assert (verdicts["Forge"], verdicts["ComfyUI"]) == ("refuses", "drops")


def test_simpletuners_lycoris_names_are_taken_by_forge_and_comfyui(look):
    found, verdicts = look(pair(f"lycoris_{BLOCK.replace('.', '_')}attn2_to_k", parts=("lora_down", "lora_up"), alpha=True))
    assert found["family"] == "sd15" and verdicts["Forge"] == verdicts["ComfyUI"] == "takes"


def test_sdnext_reads_no_attention_of_old_diffusers_names(look):
    _, verdicts = look(
        {f"unet.{BLOCK}attn1.processor.to_q_lora.{way}.weight": torch.ones(shape) for way, shape in (("down", (2, 8)), ("up", (8, 2)))}
    )
    assert verdicts["SD.Next"] == "refuses" and verdicts["ComfyUI"] == verdicts["Forge"] == "takes"


KINDS = {
    "loha": {"hada_w1_a": (8, 2), "hada_w1_b": (2, 768), "hada_w2_a": (8, 2), "hada_w2_b": (2, 768)},
    "lokr": {"lokr_w1": (2, 4), "lokr_w2": (4, 192)},
    "oft": {"oft_blocks": (2, 4, 4)},
    "full": {"diff": (8, 768)},
    "oftv2": {"oft_R.weight": (2, 6)},
    "ia3": {"weight": (8,), "on_input": ()},
    "glora": {"a1.weight": (2, 768), "a2.weight": (768, 2), "b1.weight": (8, 2), "b2.weight": (2, 768)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_kohyas_plain_module_reads_no_lycoris_kind(kind, look):
    """sd-scripts' networks.lora: 0 of 354 of a LoHa that ComfyUI takes whole."""
    name = f"lora_unet_{BLOCK.replace('.', '_')}attn2_to_k"
    found, verdicts = look({f"{name}.{what}": torch.ones(shape) for what, shape in KINDS[kind].items()})
    assert found["kinds"] == {kind: 1} and verdicts["kohya"] == "refuses" and not found["leftover"]
    assert verdicts["ComfyUI"] == {"glora": "unknown", "ia3": "refuses", "oftv2": "refuses"}.get(kind, "takes")
    assert verdicts["Forge"] == {"glora": "unknown", "ia3": "refuses", "oftv2": "refuses", "oft": "refuses"}.get(kind, "takes")


@pytest.mark.parametrize(
    ("name", "parts", "expected"),
    [
        ("diffusion_model.double_blocks.0.img_attn.qkv", ("lora_A", "lora_B"), {"ComfyUI": "takes", "Forge": "takes", "diffusers": "refuses"}),
        ("diffusion_model.single_transformer_blocks.0.attn.to_q", ("lora_A", "lora_B"),
         {"ComfyUI": "refuses", "Forge": "refuses", "diffusers": "refuses"}),
        ("lora_transformer_single_transformer_blocks_0_attn_to_q", ("lora_down", "lora_up"),
         {"ComfyUI": "takes", "Forge": "takes", "diffusers": "refuses", "kohya": "refuses"}),
        ("lycoris_single_transformer_blocks_0_attn_to_q", ("lora_down", "lora_up"), {"ComfyUI": "takes", "Forge": "takes", "kohya": "unknown"}),
        ("lora_unet_final_layer_linear", ("lora_down", "lora_up"), {"ComfyUI": "takes", "diffusers": "drops"}),
    ],
)  # fmt: skip
def test_flux_by_naming(name, parts, expected, look):
    tensors = pair(name, parts=parts)
    if "final" in name:
        tensors |= pair("lora_unet_double_blocks_0_img_attn_qkv", parts=parts)
    found, verdicts = look(tensors)
    assert found["family"] == "flux1" and {reader: verdicts[reader] for reader in expected} == expected and verdicts["A1111"] == "refuses"


def test_flux_of_xlabs_and_lokr_of_flux_are_recognised(look):
    xlabs = {f"double_blocks.0.processor.{which}.{way}.weight": torch.ones(shape)
             for which in ("qkv_lora1", "qkv_lora2", "proj_lora1") for way, shape in (("down", (2, 3072)), ("up", (8, 2)))}  # fmt: skip
    found, verdicts = look(xlabs)
    assert found["family"] == "flux1" and found["modules"] == 3 and not found["leftover"] and verdicts["ComfyUI"] == "unknown"
    lokr = {f"lycoris_transformer_blocks_0_{layer}.{what}": torch.ones(shape) for layer in ("attn_to_q", "ff_context_net_2")
            for what, shape in (("lokr_w1", (4, 4)), ("lokr_w2", (768, 768)))}  # fmt: skip
    assert look(lokr)[0]["family"] == "flux1"


def test_a_bias_beside_a_pair_belongs_to_its_module(look):
    found, _ = look(
        pair("transformer.x_embedder", 64)
        | {"transformer.x_embedder.lora_B.bias": torch.ones(8)}
        | pair("transformer.single_transformer_blocks.0.attn.to_q")
    )
    assert found["modules"] == 2 and not found["leftover"]
