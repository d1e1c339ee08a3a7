# SPDX-License-Identifier: Apache-2.0
"""``loraforge inspect``: files made here, figures checked against dense products, verdicts against what the readers were seen to do."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct

import pytest
import torch
from click.testing import CliRunner
from loraforge_image.families.stable_diffusion.kohya_names import known_modules
from loraforge_image.inspect.command import inspect
from safetensors.torch import save_file

from loraforge import RunError

SD1 = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_"
SDXL = "lora_unet_input_blocks_4_1_transformer_blocks_0_"
TEXT = "text_model_encoder_layers_0_self_attn_"


def pair(name, out=8, into=8, rank=2, alpha=None, form=("lora_down", "lora_up"), seed=0):
    make = torch.Generator().manual_seed(seed + len(name))
    tensors = {
        f"{name}.{form[0]}.weight": torch.randn(rank, into, generator=make),
        f"{name}.{form[1]}.weight": torch.randn(out, rank, generator=make),
    }
    return tensors | ({f"{name}.alpha": torch.tensor(float(alpha))} if alpha is not None else {})


def sd1(cross=768, **options):
    return (
        pair(SD1 + "attn1_to_q", alpha=1, **options)
        | pair(SD1 + "attn2_to_k", into=cross, alpha=1, **options)
        | {k: v for letter in ("q", "k", "v", "out") for k, v in pair(f"lora_te_{TEXT}{letter}_proj", into=768, alpha=1).items()}
    )


def sdxl(prefix="lora_te1_"):
    parts = pair(SDXL + "attn2_to_k", into=2048, alpha=2)
    for te, width in ((prefix, 768), ("lora_te2_", 1280)):
        for letter in ("q", "k", "v", "out"):
            parts |= pair(f"{te}{TEXT}{letter}_proj", into=width, alpha=2)
    return parts


@pytest.fixture
def look(tmp_path):
    """Saves tensors, inspects the file, and sees that nothing was written: the summary, and the text."""

    def go(tensors, metadata=None, name="style.safetensors"):
        file = tmp_path / name
        save_file({k: v.contiguous() for k, v in tensors.items()}, file, metadata)
        return ask(file)

    return go


def ask(path):
    folder = path if path.is_dir() else path.parent
    before = sorted(os.listdir(folder))
    result = CliRunner().invoke(inspect, [str(path), "--json"])
    assert result.exit_code == 0, result.exception
    text = CliRunner().invoke(inspect, [str(path)])
    assert text.exit_code == 0, text.exception
    assert sorted(os.listdir(folder)) == before
    return json.loads(result.stdout), text.stdout


def refused(path):
    before = sorted(os.listdir(path.parent))
    error = CliRunner().invoke(inspect, [str(path)]).exception
    assert isinstance(error, RunError) and error.exit_code == 2, repr(error)
    assert str(path.name) in str(error) and sorted(os.listdir(path.parent)) == before
    return str(error)


def verdicts(summary):
    return {reader: judged["verdict"] for reader, judged in summary["readers"].items()}


def lost(summary, reader):
    return sum(f["modules"] for f in summary["readers"][reader]["findings"] if f["severity"] == "drops")


def norm_of(summary, name):
    return next(m["norm"] for m in summary["details"] if m["name"] == name)


def test_a_sound_sd1_file_is_taken_by_all_and_measured_exactly(look):
    tensors = sd1()
    summary, text = look(tensors, {"modelspec.architecture": "stable-diffusion-v1/lora", "ss_base_model_version": "sd_v1"})
    assert (summary["family"], summary["evidence"], summary["cross_attention_width"]) == ("sd15", "shapes", 768)
    assert summary["parts"] == {"te1": 4, "attention": 2} and summary["ranks"] == {"2": 6}
    assert summary["alphas"] == {"1": 6} and summary["scales"] == {"0.5": 6}
    assert set(verdicts(summary).values()) == {"takes"} and not summary["disagreements"]
    dense = {
        n: 0.5 * tensors[f"{n}.lora_up.weight"].double() @ tensors[f"{n}.lora_down.weight"].double()
        for n in (SD1 + "attn1_to_q", SD1 + "attn2_to_k")
    }
    for name, delta in dense.items():
        assert norm_of(summary, name) == pytest.approx(float(delta.norm()), rel=1e-9)
    expected = torch.cat([d.flatten() for d in dense.values()]).norm()
    assert summary["blocks"]["down 0"] == {"modules": 2, "norm": pytest.approx(float(expected), rel=1e-9)}
    assert list(summary["blocks"]) == ["te1 0", "down 0"]
    assert "Stable Diffusion 1" in text and "###" in text and "<lora:style:1>" in text


@pytest.mark.parametrize("family, width", [("sd15", 768), ("sd2", 1024), ("sdxl", 2048)])
def test_every_module_that_the_exporter_may_write_is_taken_by_all(look, family, width):
    names = known_modules(family)
    tensors = {}
    for name in sorted(names):
        plain = "attentions" in name or "_te" in name or re.search(r"blocks_\d_1_|block_1_|time_emb|emb_layers", name)
        pointwise = re.search("shortcut|skip" + ("|proj_(in|out)$" if family == "sd15" else ""), name)
        kernel = (1, 1) if pointwise else () if plain else (3, 3)
        into = width if re.search("attn2_to_[kv]$", name) else 8
        tensors |= {f"{name}.lora_down.weight": torch.ones(2, into, *kernel), f"{name}.lora_up.weight": torch.ones(8, 2)}
    version = {"sd15": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}[family]
    architecture = {"sd15": "stable-diffusion-v1/lora"}.get(family, "")
    metadata = {"ss_base_model_version": version, "ss_v2": str(family == "sd2"), "modelspec.architecture": architecture}
    summary, _ = look(tensors, metadata)
    assert (summary["family"], summary["evidence"], summary["modules"]) == (family, "shapes", len(names))
    assert [judged for judged in summary["readers"].values() if judged != {"verdict": "takes", "modules": len(names), "findings": []}] == []
    assert "other" not in summary["blocks"] and not summary["disagreements"] and not summary["leftover"]


@pytest.mark.parametrize("width, family", [(768, "sd15"), (1024, "sd2"), (2048, "sdxl")])
def test_the_cross_attention_tells_the_family(look, width, family):
    assert look(pair(SD1 + "attn2_to_k", into=width))[0]["family"] == family


@pytest.mark.parametrize(
    "name, family",
    [("lora_unet_double_blocks_0_img_attn_qkv", "flux1"), ("lora_unet_joint_blocks_0_x_block_attn_qkv", "sd3")],
)
def test_other_transformers_by_name(look, name, family):
    summary, _ = look(pair(name))
    assert verdicts(summary)["A1111" if family == "flux1" else "diffusers"] == "refuses"
    assert summary["family"] == family and summary["parts"] == {"transformer": 1}


def test_a_narrow_file_is_judged_by_names_and_metadata(look):
    summary, text = look(pair(SD1 + "attn2_to_k", into=64))
    assert (summary["family"], summary["evidence"]) == ("sd15", "names") and "64 wide" in text
    assert look(pair(SD1 + "attn2_to_k", into=64), {"ss_v2": "True"})[0]["family"] == "sd2"
    quarrel = {"ss_v2": "True", "ss_base_model_version": "sd_v1", "modelspec.architecture": "stable-diffusion-v1/lora"}
    assert "ss_v2 says sd2, other metadata say sd15." in look(pair(SD1 + "attn2_to_k", into=64), quarrel)[1]


def test_metadata_that_disagree_are_told(look):
    summary, text = look(sd1(), {"ss_base_model_version": "sdxl_base_v1-0", "ss_v2": "False"})
    assert summary["family"] == "sd15" and len(summary["disagreements"]) == 1
    assert "ss_base_model_version says sdxl, the tensors say sd15." in text


def test_a_text_encoder_without_text_model_is_lost_everywhere_but_in_diffusers(look):
    flat = {k.replace("text_model_", ""): v for k, v in sd1().items()}
    summary, _ = look(flat)
    assert verdicts(summary) == {
        "A1111": "drops",
        "SD.Next": "drops",
        "kohya": "drops",
        "diffusers": "takes",
        "Forge": "drops",
        "ComfyUI": "drops",
    }
    assert lost(summary, "A1111") == 4
    summary, _ = look({k.replace("lora_te1_text_model_", "lora_te1_"): v for k, v in sdxl().items()})
    assert verdicts(summary)["diffusers"] == "refuses"


def test_text_encoder_prefixes(look):
    summary, _ = look({k.replace("lora_te_", "lora_te1_"): v for k, v in sd1().items()})
    assert verdicts(summary) == {
        "A1111": "takes",
        "SD.Next": "drops",
        "kohya": "drops",
        "diffusers": "takes",
        "Forge": "takes",
        "ComfyUI": "takes",
    }
    summary, _ = look(sdxl("lora_te_"))
    assert verdicts(summary)["A1111"] == "drops" and lost(summary, "A1111") == 4


def test_sdxl_with_original_names_is_sound_and_sd1_with_them_is_not(look):
    summary, _ = look(sdxl())
    assert summary["family"] == "sdxl" and summary["original_unet_names"] and set(verdicts(summary).values()) == {"takes"}
    assert summary["blocks"]["down 1"]["modules"] == 1 and summary["parts"] == {"te1": 4, "te2": 4, "attention": 1}
    unet = pair("lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k", into=768)
    summary, _ = look(unet | pair(f"lora_te_{TEXT}q_proj", into=768))
    assert summary["family"] == "sd15"
    assert verdicts(summary) == {
        "A1111": "takes",
        "Forge": "takes",
        "ComfyUI": "takes",
        "SD.Next": "drops",
        "kohya": "drops",
        "diffusers": "refuses",
    }
    assert verdicts(look(unet)[0])["kohya"] == "refuses", "who loses every module loads nothing"


def test_sdxl_with_diffusers_names_loses_one_upsampler_in_a1111(look):
    summary, _ = look(pair(SD1 + "attn2_to_k", into=2048) | pair("lora_unet_up_blocks_0_upsamplers_0_conv"))
    assert (verdicts(summary)["A1111"], lost(summary, "A1111"), verdicts(summary)["kohya"]) == ("drops", 1, "takes")


def test_diffusers_own_naming_and_the_alpha_in_its_header(look):
    name = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    tensors = pair(name, into=768, form=("lora_A", "lora_B"), rank=4)
    tensors |= pair("text_encoder.text_model.encoder.layers.0.self_attn.q_proj", into=768, form=("lora_A", "lora_B"), rank=4)
    summary, _ = look(tensors, {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 2})})
    assert (summary["naming"], summary["family"]) == ("diffusers", "sd15")
    assert verdicts(summary) == {
        "A1111": "refuses",
        "kohya": "refuses",
        "SD.Next": "drops",
        "Forge": "drops",
        "ComfyUI": "drops",
        "diffusers": "takes",
    }
    dense = 0.5 * tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
    assert norm_of(summary, name) == pytest.approx(float(dense.norm()), rel=1e-6)


def test_convolutions_middle_ones_and_flat_ones(look):
    conv, cp = "lora_unet_mid_block_resnets_0_conv1", "lora_unet_up_blocks_1_resnets_0_conv1"
    up, down, mid = torch.randn(6, 2), torch.randn(2, 5), torch.randn(2, 2, 3, 3)
    tensors = {
        f"{conv}.lora_down.weight": torch.randn(2, 5, 3, 3),
        f"{conv}.lora_up.weight": torch.randn(6, 2, 1, 1),
        f"{cp}.lora_down.weight": down[:, :, None, None],
        f"{cp}.lora_up.weight": up[:, :, None, None],
        f"{cp}.lora_mid.weight": mid,
    } | pair("lora_unet_down_blocks_1_resnets_0_conv_shortcut")  # fmt: skip
    summary, _ = look(tensors | pair(SD1 + "attn2_to_k", into=768))
    assert summary["parts"] == {"convolution": 3, "attention": 1} and summary["mid"] == 1
    dense = tensors[f"{conv}.lora_up.weight"].flatten(1) @ tensors[f"{conv}.lora_down.weight"].flatten(1)
    assert norm_of(summary, conv) == pytest.approx(float(dense.norm()), rel=1e-5)
    dense = torch.einsum("on,nmkl,mi->oikl", up, mid, down)
    assert norm_of(summary, cp) == pytest.approx(float(dense.norm()), rel=1e-5)
    assert "middle convolutions" in json.dumps(summary["readers"]["kohya"])
    assert verdicts(summary)["kohya"] == "refuses" and "1x1" in json.dumps(summary["readers"]["kohya"])
    assert list(summary["blocks"]) == ["down 0", "down 1", "mid", "up 1"]


def test_lycoris_modules_are_measured(look):
    a, b, c, d = torch.randn(6, 2), torch.randn(2, 5), torch.randn(6, 2), torch.randn(2, 5)
    w1, w2 = torch.randn(2, 3), torch.randn(4, 5)
    first, second = SD1 + "attn1_to_q", SD1 + "attn1_to_k"
    summary, _ = look({
        f"{first}.hada_w1_a": a, f"{first}.hada_w1_b": b, f"{first}.hada_w2_a": c, f"{first}.hada_w2_b": d,
        f"{first}.alpha": torch.tensor(1.0), f"{second}.lokr_w1": w1, f"{second}.lokr_w2": w2, f"{second}.alpha": torch.tensor(7.0),
    } | pair(SD1 + "attn2_to_k", into=768))  # fmt: skip
    assert summary["kinds"] == {"lokr": 1, "loha": 1, "lora": 1}
    assert verdicts(summary)["diffusers"] == "refuses" and "LyCORIS" in json.dumps(summary["readers"]["kohya"])
    assert norm_of(summary, first) == pytest.approx(float((0.5 * (a @ b) * (c @ d)).norm()), rel=1e-5)
    assert norm_of(summary, second) == pytest.approx(float(torch.kron(w1, w2).norm()), rel=1e-5)


def test_a_rank_larger_than_the_layer_costs_no_square_of_it(look):
    tensors = pair(SD1 + "attn1_to_q", out=3, into=2, rank=200_000)
    summary, _ = look(tensors)
    dense = tensors[SD1 + "attn1_to_q.lora_up.weight"].double() @ tensors[SD1 + "attn1_to_q.lora_down.weight"].double()
    assert norm_of(summary, SD1 + "attn1_to_q") == pytest.approx(float(dense.norm()), rel=1e-9)


@pytest.mark.parametrize(
    "shape, alpha, expected",
    [
        ((8, 1), 2, {"A1111": "wrong", "Forge": "wrong", "ComfyUI": "wrong", "SD.Next": "wrong", "kohya": "wrong", "diffusers": "wrong"}),
        ((1, 768), 2, {"A1111": "takes", "Forge": "takes", "ComfyUI": "takes", "SD.Next": "takes", "kohya": "wrong", "diffusers": "wrong"}),
        ((1, 768), 1, {"A1111": "takes", "Forge": "takes", "ComfyUI": "takes", "SD.Next": "wrong", "kohya": "wrong", "diffusers": "wrong"}),
    ],
)
def test_dora_conventions(look, shape, alpha, expected):
    name = SD1 + "attn2_to_k"
    summary, _ = look(pair(name, into=768, alpha=alpha) | {f"{name}.dora_scale": torch.ones(shape)})
    assert verdicts(summary) == expected and summary["dora"] == 1


def test_mixed_alphas_are_wrong_in_diffusers_on_attention_only(look):
    tensors = sd1() | pair(SD1 + "attn1_to_v", alpha=2)
    summary, _ = look(tensors)
    assert verdicts(summary)["diffusers"] == "wrong" and summary["scales"] == {"0.5": 6, "1": 1}
    summary, _ = look(sd1() | pair("lora_unet_down_blocks_0_resnets_0_time_emb_proj", alpha=2))
    assert verdicts(summary)["diffusers"] == "takes"


def test_an_incomplete_module_spoils_the_file(look):
    tensors = sd1()
    del tensors[SD1 + "attn1_to_q.lora_down.weight"]
    summary, _ = look(tensors)
    assert {verdicts(summary)[reader] for reader in ("A1111", "Forge", "ComfyUI")} == {"refuses"}
    assert norm_of(summary, SD1 + "attn1_to_q") is None


def test_a1111_wants_all_four_of_an_open_clip_attention(look):
    tensors = {k: v for k, v in sdxl().items() if not k.startswith(f"lora_te2_{TEXT}out")}
    assert lost(look(tensors)[0], "A1111") == 3


def test_shapes_that_do_not_fit_are_told(look):
    tensors = sd1()
    tensors[SD1 + "attn1_to_q.lora_up.weight"] = torch.randn(8, 3)
    summary, _ = look(tensors)
    assert set(verdicts(summary).values()) == {"wrong"}


@pytest.mark.parametrize("n, verdict", [(12, "takes"), (13, "refuses")])
def test_forge_refuses_more_than_twelve_leftover_tensors(look, n, verdict):
    summary, _ = look(sd1() | {f"strange_{i}": torch.ones(1) for i in range(n)})
    assert (verdicts(summary)["Forge"], verdicts(summary)["ComfyUI"]) == (verdict, "takes") and len(summary["leftover"]) == n
    assert verdicts(summary)["diffusers"] == "refuses"


def test_a_folder_as_training_leaves_it_is_not_for_the_webuis(look):
    summary, _ = look(
        pair("base_model.model.unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k", into=768, form=("lora_A", "lora_B"))
    )
    assert (summary["family"], summary["naming"], summary["prompt"]) == ("sd15", "peft", None)
    found = verdicts(summary)
    assert {reader for reader, verdict in found.items() if verdict == "refuses"} == {"Forge", "ComfyUI", "diffusers"}
    assert {found[reader] for reader in ("A1111", "SD.Next", "kohya")} == {"unknown"}


def test_names_and_headers_that_some_reader_minds(look):
    summary, text = look(sd1() | pair("lora_unet_time_embedding_linear_1", alpha=1), {"ss_v2": "True"}, "a,b.safetensors")
    assert summary["prompt"] is None and set(verdicts(summary).values()) == {"takes"}
    for part in ("lora_unet_time_embedding_linear_1", "no prompt can hold", "card may be hidden", "modelspec.architecture"):
        assert part in text


def test_a_header_that_begins_with_a_blank_is_not_for_a1111(tmp_path):
    save_file(sd1(), tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.dumps(json.loads(data[8 : 8 + length]), indent=1).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data[8 + length :])
    assert verdicts(ask(tmp_path / "a.safetensors")[0])["A1111"] == "refuses"


def test_nan_is_found(look):
    tensors = sd1()
    tensors[SD1 + "attn1_to_q.lora_up.weight"][0, 0] = float("nan")
    summary, text = look(tensors)
    assert summary["nonfinite"] == [SD1 + "attn1_to_q.lora_up.weight"] and norm_of(summary, SD1 + "attn1_to_q") is None
    assert set(verdicts(summary).values()) == {"wrong"} and "NaN" in text


def test_hashes_and_a_stored_one_that_is_wrong(look, tmp_path):
    summary, text = look(sd1(), {"sshs_model_hash": "0" * 64})
    data = (tmp_path / "style.safetensors").read_bytes()
    body = data[8 + struct.unpack("<Q", data[:8])[0] :]
    assert summary["sha256"] == hashlib.sha256(data).hexdigest() and summary["autov2"] == summary["sha256"][:10]
    assert summary["model_hash"] == hashlib.sha256(body).hexdigest() and summary["autov3"] == summary["model_hash"][:12]
    assert summary["stored_hash_agrees"] is False and "another" in text
    assert look(sd1(), {"sshs_model_hash": summary["model_hash"]})[0]["stored_hash_agrees"] is True
    assert look(sd1())[0]["stored_hash_agrees"] is None


def test_triggers_tags_training_and_the_prompt(look, tmp_path):
    (tmp_path / "style.json").write_text(json.dumps({"activation text": "neon, rain", "preferred weight": 0.7}), encoding="utf-8")
    tags = {"10_a": {"night": 3, "car": 1}, "2_b": {"night": 2}}
    summary, text = look(
        sd1(),
        {
            "modelspec.trigger_phrase": "cyber, neon",
            "ss_tag_frequency": json.dumps(tags),
            "ss_steps": "120",
            "ss_unet_lr": "None",
            "ss_seed": "7\x1b[31m",
        },
    )
    assert summary["trigger_words"] == ["cyber", "neon", "rain"] and summary["tags"] == {"night": 5, "car": 1}
    assert summary["training"]["steps"] == "120" and "unet_lr" not in summary["training"]
    assert summary["prompt"] == "<lora:style:0.7> cyber, neon, rain" and "\x1b" not in text


def test_a_card_or_metadata_full_of_nonsense_do_no_harm(look, tmp_path):
    (tmp_path / "style.json").write_text("[" * 100_000, encoding="utf-8")
    summary, _ = look(sd1(), {"ss_tag_frequency": "[" * 100_000, "lora_adapter_metadata": "7"})
    assert summary["tags"] == {} and summary["prompt"] == "<lora:style:1>"


def test_an_adapter_folder_of_a_language_model(tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    layer = "base_model.model.model.layers.{}.self_attn.q_proj"
    tensors = {k: v for i in (0, 1) for k, v in pair(layer.format(i), rank=4, form=("lora_A", "lora_B")).items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "lora_alpha": 8,
        "r": 4,
        "use_rslora": True,
        "alpha_pattern": {"layers.1.self_attn.q_proj": 2},
        "base_model_name_or_path": "some/base",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    summary, _ = ask(folder)
    assert (summary["family"], summary["naming"], summary["prompt"]) == ("language", "peft", None)
    assert summary["scales"] == {"4": 1, "1": 1} and summary["training"]["base"] == "some/base"
    assert set(verdicts(summary).values()) == {"refuses"} and list(summary["blocks"]) == ["layer 0", "layer 1"]
    (folder / "adapter_config.json").write_text("{", encoding="utf-8")
    assert isinstance(CliRunner().invoke(inspect, [str(folder)]).exception, RunError)


def raw(path, entries, body=b"", start=b""):
    """A file with a header of one's own."""
    header = start + (entries if isinstance(entries, bytes) else json.dumps(entries).encode())
    path.write_bytes(struct.pack("<Q", len(header)) + header + body)
    return path


def entry(kind, shape, begin, end):
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


def test_headers_that_lie_are_refused(tmp_path):
    name = SD1 + "attn1_to_q.lora_down.weight"
    one = json.dumps(entry("F32", [1], 0, 4))
    for what, header, body in (
        ("overlapping", json.dumps({name: entry("F32", [1], 0, 4), "b.alpha": entry("F32", [1], 0, 4)}), 4),
        ("huge shapes", json.dumps({name: entry("F32", [2**33, 2**33], 0, 4)}), 4),
        ("the same key twice", f'{{"{name}":{one},"{name}":{json.dumps(entry("F32", [1], 4, 8))}}}', 8),
        ("metadata twice", f'{{"__metadata__":{{}},"__metadata__":{{}},"{name}":{one}}}', 4),
        ("deep", '{"a":' * 100_000 + "1" + "}" * 100_000, 0),
    ):
        assert "damaged" in refused(raw(tmp_path / "a.safetensors", header.encode(), b"\0" * body)), what
    # Numbers of six bits are allowed by the format, and nothing can compute with them.
    assert "F6_E2M3" in refused(raw(tmp_path / "six.safetensors", {name: entry("F6_E2M3", [4], 0, 3)}, b"\0" * 3))


def test_strange_shapes_and_names_do_no_harm(look, tmp_path):
    """A text module without dimensions, blocks with numbers of 5000 digits, a layer of 0 x 2^62, an alpha that no float holds."""
    scalar = {f"lora_te_{TEXT}q_proj.lora_down.weight": torch.tensor(1.0), f"lora_te_{TEXT}q_proj.lora_up.weight": torch.tensor(1.0)}
    long = pair("lora_unet_down_blocks_" + "9" * 5000 + "_resnets_0_conv1") | pair("lora_unet_input_blocks_" + "9" * 5000 + "_0_op")
    summary, _ = look(scalar | long)
    assert summary["modules"] == 3 and max(len(block) for block in summary["blocks"]) < 10
    name = SD1 + "attn1_to_q"
    ask(raw(tmp_path / "empty.safetensors", {f"{name}.lora_down.weight": entry("F32", [0, 2**62], 0, 0),
                                             f"{name}.lora_up.weight": entry("F32", [2**31, 0], 0, 0)}))  # fmt: skip
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 10**400, "alpha_pattern": {"q": True}}), encoding="utf-8")
    assert look(sd1(), name="adapter_model.safetensors")[0]["modules"] == 6


def test_layers_made_to_fill_the_memory_are_not_multiplied_out(look):
    """Each would need 80 to 800 GB, or minutes."""
    n = 100_000
    tall, wide, unit = torch.ones(n, 1), torch.ones(1, n), torch.ones(1, 1)
    first, second, third = (SD1 + f"attn1_to_{letter}" for letter in "qkv")
    summary, text = look({
        f"{first}.hada_w1_a": tall, f"{first}.hada_w1_b": wide, f"{first}.hada_w2_a": tall.clone(), f"{first}.hada_w2_b": wide.clone(),
        f"{second}.lokr_w1": unit, f"{second}.lokr_w2_a": wide.clone(), f"{second}.lokr_w2_b": wide.clone(),
        f"{second}.lokr_t2": torch.ones(1, 1, 3, 3),
        f"{third}.lora_up.weight": unit.clone(), f"{third}.lora_mid.weight": torch.ones(1, n, 1, 1), f"{third}.lora_down.weight": tall.clone(),
    })  # fmt: skip
    assert summary["unmeasured"] == 3 and {m["fault"] for m in summary["details"]} == {""}
    assert "3 modules could not be measured" in text and "changes nothing" not in text


def test_a_bias_beside_the_factors_is_part_of_the_change(look):
    name = SD1 + "attn1_to_q"
    tensors = pair(name, alpha=1) | {f"{name}.diff_b": torch.randn(8)}
    summary, _ = look(tensors)
    delta = 0.5 * tensors[f"{name}.lora_up.weight"] @ tensors[f"{name}.lora_down.weight"]
    assert summary["kinds"] == {"lora": 1} and summary["ranks"] == {"2": 1}
    assert norm_of(summary, name) == pytest.approx(float(torch.cat([delta.flatten(), tensors[f"{name}.diff_b"]]).norm()), rel=1e-5)


def test_convolutions_of_lycoris_in_three_factors(look):
    first, second = "lora_unet_mid_block_resnets_0_conv1", "lora_unet_mid_block_resnets_0_conv2"
    t = {f"{part}{n}": torch.randn(shape) for n in "12" for part, shape in (("t", (2, 2, 3, 3)), ("b", (2, 5)), ("a", (2, 6)))}
    w1 = torch.randn(2, 3)
    summary, _ = look({
        **{f"{first}.hada_t{n}": t[f"t{n}"] for n in "12"}, **{f"{first}.hada_w{n}_{x}": t[f"{x}{n}"] for n in "12" for x in "ab"},
        f"{second}.lokr_w1": w1, f"{second}.lokr_t2": t["t1"].clone(), f"{second}.lokr_w2_a": t["a1"].clone(),
        f"{second}.lokr_w2_b": t["b1"].clone(),
    })  # fmt: skip
    whole = [torch.einsum("ijkl,jr,ip->prkl", t[f"t{n}"], t[f"b{n}"], t[f"a{n}"]) for n in "12"]
    assert norm_of(summary, first) == pytest.approx(float((whole[0] * whole[1]).norm()), rel=1e-5)
    assert norm_of(summary, second) == pytest.approx(float(w1.norm() * whole[0].norm()), rel=1e-5)


def test_two_forms_of_the_same_factor_are_not_lost_in_silence(look):
    name = SD1 + "attn2_to_k"
    summary, _ = look(pair(name, into=768) | pair(name, into=768, form=("lora_A", "lora_B")))
    assert summary["modules"] == 1 and len(summary["leftover"]) == 2


def test_oft_is_not_called_a_file_that_changes_nothing(look):
    summary, text = look({f"{SD1}attn1_to_q.oft_blocks": torch.randn(2, 4, 4)})
    assert summary["kinds"] == {"oft": 1} and "changes nothing" not in text and "could not be measured" in text
    zero = {k: torch.zeros_like(v) if "up" in k else v for k, v in pair(SD1 + "attn1_to_q").items()}
    assert "changes nothing" in look(zero)[1]


@pytest.mark.parametrize(
    "name, width, family",
    [
        ("transformer.single_transformer_blocks.3.attn.to_q", 3072, "flux1"),
        ("lora_unet_single_blocks_0_linear1", 3072, "flux1"),
        ("transformer.transformer_blocks.0.attn.to_q", 1536, "sd3"),
        ("transformer.transformer_blocks.0.attn.to_q", 3072, "unknown"),  # Qwen-Image has them too
        ("diffusion_model.transformer_blocks.5.img_mlp.net.0.proj", 3072, "qwen-image"),
        ("diffusion_model.blocks.0.self_attn.q", 5120, "unknown"),  # Wan
        ("lora_unet_blocks_0_cross_attn_k", 5120, "unknown"),
        ("lora_unet_double_blocks_0_img_mlp_fc1", 3072, "unknown"),  # HunyuanVideo
        ("diffusion_model.layers.0.attention.to_q", 3840, "z-image"),
        ("diffusion_model.layers.0.attention.qkv", 2304, "unknown"),  # Lumina 2
        ("base_model.model.transformer.h.0.attn.c_attn", 768, "language"),
        ("base_model.model.bert.encoder.layer.0.attention.self.query", 768, "language"),
        ("model.layers.0.self_attn.q_proj", 896, "language"),
    ],
)
def test_models_built_from_the_same_blocks_are_not_confused(look, name, width, family):
    summary, _ = look(pair(name, into=width, form=("lora_A", "lora_B")))
    assert summary["family"] == family
    if family == "unknown":
        assert set(verdicts(summary).values()) == {"unknown"}


@pytest.mark.parametrize(
    "name, width, expected",
    [
        ("transformer.single_transformer_blocks.0.attn.to_q", 3072,
         {"A1111": "refuses", "Forge": "takes", "ComfyUI": "takes", "SD.Next": "takes", "kohya": "unknown", "diffusers": "takes"}),
        ("lora_unet_double_blocks_0_img_attn_qkv", 3072,
         {"A1111": "refuses", "Forge": "takes", "ComfyUI": "takes", "SD.Next": "takes", "kohya": "takes", "diffusers": "takes"}),
        ("transformer.transformer_blocks.0.attn.to_q", 1536,
         {"A1111": "takes", "Forge": "refuses", "ComfyUI": "takes", "SD.Next": "unknown", "kohya": "unknown", "diffusers": "takes"}),
        ("lora_unet_joint_blocks_0_x_block_attn_qkv", 1536,
         {"A1111": "unknown", "Forge": "takes", "ComfyUI": "takes", "SD.Next": "takes", "kohya": "takes", "diffusers": "refuses"}),
    ],
)  # fmt: skip
def test_flux_and_sd3_by_reader(look, name, width, expected):
    form = ("lora_A", "lora_B") if name.startswith("transformer.") else ("lora_down", "lora_up")
    assert verdicts(look(pair(name, into=width, form=form))[0]) == expected


def test_the_older_names_of_diffusers_keep_their_attention_in_comfyui(look):
    base = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor."
    tensors = {f"{base}to_k_lora.{way}.weight": torch.randn(shape) for way, shape in (("down", (2, 768)), ("up", (8, 2)))}
    summary, _ = look(tensors)
    assert summary["family"] == "sd15" and {r for r, v in verdicts(summary).items() if v == "takes"} == {"Forge", "ComfyUI", "diffusers"}


def test_dora_in_diffusers_own_names_is_not_promised(look):
    name = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    summary, _ = look(pair(name, into=768, form=("lora_A", "lora_B")) | {f"{name}.lora_magnitude_vector": torch.ones(8)})
    assert summary["dora"] == 1 and verdicts(summary)["diffusers"] == "unknown"


def test_a1111_lists_sdxl_without_its_version_as_sd1(look):
    findings = look(sdxl(), {"ss_steps": "1"})[0]["readers"]["A1111"]["findings"]
    assert [f["text"] for f in findings] == ["by its metadata it is listed under SD1, so the card may be hidden."]
    assert not look(sdxl(), {"ss_base_model_version": "sdxl_base_v1-0"})[0]["readers"]["A1111"]["findings"]


def test_rslora_in_the_header_of_diffusers_counts(look):
    name = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    stored = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 2, "unet.use_rslora": True})}
    assert look(pair(name, into=768, form=("lora_A", "lora_B"), rank=4), stored)[0]["scales"] == {"1": 1}


def test_nothing_that_a_terminal_obeys_comes_through(tmp_path):
    """Escape sequences in one byte (C1), and signs that turn the direction of writing, pass through JSON unharmed."""
    evil = "\x9b31m\x1b[31m\u202e\x07"
    tensors = pair(SD1 + "attn2_to_k", into=768) | pair(f"lora_unet_down_blocks_0_{evil}") | {f"{evil}.weight": torch.ones(1)}
    save_file(tensors, tmp_path / "a.safetensors", {"ss_sd_model_name": evil, "ss_tag_frequency": json.dumps({"1_a": {evil: 1}})})
    summary, text = ask(tmp_path / "a.safetensors")
    out = CliRunner().invoke(inspect, [str(tmp_path / "a.safetensors"), "--json"]).stdout
    for sign in evil:
        assert sign.isprintable() or (sign not in out and sign not in text)
    assert summary["leftover"] == [f"{evil}.weight"], "the JSON still says what is there"


def test_a_time_in_seconds_is_shown_as_a_date(look):
    assert look(sd1(), {"ss_training_started_at": "1700000000.5"})[0]["training"]["date"].startswith("2023-11-1")
    assert look(sd1(), {"ss_training_started_at": "1e400"})[0]["training"]["date"] == "1e400"


def test_a_finding_that_several_readers_share_is_said_once(look):
    _, text = look(pair("lora_unet_blocks_0_cross_attn_k", into=5120))
    assert text.count("was not recognised") == 1 and text.count("not known") == 6


def test_the_command_line(command, tmp_path):
    save_file(sd1(), tmp_path / "a.safetensors")
    code, out, _ = command("inspect", tmp_path / "a.safetensors", "--json")
    assert code == 0 and json.loads(out)["family"] == "sd15"
    code, out, err = command("inspect", tmp_path / "b.safetensors")
    assert code == 2 and "no such file" in out + err and "Traceback" not in out + err
