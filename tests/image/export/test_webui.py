# SPDX-License-Identifier: Apache-2.0
"""The WebUI file: names against golden lists, tensors, metadata, hashes."""

from __future__ import annotations

import hashlib
import json
import struct

import pytest
from builders.webui_files import make_adapter, read
from loraforge_image.export.webui import WebuiExporter
from loraforge_image.export.webui_metadata import serialise
from loraforge_image.families.stable_diffusion.kohya_names import known_modules, kohya_name

from loraforge import ExportError

GOLDEN = {
    ("sd15", "unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0"): "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_out_0",
    ("sd15", "unet.up_blocks.3.attentions.2.transformer_blocks.0.ff.net.0.proj"): "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_0_proj",
    ("sd15", "unet.mid_block.resnets.1.time_emb_proj"): "lora_unet_mid_block_resnets_1_time_emb_proj",
    ("sd15", "text_encoder.encoder.layers.11.mlp.fc2"): "lora_te_text_model_encoder_layers_11_mlp_fc2",
    ("sd15", "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"): "lora_te_text_model_encoder_layers_0_self_attn_q_proj",
    ("sd2", "text_encoder.encoder.layers.22.self_attn.out_proj"): "lora_te_text_model_encoder_layers_22_self_attn_out_proj",
    ("sdxl", "text_encoder.encoder.layers.3.self_attn.v_proj"): "lora_te1_text_model_encoder_layers_3_self_attn_v_proj",
    ("sdxl", "text_encoder_2.text_model.encoder.layers.31.mlp.fc1"): "lora_te2_text_model_encoder_layers_31_mlp_fc1",
    ("sdxl", "unet.down_blocks.1.attentions.0.proj_in"): "lora_unet_input_blocks_4_1_proj_in",
    ("sdxl", "unet.down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_k"): "lora_unet_input_blocks_8_1_transformer_blocks_9_attn2_to_k",
    ("sdxl", "unet.mid_block.attentions.0.transformer_blocks.3.ff.net.2"): "lora_unet_middle_block_1_transformer_blocks_3_ff_net_2",
    ("sdxl", "unet.mid_block.resnets.1.conv2"): "lora_unet_middle_block_2_out_layers_3",
    ("sdxl", "unet.up_blocks.0.attentions.2.proj_out"): "lora_unet_output_blocks_2_1_proj_out",
    ("sdxl", "unet.up_blocks.1.attentions.0.proj_in"): "lora_unet_output_blocks_3_1_proj_in",
    ("sdxl", "unet.up_blocks.2.resnets.2.conv_shortcut"): "lora_unet_output_blocks_8_0_skip_connection",
    ("sdxl", "unet.down_blocks.1.resnets.0.time_emb_proj"): "lora_unet_input_blocks_4_0_emb_layers_1",
    ("sdxl", "unet.down_blocks.0.downsamplers.0.conv"): "lora_unet_input_blocks_3_0_op",
    ("sdxl", "unet.up_blocks.0.upsamplers.0.conv"): "lora_unet_output_blocks_2_2_conv",
}  # fmt: skip


@pytest.mark.parametrize(("family", "module"), list(GOLDEN))
def test_golden_names(family, module):
    assert kohya_name(module, family) == GOLDEN[family, module] and GOLDEN[family, module] in known_modules(family)


@pytest.mark.parametrize(
    ("family", "unet", "convolutions", "text"),
    [("sd15", 192, 86, 72), ("sd2", 192, 86, 144), ("sdxl", 722, 66, 264)],
)
def test_golden_counts(family, unet, convolutions, text):
    names = known_modules(family)
    blocks = [n for n in names if n.startswith("lora_unet_")]
    attention = [n for n in blocks if "attentions" in n or "transformer" in n or n.endswith(("_1_proj_in", "_1_proj_out"))]
    attention += [
        "x"
        for n in blocks
        if family == "sdxl" and n in ("lora_unet_middle_block_1_proj_in", "lora_unet_middle_block_1_proj_out") and n not in attention
    ]
    assert (len(attention), len(blocks) - len(attention), len(names) - len(blocks)) == (unet, convolutions, text)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_tensors_alpha_and_dtype(tmp_path, precision):
    import safetensors.torch
    import torch

    adapter = make_adapter(config={"save_precision": precision})
    file = WebuiExporter().export(adapter, tmp_path)
    tensors = safetensors.torch.load_file(file)
    kind = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    assert len(tensors) == 9 and all(t.dtype == (torch.float32 if n.endswith(".alpha") else kind) for n, t in tensors.items())
    name = "lora_unet_down_blocks_0_resnets_0_conv1"
    assert tensors[f"{name}.alpha"].shape == () and float(tensors[f"{name}.alpha"]) == 1.0  # 2 / 4 x rank 2
    assert tensors[f"{name}.lora_down.weight"].shape == (2, 8, 3, 3) and tensors[f"{name}.lora_up.weight"].shape == (8, 2, 1, 1)
    for module in adapter.modules:
        base = "lora_" + module.replace(".", "_")
        down, up = (tensors[f"{base}.lora_{p}.weight"].float() for p in ("down", "up"))
        made = float(tensors[f"{base}.alpha"]) / down.shape[0] * up.flatten(1) @ down.flatten(1)
        wanted = 0.5 * adapter.tensors[f"{module}.lora_B.weight"].flatten(1) @ adapter.tensors[f"{module}.lora_A.weight"].flatten(1)
        assert float((made - wanted).norm() / wanted.norm()) < {"fp16": 1e-3, "bf16": 1e-2, "fp32": 1e-6}[precision]


@pytest.mark.parametrize(
    ("config", "facts", "said"),
    [
        ({}, {}, {"ss_loss_type": "l2", "ss_huber_c": "None", "ss_multires_noise_discount": "None", "ss_debiased_estimation": "False",
                  "ss_zero_terminal_snr": "False", "ss_max_token_length": "None", "ss_ip_noise_gamma": "None"}),
        ({"loss_type": "huber", "huber_c": 0.2, "huber_schedule": None}, {}, {"ss_loss_type": "huber", "ss_huber_c": "0.2", "ss_huber_schedule": "snr"}),
        ({"multires_noise_iterations": 6, "multires_noise_discount": 0.4, "ip_noise_gamma": 0.1, "debiased_estimation": True, "tag_dropout": 0.2}, {},
         {"ss_multires_noise_iterations": "6", "ss_multires_noise_discount": "0.4", "ss_ip_noise_gamma": "0.1", "ss_debiased_estimation": "True",
          "ss_caption_tag_dropout_rate": "0.2"}),
        ({}, {"zero_terminal_snr": True, "max_caption_tokens": 150}, {"ss_zero_terminal_snr": "True", "ss_max_token_length": "150"}),
        ({"text_encoder_lr": [1e-5, 5e-6], "train_text_encoder": True}, {}, {"ss_text_encoder_lr": "[1e-05, 5e-06]"}),
    ],
    ids=str,
)  # fmt: skip
def test_what_was_minimised_is_said_in_the_words_of_sd_scripts(config, facts, said, tmp_path):
    values = read(WebuiExporter().export(make_adapter(config=config, image=facts), tmp_path))[0]["__metadata__"]
    assert {name: values[name] for name in said} == said


def test_metadata_hashes_and_card(tmp_path):
    config = {"resolution": 640, "learning_rate": 1e-4, "notes": "说明", "preferred_weight": 0.7, "clip_skip": 2, "seed": 7}
    captions = {"10_city": {"repeats": 10, "pictures": 3, "tags": {"neon": 3, "rain": 1}}}
    adapter = make_adapter(
        config=config, captions=captions, buckets=[[640, 640, 2], [512, 768, 1]], trigger_words=["zz style"], started=1.5
    )
    file = WebuiExporter().export(adapter, tmp_path)
    header, raw, body = read(file)
    values = header["__metadata__"]
    assert raw.startswith(b'{"') and len(raw) % 8 == 0 and all(isinstance(v, str) for v in values.values())
    assert values["ss_output_name"] == "neon" and values["ss_base_model_version"] == "sd_v1" and values["ss_v2"] == "False"
    assert values["ss_network_module"] == "networks.lora" and values["ss_network_dim"] == "4" and values["ss_network_alpha"] == "2"
    assert json.loads(values["ss_network_args"]) == {"conv_dim": "2", "conv_alpha": "1"}
    assert json.loads(values["ss_tag_frequency"]) == {"10_city": {"neon": 3, "rain": 1}}
    assert json.loads(values["ss_dataset_dirs"]) == {"10_city": {"n_repeats": 10, "img_count": 3}}
    assert json.loads(values["ss_bucket_info"])["buckets"]["1"] == {"resolution": [512, 768], "count": 1}
    assert float(values["ss_training_started_at"]) == 1.5 and values["ss_clip_skip"] == "2"
    assert values["modelspec.architecture"] == "stable-diffusion-v1/lora" and values["modelspec.implementation"] == "diffusers"
    assert values["modelspec.resolution"] == "640x640" and values["modelspec.trigger_phrase"] == "zz style"
    assert values["sshs_model_hash"] == hashlib.sha256(body).hexdigest() and values["sshs_legacy_hash"] == "e3b0c442"
    card = json.loads((tmp_path / "neon.json").read_text(encoding="utf-8"))
    assert (
        card["sd version"] == "SD1"
        and card["activation text"] == "zz style"
        and card["preferred weight"] == 0.7
        and card["notes"] == "说明"
    )
    assert WebuiExporter().usage(adapter, file)[-1] == "# in the prompt: <lora:neon:0.7> zz style"


@pytest.mark.parametrize("family", ["z-image", "flux2", "flux1", "chroma", "qwen-image", "sd35"])
def test_a_transformers_file_goes_to_comfyui(family, tmp_path):
    file = tmp_path / "neon.safetensors"
    lines = WebuiExporter().usage(make_adapter(family=family, config={"preferred_weight": 0.7}, trigger_words=["zz style"]), file)
    assert lines[0].endswith("neon.* ComfyUI/models/loras/") and "neon.safetensors, strength 0.7" in lines[1]
    assert lines[2:] == ["# in the prompt: zz style"] and not any("<lora:" in line for line in lines)
    installed = make_adapter(family=family, config={"webui": "/w"}, trigger_words=[])
    assert len(WebuiExporter().usage(installed, file)) == 1


def test_folders_keep_their_names_in_the_tags(tmp_path):
    def place(repeats):
        return {"repeats": repeats, "pictures": 1, "tags": {"a": 1}}

    captions = {"red_car": place(1), "blue_car": place(1), "10_dog": place(10)}
    values = read(WebuiExporter().export(make_adapter(captions=captions, started=None), tmp_path))[0]["__metadata__"]
    assert set(json.loads(values["ss_tag_frequency"])) == {"1_red_car", "1_blue_car", "10_dog"}


def test_the_legacy_hash_of_a_large_file():
    import safetensors.torch
    import torch

    tensors = {"a.lora_up.weight": torch.arange(600_000, dtype=torch.float32)}
    values = {"ss_a": "1", "modelspec.title": "t"}
    data = serialise(tensors, values)
    (length,) = struct.unpack("<Q", data[:8])
    found = json.loads(data[8 : 8 + length])["__metadata__"]
    alone = safetensors.torch.save(tensors, {"ss_a": "1"})
    assert found["sshs_legacy_hash"] == hashlib.sha256(alone[0x100000:0x110000]).hexdigest()[:8] != "e3b0c442"
    assert data == serialise(tensors, values)
    assert safetensors.torch.load(data)["a.lora_up.weight"].equal(tensors["a.lora_up.weight"])


def test_hash_vectors():
    """Of a file whose bytes are known; the digests come from sha256sum."""
    import torch

    data = serialise({"a.lora_up.weight": torch.tensor([[1.0, 2.0]]), "a.alpha": torch.tensor(4.0)}, {"ss_a": "1"})
    (length,) = struct.unpack("<Q", data[:8])
    # One type, so by name: alpha, then the matrix, little-endian float32.
    assert data[8 + length :] == bytes.fromhex("00008040" + "0000803f" + "00000040")
    values = json.loads(data[8 : 8 + length])["__metadata__"]
    wanted = "4e1475153615228711c105a8e346c145dbb0848b161659df4009e7f388d589f8"
    assert values["sshs_model_hash"] == wanted and values["sshs_legacy_hash"] == "e3b0c442"  # under 1 MiB: that of nothing
    # Other metadata: the same tensors, so the same hash; half precision: another.
    again = serialise({"a.alpha": torch.tensor(4.0), "a.lora_up.weight": torch.tensor([[1.0, 2.0]])}, {"modelspec.title": "else"})
    assert wanted in again.decode("latin-1")
    assert wanted not in serialise({"a.alpha": torch.tensor(4.0).half()}, {}).decode("latin-1")


def test_the_short_hashes_that_people_compare(tmp_path, command):
    """AutoV2 (Civitai) of the whole file; AutoV3 and what A1111 writes into pictures of the bytes behind the header."""
    file = WebuiExporter().export(make_adapter(), tmp_path)
    data = file.read_bytes()
    body = data[8 + int.from_bytes(data[:8], "little") :]
    code, out, err = command("inspect", file, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["autov2"] == hashlib.sha256(data).hexdigest()[:10]
    assert found["autov3"] == hashlib.sha256(body).hexdigest()[:12] == read(file)[0]["__metadata__"]["sshs_model_hash"][:12]


@pytest.mark.parametrize(
    ("family", "version", "architecture"),
    [("sd2", "SD2", "stable-diffusion-v2-512/lora"), ("sdxl", "SDXL", "stable-diffusion-xl-v1-base/lora")],
)
def test_other_families_say_what_they_are(family, version, architecture, tmp_path):
    module = {"unet.mid_block.attentions.0.proj_in": ((4, 8), (8, 4))}
    file = WebuiExporter().export(make_adapter(family, module), tmp_path)
    assert read(file)[0]["__metadata__"]["modelspec.architecture"] == architecture
    assert json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))["sd version"] == version


def test_what_no_reader_matches_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"unet\.conv_in"):
        WebuiExporter().export(make_adapter(modules={"unet.conv_in": ((4, 8, 3, 3), (8, 4, 1, 1))}), tmp_path)
    with pytest.raises(ExportError, match=r"self_attn\.\(q, k, v, out\)"):
        WebuiExporter().export(make_adapter(modules={"text_encoder.encoder.layers.0.self_attn.q_proj": ((4, 8), (8, 4))}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_does_something_else_is_refused(tmp_path):
    import dataclasses

    adapter = make_adapter()
    wrong = dataclasses.replace(adapter, alpha=4)
    with pytest.raises(ExportError, match="would not do what was trained"):
        WebuiExporter().export(wrong, tmp_path)


def test_equal_adapters_give_equal_files_at_any_time(tmp_path, monkeypatch):
    import time

    from loraforge_image.export.diffusers import DiffusersExporter

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        WebuiExporter().export(make_adapter(), tmp_path / name)
        DiffusersExporter().export(make_adapter(), tmp_path / name)
        monkeypatch.setattr(time, "time", lambda: 2e9)
    names = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert len(names) == 3
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    values = read(tmp_path / "a" / "neon.safetensors")[0]["__metadata__"]
    assert not {"ss_training_started_at", "ss_training_finished_at", "modelspec.date"} & set(values)  # nothing knows it
    file = WebuiExporter().export(make_adapter(started=1700000000), tmp_path)
    assert read(file)[0]["__metadata__"]["modelspec.date"] == "2023-11-14T22:13:20Z"
    assert serialise({}, {}) == serialise({}, {})


def test_an_unchanged_lora_is_installed_again_without_a_question(tmp_path):
    place = tmp_path / "ui" / "models" / "Lora"
    place.mkdir(parents=True)
    adapter = make_adapter(config={"webui": str(tmp_path / "ui")})
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        file = WebuiExporter().export(adapter, tmp_path / name)
        assert WebuiExporter().deliver(adapter, file)
    (place / "neon.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ExportError, match=r"neon\.json is there already, and differs"):
        WebuiExporter().deliver(adapter, file)


def test_an_unchanged_run_is_exported_to_the_same_bytes(gallery, paint, tmp_path, command):
    outcome = paint(gallery(export=["webui"], max_steps=1, lora_target="attention"))
    before = {file.name: file.read_bytes() for file in outcome.exports["webui"].parent.iterdir()}
    code, _, err = command("export", outcome.run.path, "--to", "webui")
    assert code == 0, err
    assert before == {file.name: file.read_bytes() for file in outcome.exports["webui"].parent.iterdir()} and len(before) == 3


@pytest.mark.parametrize(
    ("facts", "old", "new"), [({"base_hash": "0a1b2c3d", "base_sha256": "e" * 64}, "0a1b2c3d", "e" * 64), ({}, "", "")]
)
def test_the_base_has_its_old_hash_and_its_whole_one(facts, old, new, tmp_path):
    """As sd-scripts writes them: eight digits in ss_sd_model_hash, SHA-256 in ss_new_sd_model_hash."""
    header, _, _ = read(WebuiExporter().export(make_adapter(**facts), tmp_path))
    assert (header["__metadata__"]["ss_sd_model_hash"], header["__metadata__"]["ss_new_sd_model_hash"]) == (old, new)
