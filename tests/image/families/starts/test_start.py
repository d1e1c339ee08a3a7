# SPDX-License-Identifier: Apache-2.0
"""``init_from_adapter`` takes a LoRA of any program up: every layer does exactly what the file says, computed here by hand."""

from __future__ import annotations

import functools
import json

import pytest
import torch
from builders.lora_layouts import LAYOUTS, delta, random_lora, write
from builders.tiny_images import load_sd, network_of
from loraforge_image.families.starts.start import make_start, open_start
from loraforge_image.records import ImageKeys
from safetensors.torch import load_file, save_file

from loraforge import ConfigError, LoraForgeError, RunError
from loraforge.plan import make_plan

ATTENTION = r"attn[12]\.|attentions\.\d\.proj_(in|out)|transformer_blocks\.\d\.ff\.net"
TEXT = r"encoder\.layers\.\d+\.(self_attn\.(q|k|v|out)_proj|mlp\.fc[12])$"


@pytest.fixture(scope="module")
def shapes(sd_bases):
    """``shapes("sdxl", True)``: the base's layers without numbers, with text encoders that are trained; each made once."""
    from loraforge_image.families.loading import shapes_only

    made = {}

    def get(plan, text):
        key = (plan.family.name, text)
        if key not in made:
            with shapes_only():
                settings = {**plan.keys[ImageKeys].model_dump(), "train_text_encoder": text}
                made[key] = plan.family.load_base(plan.config, settings)
        return made[key]

    return get


@pytest.fixture(scope="module")
def networks(sd_bases):
    """A loaded base's network with its text encoders, by family."""
    return functools.cache(lambda family: network_of(load_sd(sd_bases(family), family), True))


@pytest.fixture
def begun(host, gallery, shapes):
    """``begun(path, **config)``: what the run would begin with, and what was said."""

    def go(path, **values):
        plan = make_plan(host, "image", gallery(init_from_adapter=str(path), **{"lora_rank": ..., "precision": "fp32", **values}))
        keys = plan.keys[ImageKeys]
        base = shapes(plan, bool(values.get("train_text_encoder")))
        targets = base.targets(plan.config, keys, base.network)
        start = make_start(open_start(plan.config), plan.config, keys, base, targets, plan.family.webui, plan.family.name)
        return start, [*plan.notes, *start.lines]

    return go


def check_same(lora, start, tolerance=2e-6):
    """Every module's ``alpha / rank * B @ A`` is what the file says."""
    given = start.given
    for name, pair in lora.items():
        wanted = delta(pair)
        down, up = given.tensors[f"{name}.lora_A.weight"], given.tensors[f"{name}.lora_B.weight"]
        assert start.ranks[name] == down.shape[0] == pair[0].shape[0]
        got = given.alpha / given.rank * up.double().flatten(1) @ down.double().flatten(1)
        assert float((got - wanted).norm() / wanted.norm()) < tolerance, name
    assert set(given.modules) == set(lora) <= set(start.ranks)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_every_layout_begins_with_what_the_file_does(layout, family, networks, begun, tmp_path):
    xl = family == "sdxl"
    chosen = r"attn[12]\." if "old" in layout else ATTENTION
    lora = random_lora(networks(family), rf"^unet\..*({chosen})")
    place = write(layout, lora, tmp_path / ("adapter" if layout.startswith("peft") else "style.safetensors"), xl=xl)
    start, said = begun(place, family=family)
    check_same(lora, start)
    assert f"{len(lora)} of {len(lora)} modules" in "\n".join(said) and "lora_rank is 3" in "\n".join(said)


@pytest.mark.parametrize(
    ("layout", "family"), [("kohya", "sd15"), ("kohya", "sdxl"), ("diffusers", "sdxl"), ("comfyui", "sdxl"), ("peft folder", "sd15")]
)
def test_text_encoders_are_taken_up_where_they_are_trained_and_named_where_not(layout, family, networks, begun, tmp_path):
    network = networks(family)
    lora = random_lora(network, rf"{ATTENTION}|{TEXT}")
    place = write(layout, lora, tmp_path / ("adapter" if layout.startswith("peft") else "style.safetensors"), xl=family == "sdxl")
    start, _ = begun(place, family=family, train_text_encoder=True)
    check_same(lora, start)
    start, said = begun(place, family=family)
    text = [name for name in lora if name.startswith("text_encoder")]
    check_same({name: pair for name, pair in lora.items() if name not in text}, start)
    assert f"{len(text)} modules of text encoders are left out" in "\n".join(said)


@pytest.mark.parametrize("mid", [False, True])
def test_convolutions_of_another_rank_set_conv_rank(mid, networks, begun, tmp_path):
    """LoCon with LyCORIS' middle convolution: up (out, p), mid (p, q, 3, 3), down (q, in)."""
    network = networks("sd15")
    lora = random_lora(network, rf"^unet\..*({ATTENTION})") | random_lora(
        network, r"^unet\.(down|mid)_blocks?\..*resnets\.\d\.(conv[12]|time_emb_proj)$", rank=2
    )
    file = write("kohya", lora, tmp_path / "locon.safetensors")
    if mid:
        tensors = load_file(file)
        for key in [key for key in tensors if "_conv1.lora_down" in key]:
            name = key.removesuffix(".lora_down.weight")
            core, thin = torch.randn(2, 2, 3, 3), torch.randn(2, tensors[key].shape[1], 1, 1)
            tensors |= {key: thin, f"{name}.lora_mid.weight": core}
            module = next(module for module in lora if "lora_unet_" + module[5:].replace(".", "_") == name)
            whole = torch.zeros(2, thin.shape[1], 3, 3)
            for p in range(2):
                for q in range(2):
                    whole[p] += core[p, q][None] * thin[q]
            lora[module] = (whole, lora[module][1], lora[module][2])
        save_file(tensors, file)
    start, said = begun(file)
    check_same(lora, start)
    assert "conv_rank is 2" in "\n".join(said)
    with pytest.raises(ConfigError, match=r"loraforge lora resize .* --rank 8"):
        begun(file, lora_rank=8)
    with pytest.raises(ConfigError, match=r"loraforge lora resize .* --conv-rank 5"):
        begun(file, conv_rank=5)
    _, said = begun(file, conv_rank=0)
    assert "does not train these layers" in "\n".join(said)


def test_mixed_ranks_and_half_precision_are_kept(networks, begun, tmp_path):
    network = networks("sd15")
    lora = random_lora(network, r"^unet\..*attn1\.", rank=4) | random_lora(network, r"^unet\..*attn2\.to_q", rank=2)
    lora = {name: (down.half().float(), up.half().float(), alpha) for name, (down, up, alpha) in lora.items()}
    start, _ = begun(write("kohya", lora, tmp_path / "a.safetensors", dtype=torch.float16))
    check_same(lora, start)


def test_the_live_layers_do_what_the_file_does_and_the_rest_nothing(networks, gallery, host, tmp_path):
    """Mixed ranks, a convolution, rsLoRA's scale: peft's own weight change of every layer."""
    lora = random_lora(networks("sd15"), r"^unet\..*attn1\.", rank=4) | random_lora(networks("sd15"), r"^unet\..*attn2\.to_q", rank=2)
    lora |= random_lora(networks("sd15"), r"^unet\.mid_block\..*conv1$", rank=5)
    file = write("kohya", lora, tmp_path / "a.safetensors")
    plan = make_plan(host, "image", gallery(init_from_adapter=str(file), lora_rank=..., precision="fp32", lora_variant="rslora"))
    live = plan.family.load(plan.config, plan.keys, torch.device("cpu")).lora
    for name, layer in live.layers():
        change = layer.get_delta_weight("default").detach().double().flatten(1)
        if name in lora:
            wanted = delta(lora[name])
            assert layer.r["default"] == lora[name][0].shape[0]
            assert float((change - wanted).norm() / wanted.norm()) < 2e-6, name
        else:
            assert layer.r["default"] in (4, 5) and not change.any()
    adapter = live.adapter()
    assert adapter.ranks.items() >= {(name, 2) for name in lora if "attn2" in name}


def test_a_finished_run_continues_and_its_first_pictures_are_drawn_with_the_file(networks, gallery, paint, tmp_path):
    network = networks("sd15")
    lora = random_lora(network, rf"^unet\..*({ATTENTION})", rank=4)
    file = write("kohya", lora, tmp_path / "style.safetensors")
    first = paint(gallery(init_from_adapter=str(file), output_dir=str(tmp_path / "one"), lora_rank=..., export=["webui"], max_steps=1))
    samples = first.run.path / "samples"
    assert next((samples / "base").glob("01*.png")).read_bytes() != next((samples / "step-000000").glob("01*.png")).read_bytes()
    config = (first.run.path / "config.yaml").read_text()
    assert "lora_rank: 4" in config  # what was settled is what is written
    exported = next((first.run.path / "export" / "webui").glob("*.safetensors"))
    second = paint(gallery(init_from_adapter=str(exported), output_dir=str(tmp_path / "two"), lora_rank=..., max_steps=1))
    assert second.run.manifest()["lineage"][0]["run"] == str(first.run.path.absolute())


def refusal(begun, *given, **values):
    with pytest.raises(LoraForgeError) as caught:
        begun(*given, **values)
    assert isinstance(caught.value, ConfigError | RunError)
    return str(caught.value)


def test_a_file_of_another_base_is_refused_with_both_widths(networks, begun, tmp_path):
    lora = random_lora(networks("sd15"), rf"^unet\..*({ATTENTION})")
    file = write("kohya", lora, tmp_path / "sd1.safetensors", metadata={"ss_base_model_version": "sd_v1"})
    told = refusal(begun, file, family="sdxl")
    assert "made for another base model" in told and "Stable Diffusion 1" in told and "16" in told and "32" in told
    flux = {"lora_unet_double_blocks_0_img_attn_proj": (torch.randn(3, 64), torch.randn(64, 3), 3.0)}
    tensors = {f"{name}.{part}.weight": t for name, (a, b, _) in flux.items() for part, t in (("lora_down", a), ("lora_up", b))}
    save_file(tensors, tmp_path / "flux.safetensors")
    told = refusal(begun, tmp_path / "flux.safetensors")
    assert "none of the 1 module" in told and "FLUX" in told


def odd(kind, lora):
    """The tensors of a file that is no plain LoRA."""
    name, (down, up, _) = next(iter(lora.items()))
    name = "lora_unet_" + name[5:].replace(".", "_")
    pair = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
    return {
        "dora": {**pair, f"{name}.dora_scale": torch.ones(up.shape[0], 1)},
        "loha": {f"{name}.hada_w{i}_{x}": t for i in (1, 2) for x, t in (("a", up), ("b", down))},
        "half": {f"{name}.lora_down.weight": down},
        "nan": {**pair, f"{name}.lora_up.weight": up * float("nan")},
        "checkpoint": {"model.diffusion_model.input_blocks.0.0.weight": up},
        "inversion": {"emb_params": up},
        "peft": {f"base_model.model.unet.{key.partition('_unet_')[2].replace('lora_down', 'lora_A').replace('lora_up', 'lora_B')}": t for key, t in pair.items()},
    }[kind]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "said"),
    [("dora", "DoRA"), ("loha", "loha"), ("half", "lacks a factor"), ("nan", "NaN"), ("checkpoint", "a whole model"),
     ("inversion", "textual-inversion"), ("peft", "adapter_config.json")],
)  # fmt: skip
def test_what_is_no_plain_lora_is_named(kind, said, networks, begun, tmp_path):
    lora = random_lora(networks("sd15"), r"^unet\.mid_block.*attn1\.to_q")
    save_file({k: v.contiguous().clone() for k, v in odd(kind, lora).items()}, tmp_path / "odd.safetensors")
    told = refusal(begun, tmp_path / "odd.safetensors")
    assert said in told and "odd.safetensors" in told


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [("page.safetensors", b"<!DOCTYPE html><html>", "a web page"), ("cut.safetensors", b"", "empty"), ("old.pt", b"\x80\x02", "pickle"),
     ("short.safetensors", b"\xff\x00\x00\x00\x00\x00\x00\x00{", "cut short")],
)  # fmt: skip
def test_check_opens_the_file(name, data, said, gallery, command, tmp_path):
    (tmp_path / name).write_bytes(data)
    code, out, err = command("check", "image", gallery(init_from_adapter=str(tmp_path / name)))
    assert code == 2 and said in err + out and "Errno" not in err and "It fits" not in out


def test_check_says_what_is_taken_up(gallery, command, networks, tmp_path):
    network = networks("sd15")
    file = write("kohya", random_lora(network, rf"{ATTENTION}|{TEXT}"), tmp_path / "style.safetensors")
    code, out, err = command("check", "image", gallery(init_from_adapter=str(file), lora_rank=...), "--json")
    told = json.dumps(json.loads(out))
    assert code == 0, err
    assert "lora_rank is 3" in told
    code, out, err = command("check", "image", gallery(init_from_adapter=str(file)))
    assert code == 2 and "lora_rank: 3" in err and "lora resize" in err
    (tmp_path / "several").mkdir()
    for name in "ab":
        (tmp_path / "several" / f"{name}.safetensors").write_bytes(file.read_bytes())
    code, out, err = command("check", "image", gallery(init_from_adapter=str(tmp_path / "several")))
    assert code == 2 and "a.safetensors, b.safetensors" in err


def test_layers_of_the_original_model_that_stand_for_several_are_taken_apart(sd_bases, begun, host, tmp_path):
    """Both as our exporter writes them, each part with a rank of its own, and as kohya's trainer does, with one rank for all three."""
    from builders.strangers import sd3

    host.register(sd3(), "sd3")
    torch.manual_seed(0)
    down, up = torch.randn(3, 32), torch.randn(96, 3)
    other = (torch.randn(3, 32), torch.randn(32, 3))
    sparse, wide = torch.zeros(96, 6), torch.randn(6, 32)
    sparse[:32, :2], sparse[64:, 2:] = torch.randn(32, 2), torch.randn(32, 4)  # to_k has none
    names = [f"lora_unet_joint_blocks_{name}" for name in ("0_x_block_attn_qkv", "0_x_block_attn_proj", "1_context_block_attn_qkv")]
    tensors = {}
    for name, (a, b) in zip(names, ((down, up), other, (wide, sparse)), strict=True):
        tensors |= {f"{name}.lora_down.weight": a, f"{name}.lora_up.weight": b, f"{name}.alpha": torch.tensor(3.0)}
    save_file(tensors, tmp_path / "sd3.safetensors")
    start, said = begun(tmp_path / "sd3.safetensors", family="sd3")
    given = start.given
    change = {
        name: given.alpha / given.rank * given.tensors[f"{name}.lora_B.weight"] @ given.tensors[f"{name}.lora_A.weight"]
        for name in given.modules
    }
    block = "transformer.transformer_blocks."
    wanted = {f"{block}0.attn.to_{part}": up[32 * i : 32 * i + 32] @ down for i, part in enumerate("qkv")}
    wanted |= {f"{block}0.attn.to_out.0": other[1] @ other[0], f"{block}1.attn.add_q_proj": 0.5 * sparse[:32] @ wide}
    wanted[f"{block}1.attn.add_v_proj"] = 0.5 * sparse[64:] @ wide
    assert change.keys() == wanted.keys() and "3 of 3 modules" in "\n".join(said)
    for name, value in wanted.items():
        assert torch.allclose(change[name], value, atol=1e-4), name
    assert start.ranks[f"{block}1.attn.add_q_proj"] == 2 and start.ranks[f"{block}1.attn.add_v_proj"] == 4
