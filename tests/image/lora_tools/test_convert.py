# SPDX-License-Identifier: Apache-2.0
"""``loraforge lora convert``: what every module does before and after, by the definition and by diffusers' own loaders."""

from __future__ import annotations

import json
import re

import pytest
import torch
from builders.lora_layouts import delta as sd_delta
from builders.lora_layouts import random_lora
from builders.lora_layouts import write as sd_write
from builders.tiny_images import load_sd, network_of
from builders.transformer_loras import BLOCKS, FAMILIES, LAYOUTS, changes, delta, lora_of, read_by_diffusers, tiny, write
from loraforge_image.lora_files.tables import TABLES
from safetensors import safe_open
from safetensors.torch import load_file, save_file

TARGETS = ("webui", "diffusers", "comfyui")


@pytest.fixture(scope="module")
def networks():
    return {family: tiny(family) for family in FAMILIES}


@pytest.fixture
def convert(command, tmp_path):
    def go(file, layout, *words, out="out.safetensors"):
        code, told, err = command("lora", "convert", file, "--to", layout, "--out", tmp_path / out, "--json", *words)
        assert code == 0, err
        return tmp_path / out, json.loads(told)

    return go


def claimed(family):
    return {"modelspec.architecture": TABLES[family].architecture, "modelspec.trigger_phrase": "zz style"}


def same(found, lora, tolerance=1e-5):
    assert found.keys() == lora.keys()
    for name, pair in lora.items():
        wanted = delta(pair)
        assert float((found[name] - wanted).norm() / wanted.norm()) < tolerance, name


@pytest.mark.parametrize(("layout", "target"), [(one, TARGETS[i % 3]) for i, one in enumerate(sorted(LAYOUTS))])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_layout_becomes_another_and_does_the_same(family, layout, target, networks, convert, tmp_path):
    """Of all layers that have a name, mixed ranks and alphas; original names take fused layers apart, diffusers' put them together."""
    network, table = networks[family], TABLES[family]
    lora = lora_of(network, ".")
    file = write(layout, table, lora, network, tmp_path / "in.safetensors", claimed(family))
    made, told = convert(file, target)
    same(changes(made, table, network), lora)
    prefix = {"webui": "lora_unet_", "diffusers": "transformer.", "comfyui": "diffusion_model."}[target]
    tensors = load_file(made)
    assert all(name.startswith(prefix) for name in tensors) and told["family"] == family
    assert any(name.endswith(".alpha") for name in tensors) == (target == "webui")
    if layout != "peft":
        with safe_open(str(made), framework="pt") as handle:
            values = handle.metadata()
        assert values["modelspec.trigger_phrase"] == "zz style" and values["modelspec.architecture"] == table.architecture


@pytest.mark.parametrize("family", FAMILIES)
def test_diffusers_own_loader_reads_what_was_converted(family, networks, convert, tmp_path):
    network, table = networks[family], TABLES[family]
    lora = lora_of(network, BLOCKS)
    kohya = write("kohya", table, lora, network, tmp_path / "k.safetensors", claimed(family))
    same(read_by_diffusers(family, convert(kohya, "diffusers")[0]), lora, 1e-4)
    own = write("diffusers", table, lora, network, tmp_path / "d.safetensors", claimed(family))
    if family != "sd3":  # of which its loader reads no original names
        same(read_by_diffusers(family, convert(own, "webui", out="w.safetensors")[0]), lora, 1e-4)


@pytest.mark.parametrize("family", ["flux1", "sd3", "z-image"])
def test_a_part_that_has_no_lora_stays_without_one(family, networks, convert, tmp_path):
    network, table = networks[family], TABLES[family]
    lora = lora_of(network, r"(attn|attention)\.(to_v|to_k)$|^single_transformer_blocks\.0\.proj_mlp$")
    file = write("diffusers", table, lora, network, tmp_path / "a.safetensors", claimed(family))
    fused, _ = convert(file, "webui", out="b.safetensors")
    same(changes(fused, table, network), lora)
    back, _ = convert(fused, "diffusers", out="c.safetensors")
    same(changes(back, table, network), lora)
    ranks = {name: tensor.shape[0] for name, tensor in load_file(back).items() if name.endswith("lora_A.weight")}
    assert ranks == {f"transformer.{name}.lora_A.weight": pair[0].shape[0] for name, pair in lora.items()}, "nothing has grown"


def test_a_fused_file_that_was_trained_as_one_is_taken_apart_exactly(networks, convert, tmp_path):
    """One ``down`` for q, k and v: every part gets all of it."""
    network, name = networks["flux1"], "lora_unet_single_blocks_0_linear1"
    down, up = torch.randn(3, 16), torch.randn(112, 3)
    save_file(
        {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(2.0)}, tmp_path / "a.safetensors"
    )
    found = changes(convert(tmp_path / "a.safetensors", "diffusers")[0], TABLES["flux1"], network)
    whole = torch.cat([found[part] for part in TABLES["flux1"].find("single_blocks.0.linear1").parts])
    assert torch.allclose(whole, 2 / 3 * up.double() @ down.double(), atol=1e-6) and len(found) == 4


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_numbers_that_need_not_change_do_not(kind, networks, convert, tmp_path):
    """Sixteen bits, and one alpha for all: the factors of the new file are those of the old one, to the bit, and the precision stays."""
    network, table = networks["flux1"], TABLES["flux1"]
    lora = {name: (down.to(kind), up.to(kind), 1.5) for name, (down, up, _) in lora_of(network, BLOCKS, mixed=False).items()}
    tensors = {}
    for name, (down, up, alpha) in lora.items():
        called = "lora_transformer_" + name.replace(".", "_")
        tensors |= {f"{called}.lora_down.weight": down, f"{called}.lora_up.weight": up, f"{called}.alpha": torch.tensor(alpha)}
    save_file(tensors, tmp_path / "a.safetensors")
    made, told = convert(tmp_path / "a.safetensors", "webui")
    assert told["rounding"] == 0 and {t.dtype for n, t in load_file(made).items() if "weight" in n} == {kind}
    same(changes(made, table, network), lora, 1e-12)


SD_CHOSEN = r"^unet\..*attn2\.to_[qk]$|^unet\.mid_block\..*conv1$|upsamplers|^text_encoder.*layers\.0\."


@pytest.fixture(scope="module")
def pipe(sd_bases):
    return load_sd(sd_bases("sd15"), "sd15")


@pytest.mark.parametrize("layout", ["kohya", "old diffusers", "comfyui", "peft folder"])
def test_stable_diffusion_is_converted_and_diffusers_reads_it(layout, pipe, convert, tmp_path):
    network = network_of(pipe, True)
    before = {
        name: module.weight.clone() for name, module in network.named_modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
    }
    lora = random_lora(network, SD_CHOSEN, scales=layout != "old diffusers")
    file = sd_write(layout, lora, tmp_path / "in.safetensors", metadata={"ss_base_model_version": "sd_v1"})
    for target in ("webui", "diffusers"):
        made, _ = convert(file, target, out=f"{target}.safetensors")
        pipe.load_lora_weights(str(made.parent), weight_name=made.name)
        pipe.fuse_lora()
        pipe.unload_lora_weights()
        after = network_of(pipe, True)
        for name, weight in before.items():
            wanted = sd_delta(lora[name]).reshape(weight.shape) if name in lora else 0
            assert torch.allclose(after.get_submodule(name).weight.double(), weight.double() + wanted, atol=1e-4), (target, name)
            after.get_submodule(name).weight.data.copy_(weight)
    comfy, _ = convert(file, "comfyui", out="comfyui.safetensors")
    again, _ = convert(comfy, "webui", out="again.safetensors")
    one, two = load_file(tmp_path / "webui.safetensors"), load_file(again)
    assert one.keys() == two.keys() and all(
        n.startswith(("diffusion_model.", "text_encoders.clip_l.transformer.text_model.")) for n in load_file(comfy)
    )
    for name in (n.removesuffix(".alpha") for n in one if n.endswith(".alpha")):
        deltas = [t[f"{name}.alpha"] / len(t[f"{name}.lora_down.weight"]) * t[f"{name}.lora_up.weight"].flatten(1) @ t[f"{name}.lora_down.weight"].flatten(1)
                  for t in (one, two)]  # fmt: skip
        assert torch.allclose(*deltas, atol=1e-4)


def test_lokr_of_whole_layers_gets_other_names_and_keeps_its_numbers(networks, convert, tmp_path):
    name = "transformer_blocks_0_img_mlp_net_2"
    tensors = {
        f"lycoris_{name}.lokr_w1": torch.randn(4, 4),
        f"lycoris_{name}.lokr_w2": torch.randn(4, 16),
        f"lycoris_{name}.alpha": torch.tensor(4.0),
    }
    save_file(tensors, tmp_path / "a.safetensors")
    made, _ = convert(tmp_path / "a.safetensors", "comfyui")
    assert load_file(made).keys() == {
        f"diffusion_model.transformer_blocks.0.img_mlp.net.2.{end}" for end in ("lokr_w1", "lokr_w2", "alpha")
    }
    assert all(torch.equal(*pair) for pair in zip(load_file(made).values(), load_file(tmp_path / "a.safetensors").values(), strict=True))


def test_lokr_of_parts_of_a_fused_layer_keeps_diffusers_names(convert, tmp_path):
    for name in ("single_transformer_blocks_0_attn_to_q", "single_transformer_blocks_0_proj_out"):
        save_file(
            {f"lycoris_{name}.lokr_w1": torch.randn(4, 4), f"lycoris_{name}.lokr_w2": torch.randn(4, 16)}, tmp_path / f"{name}.safetensors"
        )
    made, told = convert(tmp_path / "single_transformer_blocks_0_attn_to_q.safetensors", "webui", out="q.safetensors")
    assert set(load_file(made)) == {f"transformer.single_transformer_blocks.0.attn.to_q.{end}" for end in ("lokr_w1", "lokr_w2")}
    assert "cannot be put together" in told["notes"][0]
    made, told = convert(tmp_path / "single_transformer_blocks_0_proj_out.safetensors", "webui", out="p.safetensors")
    assert set(load_file(made)) == {f"lora_unet_single_blocks_0_linear2.{end}" for end in ("lokr_w1", "lokr_w2")} and not told["notes"]


@pytest.mark.parametrize("ends", [{"lora_down.weight": (2, 16), "lora_up.weight": (16, 2)}, {"lokr_w1": (4, 4), "lokr_w2": (4, 4)}])
def test_embeddings_that_travel_with_it_go_on_or_are_told_of(ends, convert, tmp_path):
    """OneTrainer's; A1111 and Forge read them out of the LoRA's file."""
    name = "lora_unet_double_blocks_0_img_attn_proj"
    emb = torch.randn(2, 768)
    save_file(
        {**{f"{name}.{end}": torch.randn(shape) for end, shape in ends.items()}, "bundle_emb.neon.clip_l": emb}, tmp_path / "a.safetensors"
    )
    made, told = convert(tmp_path / "a.safetensors", "webui", out="w.safetensors")
    assert torch.equal(load_file(made)["bundle_emb.neon.clip_l"], emb) and not told["notes"]
    made, told = convert(tmp_path / "a.safetensors", "comfyui", out="c.safetensors")
    assert not any("bundle" in key for key in load_file(made)) and "bundle_emb.neon.clip_l" in told["notes"][0]


def test_what_is_no_lora_is_named_without_the_loras_beside_it(command, tmp_path):
    name = "lora_unet_double_blocks_0_img_attn_proj"
    tensors = {f"{name}.lora_down.weight": torch.randn(2, 16), f"{name}.lora_up.weight": torch.randn(16, 2)}
    save_file({**tensors, "lora_unet_double_blocks_0_txt_attn_proj.diff": torch.randn(16, 16)}, tmp_path / "a.safetensors")
    code, _, err = command("lora", "convert", tmp_path / "a.safetensors", "--to", "diffusers")
    assert code == 2 and "holds full, which diffusers does not read" in re.sub(r"\s+", " ", err)


def test_the_trigger_of_the_card_and_the_usual_name(command, tmp_path):
    name = "lora_unet_double_blocks_0_img_attn_proj"
    save_file({f"{name}.lora_down.weight": torch.randn(2, 16), f"{name}.lora_up.weight": torch.randn(16, 2)}, tmp_path / "neon.safetensors")
    (tmp_path / "neon.json").write_text(json.dumps({"activation text": "neon city"}), encoding="utf-8")
    code, out, err = command("lora", "convert", tmp_path / "neon.safetensors", "--to", "diffusers")
    made = tmp_path / "neon-diffusers.safetensors"
    assert code == 0 and "1 module -> 1" in out + err and made.is_file()
    with safe_open(str(made), framework="pt") as handle:
        values = handle.metadata()
    assert values["modelspec.trigger_phrase"] == "neon city" and values["ss_base_model_version"] == "flux1"
    assert json.loads(values["loraforge_made"])["to"] == "diffusers" and str(tmp_path) not in json.dumps(values)


BAD = {
    "dora": ({"lora_unet_double_blocks_0_img_attn_proj": {"lora_down.weight": (2, 16), "lora_up.weight": (16, 2), "dora_scale": (16, 1)}}, "is a DoRA"),
    "unknown": ({"lora_unet_blocks_0_cross_attn_k": {"lora_down.weight": (2, 16), "lora_up.weight": (16, 2)}}, "was not recognised"),
    "lokr": ({"lycoris_single_transformer_blocks_0_proj_out": {"lokr_w1": (4, 4), "lokr_w2": (4, 16)}}, "which diffusers does not read"),
    "oftv2": ({"lora_unet_double_blocks_0_img_attn_proj": {"oft_R.weight": (2, 6)}}, "which diffusers does not read"),
    "other sizes": ({"lora_unet_single_blocks_0_linear1": {"lora_down.weight": (2, 16), "lora_up.weight": (113, 2)}}, "have other sizes"),
    "no layer": ({"lora_unet_single_blocks_0_linear2": {"lora_down.weight": (2, 16), "lora_up.weight": (16, 2)},
                  "lora_unet_single_blocks_0_other": {"lora_down.weight": (2, 16), "lora_up.weight": (16, 2)}}, "no layers of that model"),
    "twice": ({name: {"lora_A.weight": (2, 16), "lora_B.weight": (16, 2)} for name in
               ("transformer.single_transformer_blocks.0.proj_out", "diffusion_model.single_blocks.0.linear2")}, "twice, under two names"),
    "leftover": ({"lora_unet_single_blocks_0_linear2": {"lora_down.weight": (2, 16), "lora_up.weight": (16, 2), "strange": (1,)}}, "would be lost"),
    "t5": ({"lora_unet_single_blocks_0_linear2": {"lora_down.weight": (2, 16), "lora_up.weight": (16, 2)},
            "lora_te2_encoder_block_0_layer_0_SelfAttention_k": {"lora_down.weight": (2, 16), "lora_up.weight": (16, 2)}}, "has no names for 1 module"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_said_is_refused_and_nothing_is_written(case, command, tmp_path):
    modules, said = BAD[case]
    save_file({f"{n}.{end}": torch.randn(shape) for n, ends in modules.items() for end, shape in ends.items()}, tmp_path / "a.safetensors")
    code, _, err = command("lora", "convert", tmp_path / "a.safetensors", "--to", "diffusers")
    assert code == 2 and said in re.sub(r"\s+", " ", err) and "Traceback" not in err
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
    if case == "dora":
        assert "--to merged" in re.sub(r"\s+", " ", err)


def test_nothing_is_overwritten(command, tmp_path):
    name = "lora_unet_double_blocks_0_img_attn_proj"
    save_file({f"{name}.lora_down.weight": torch.randn(2, 16), f"{name}.lora_up.weight": torch.randn(16, 2)}, tmp_path / "a.safetensors")
    (tmp_path / "a-comfyui.safetensors").write_bytes(b"mine")
    code, _, err = command("lora", "convert", tmp_path / "a.safetensors", "--to", "comfyui")
    assert code == 2 and "exists already" in err and (tmp_path / "a-comfyui.safetensors").read_bytes() == b"mine"


@pytest.mark.parametrize("family", ["flux1", "flux2"])
def test_files_of_two_layouts_are_merged_layer_by_layer(family, networks, command, tmp_path):
    network, table = networks[family], TABLES[family]
    one, two = lora_of(network, BLOCKS), lora_of(network, r"attn\.(to_k|to_out)", rank=3)
    first = write("kohya", table, one, network, tmp_path / "a.safetensors", claimed(family))
    second = write("diffusers", table, two, network, tmp_path / "b.safetensors", claimed(family))
    code, _, err = command("lora", "merge", f"{first}:0.5", second, "--out", tmp_path / "c.safetensors")
    assert code == 0, err
    found = changes(tmp_path / "c.safetensors", table, network)
    for name, pair in one.items():
        wanted = 0.5 * delta(pair) + (delta(two[name]) if name in two else 0)
        assert torch.allclose(found.pop(name), wanted, atol=1e-5), name
    assert not found


def kohya(name, rank, rows, inputs=16):
    return {f"{name}.lora_down.weight": torch.randn(rank, inputs), f"{name}.lora_up.weight": torch.zeros(rows, rank)}


def test_a_fused_layer_that_does_nothing_is_taken_apart(convert, tmp_path):
    save_file(kohya("lora_unet_double_blocks_0_img_attn_qkv", 3, 48), tmp_path / "a.safetensors")
    tensors = load_file(convert(tmp_path / "a.safetensors", "diffusers")[0])
    assert len(tensors) == 6 and all(t.shape == ((1, 16) if "lora_A" in n else (16, 1)) for n, t in tensors.items())


@pytest.mark.parametrize(
    ("tensors", "words", "said"),
    [
        (kohya("lora_unet_double_blocks_0_img_attn_proj", 0, 16), ("resize", "IN", "OUT", "--rank", "1"), "rank 0"),
        (kohya("lora_unet_double_blocks_0_img_attn_proj", 0, 16), ("merge", "IN:0.5", "--out", "OUT"), "rank 0"),
        (
            {f"{name}.{end}": torch.ones(4, 4)
             for name in ("lycoris_single_transformer_blocks_0_proj_out", "lora_unet_single_blocks_0_linear2") for end in ("lokr_w1", "lokr_w2")},
            ("convert", "IN", "--to", "webui", "--out", "OUT"),
            "twice",
        ),
    ],
)  # fmt: skip
def test_modules_that_cannot_be_taken_are_named(tensors, words, said, command, tmp_path):
    save_file(tensors, tmp_path / "a.safetensors")
    places = {"IN": "a.safetensors", "IN:0.5": "a.safetensors:0.5", "OUT": "b.safetensors"}
    code, _, err = command("lora", *(f"{tmp_path / places[word]}" if word in places else word for word in words))
    assert code == 2 and said in re.sub(r"\s+", " ", err) and "Traceback" not in err and not (tmp_path / "b.safetensors").exists()


def test_alphas_that_stand_in_the_header_by_expressions(command, tmp_path):
    """PEFT's ``^path`` means the path; other expressions are refused, since they would be taken for scale 1."""
    from loraforge_image.lora_files.factors import open_lora

    name = "single_transformer_blocks.0.attn.to_q"
    tensors = {f"transformer.{name}.lora_A.weight": torch.ones(2, 16), f"transformer.{name}.lora_B.weight": torch.ones(16, 2)}
    for pattern, scale in ((f"^{name}", 3.0), (r"single_.*to_q", None)):
        config = {"transformer.lora_alpha": 2, "transformer.r": 2, "transformer.alpha_pattern": {pattern: 6}}
        save_file(tensors, tmp_path / "a.safetensors", metadata={"lora_adapter_metadata": json.dumps(config)})
        if scale:
            assert open_lora(tmp_path / "a.safetensors").factors[0].scale == scale
        else:
            code, _, err = command("lora", "resize", tmp_path / "a.safetensors", tmp_path / "b.safetensors", "--rank", 1)
            assert code == 2 and "strength is not known" in re.sub(r"\s+", " ", err)


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
def test_alpha_is_no_sixteen_bit_number(kind, command, tmp_path):
    name = "lora_unet_double_blocks_0_img_mlp_0"
    pair = {f"{name}.lora_down.weight": torch.randn(2049, 16), f"{name}.lora_up.weight": torch.randn(64, 2049)}
    save_file({**pair, f"{name}.alpha": torch.tensor(1.0)}, tmp_path / "a.safetensors")
    code, _, err = command("lora", "merge", f"{tmp_path}/a.safetensors:1e-0", f"{tmp_path}/a.safetensors:.5", "--out", tmp_path / "b.safetensors", "--precision", kind)  # fmt: skip
    assert code == 0, err
    assert float(load_file(tmp_path / "b.safetensors")[f"{name}.alpha"]) == 4098


@pytest.mark.parametrize(
    ("names", "width"),
    [
        (["transformer_blocks.0.attn1.to_q", "transformer_blocks.0.attn2.to_q"], 1152),
        (["transformer_blocks.0.attn2.to_q"], 2240),
        (["double_blocks.19.img_attn_proj"], 3072),
        (["single_transformer_blocks.38.attn.to_q"], 3072),
    ],
)
def test_video_models_with_the_same_blocks_are_not_taken_for_others(names, width, command, tmp_path):
    tensors = {}
    for name in names:
        called = "lora_unet_" + name.replace(".", "_")
        tensors |= {f"{called}.lora_down.weight": torch.ones(1, width), f"{called}.lora_up.weight": torch.ones(width, 1)}
    save_file(tensors, tmp_path / "a.safetensors")
    code, _, err = command("lora", "convert", tmp_path / "a.safetensors", "--to", "comfyui")
    assert code == 2 and "was not recognised" in re.sub(r"\s+", " ", err)


def folder_of(place, tensors):
    place.mkdir()
    save_file({f"base_model.model.{name}": tensor for name, tensor in tensors.items()}, place / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["x"]}
    config["auto_mapping"] = {"base_model_class": "FluxTransformer2DModel"}
    (place / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return place


def test_files_of_one_family_become_one_layout(command, tmp_path):
    """A PEFT folder, OneTrainer's names and a text encoder in kohya's: all have diffusers' names afterwards."""
    name = "single_transformer_blocks.0.attn.to_q"
    folder = folder_of(tmp_path / "f", {f"{name}.lora_A.weight": torch.randn(2, 16), f"{name}.lora_B.weight": torch.randn(16, 2)})
    other = kohya("lora_transformer_single_transformer_blocks_0_attn_to_k", 2, 16)
    other |= kohya("lora_te1_text_model_encoder_layers_0_self_attn_q_proj", 2, 16)
    save_file({n: torch.randn(t.shape) for n, t in other.items()}, tmp_path / "a.safetensors")
    code, _, err = command("lora", "merge", folder, tmp_path / "a.safetensors", "--out", tmp_path / "b.safetensors")
    assert code == 0, err
    assert {n.rpartition(".lora_")[0] for n in load_file(tmp_path / "b.safetensors")} == {
        f"transformer.{name}", f"transformer.{name[:-1]}k", "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    }  # fmt: skip
    code, _, err = command("lora", "resize", folder, tmp_path / "c.safetensors", "--rank", 1)
    assert code == 0 and set(load_file(tmp_path / "c.safetensors")) == {f"transformer.{name}.lora_{end}.weight" for end in "AB"}, err


def test_sixteen_bits_lose_little_of_a_weak_file(command, tmp_path):
    """Alpha 1 at rank 128, a factor near 1e-4: without balance a fiftieth is lost. And 1x1 convolutions have four dimensions."""
    name, flat = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k", "lora_unet_down_blocks_0_attentions_0_proj_in"
    tensors = {f"{name}.lora_down.weight": torch.randn(128, 768) / 46, f"{name}.lora_up.weight": torch.randn(320, 128) * 2e-4}
    tensors |= {f"{flat}.lora_down.weight": torch.randn(2, 320), f"{flat}.lora_up.weight": torch.randn(320, 2) * 1e-4}
    tensors |= {f"{name}.alpha": torch.tensor(1.0), f"{flat}.alpha": torch.tensor(1e-4)}
    tensors = {n: t.half() if "weight" in n else t for n, t in tensors.items()}
    save_file(tensors, tmp_path / "a.safetensors")
    code, out, err = command("lora", "merge", f"{tmp_path}/a.safetensors:0.5", "--out", tmp_path / "b.safetensors", "--json")
    assert code == 0, err
    made = load_file(tmp_path / "b.safetensors")

    def change(found):
        return float(found[f"{name}.alpha"]) / 128 * found[f"{name}.lora_up.weight"].double() @ found[f"{name}.lora_down.weight"].double()

    wanted = 0.5 * change(tensors)
    lost = float((change(made) - wanted).norm() / wanted.norm())
    assert lost < 1e-3 and json.loads(out)["rounding"] == pytest.approx(lost, rel=0.05)
    assert made[f"{flat}.lora_down.weight"].shape == (2, 320, 1, 1) and made[f"{flat}.lora_up.weight"].shape == (320, 2, 1, 1)
