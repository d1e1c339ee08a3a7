# SPDX-License-Identifier: Apache-2.0
"""``loraforge lora``: ranks, sums and differences, each against sums and singular values computed here with numpy."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.lora_layouts import delta, random_lora, write
from builders.tiny_images import load_sd, network_of
from safetensors import safe_open
from safetensors.torch import load_file, save_file

ATTENTION = r"^unet\..*attn[12]\.to_[qk]$"


@pytest.fixture(scope="module")
def network(sd_bases):
    return network_of(load_sd(sd_bases("sd15"), "sd15"), True)


@pytest.fixture
def run(command):
    """``run("resize", ...)``: what it tells as JSON."""

    def go(*words):
        code, out, err = command("lora", *words, "--json")
        assert code == 0, err
        return json.loads(out)

    return go


def changes(file):
    """Every module's change, float64 (out, in), from the file alone: alpha / rank * up @ down."""
    tensors = load_file(file)
    found = {}
    for key in tensors:
        if key.endswith(".lora_down.weight"):
            name = key.removesuffix(".lora_down.weight")
            down, up = tensors[key].double().flatten(1), tensors[f"{name}.lora_up.weight"].double().flatten(1)
            found[name] = (float(tensors[f"{name}.alpha"]) / down.shape[0] * up @ down).numpy()
    return found


def named(lora):
    return {"lora_unet_" + name[5:].replace(".", "_"): delta(pair).numpy() for name, pair in lora.items()}


def metadata(file):
    with safe_open(str(file), framework="np") as handle:
        return handle.metadata()


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_resize_loses_exactly_the_singular_values_that_are_left_out(rank, network, run, tmp_path):
    lora = random_lora(network, rf"{ATTENTION}|^unet\.mid_block\..*conv1$", rank=6)
    file = write("kohya", lora, tmp_path / "a.safetensors", metadata={"ss_base_model_version": "sd_v1", "ss_tag_frequency": "{}"})
    told = run("resize", file, tmp_path / "b.safetensors", "--rank", rank)
    before, after = named(lora), changes(tmp_path / "b.safetensors")
    assert before.keys() == after.keys() and told["ranks"] == {str(rank): len(lora)}
    lost = whole = 0.0
    for name, wanted in before.items():
        values = np.linalg.svd(wanted, compute_uv=False)
        error = float(np.linalg.norm(wanted - after[name]))
        assert error == pytest.approx(math.sqrt(float((values[rank:] ** 2).sum())), rel=1e-4)
        lost, whole = lost + error**2, whole + float((values**2).sum())
    assert told["kept"] == pytest.approx(math.sqrt(1 - lost / whole), rel=1e-5)
    kept = metadata(tmp_path / "b.safetensors")
    assert kept["ss_network_dim"] == str(rank) and kept["ss_tag_frequency"] == "{}" and "a.safetensors" in kept["loraforge_made"]
    assert str(tmp_path) not in json.dumps(kept)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999, 1.0])
def test_resize_by_share_takes_the_smallest_ranks_that_keep_it(share, network, run, tmp_path):
    lora = random_lora(network, ATTENTION, rank=6)
    file = write("kohya", lora, tmp_path / "a.safetensors")
    run("resize", file, tmp_path / "b.safetensors", "--keep", share)
    tensors = load_file(tmp_path / "b.safetensors")
    for name, wanted in named(lora).items():
        values = np.linalg.svd(wanted, compute_uv=False)
        held = np.sqrt(np.cumsum(values**2) / (values**2).sum())
        smallest = next(i for i, value in enumerate(held, 1) if value >= share - 1e-9)
        assert tensors[f"{name}.lora_down.weight"].shape[0] == smallest
    assert len({float(tensors[key]) for key in tensors if key.endswith(".alpha")}) == 1  # some readers take one for all


def test_a_higher_rank_does_the_same_and_can_learn(network, run, tmp_path):
    lora = random_lora(network, ATTENTION, rank=2)
    file = write("diffusers", lora, tmp_path / "a.safetensors")
    run("resize", file, tmp_path / "b.safetensors", "--rank", 5)
    tensors, after = load_file(tmp_path / "b.safetensors"), changes(tmp_path / "b.safetensors")
    for name, wanted in named(lora).items():
        assert np.allclose(after[name], wanted, atol=1e-5)
        assert tensors[f"{name}.lora_down.weight"][2:].abs().min(1).values.max() > 0 and not tensors[f"{name}.lora_up.weight"][:, 2:].any()


def test_merge_is_the_sum_at_its_strengths(network, run, tmp_path):
    first = random_lora(network, ATTENTION, rank=3)
    second = random_lora(network, rf"{ATTENTION}|^unet\.mid_block\..*(conv1|attn1\.to_v)$", rank=2, seed=7)
    one, two = write("kohya", first, tmp_path / "a:b.safetensors"), write("old diffusers", second, tmp_path / "b.safetensors")
    told = run("merge", f"{one}:0.8", f"{two}:-.5", "--out", tmp_path / "c.safetensors")
    after, left, right = changes(tmp_path / "c.safetensors"), named(first), named(second)
    assert after.keys() == left.keys() | right.keys() and [part["strength"] for part in told["from"]] == [0.8, -0.5]
    for name, got in after.items():
        wanted = 0.8 * left.get(name, 0.0) - 0.5 * right.get(name, 0.0)
        assert float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted)) < 1e-6
    told = run("merge", one, f"{two}:-.5", "--rank", 2, "--out", tmp_path / "d.safetensors")
    assert told["ranks"] == {"2": len(after)} and 0 < told["kept"] < 1


def test_merge_into_a_base_adds_to_its_weights(network, run, sd_bases, tmp_path):
    lora = random_lora(network, rf"{ATTENTION}|^unet\.mid_block\..*conv1$|^text_encoder.*layers\.0\.mlp\.fc1$", rank=2)
    file = write("kohya", lora, tmp_path / "a.safetensors")
    told = run("merge", f"{file}:0.5", "--into", sd_bases("sd15"), "--out", tmp_path / "merged")
    assert told["layers"] == len(lora) and not told["left_out"]
    after = network_of(load_sd(tmp_path / "merged", "sd15"), True)
    for name, module in network.named_modules():
        if isinstance(getattr(module, "weight", None), torch.Tensor):
            wanted = module.weight.double() + (0.5 * delta(lora[name]).reshape(module.weight.shape) if name in lora else 0)
            assert torch.allclose(after.get_submodule(name).weight.double(), wanted, atol=1e-6), name


@pytest.fixture(scope="module")
def tuned(sd_bases, tmp_path_factory):
    """A base whose attention, one convolution and one norm were changed, and by what."""
    pipe = load_sd(sd_bases("sd15"), "sd15")
    whole = network_of(pipe, True)
    torch.manual_seed(3)
    changed = {}
    for name, module in whole.named_modules():
        if name.endswith(("attn2.to_k", "layers.0.mlp.fc1", "mid_block.resnets.0.conv1", "conv_norm_out")):
            changed[name] = torch.randn_like(module.weight) * 0.1
            module.weight.data += changed[name]
    place = tmp_path_factory.mktemp("tuned") / "tuned"
    pipe.save_pretrained(place)
    return place, changed


def test_extract_with_full_rank_gives_the_tuned_weights_back(tuned, run, sd_bases, tmp_path):
    place, changed = tuned
    told = run(
        "extract", sd_bases("sd15"), place, "--rank", 64, "--conv-rank", 300, "--precision", "fp32", "--out", tmp_path / "x.safetensors"
    )
    after = changes(tmp_path / "x.safetensors")
    carried = {name: change for name, change in changed.items() if "norm" not in name}
    assert len(after) == len(carried)
    for name, change in carried.items():
        part, _, path = name.partition(".")
        key = ("lora_unet_" + path if part == "unet" else "lora_te_text_model_" + path.removeprefix("text_model.")).replace(".", "_")
        assert np.allclose(after[key], change.double().flatten(1).numpy(), atol=2e-6)
    whole = sum(float(change.square().sum()) for change in changed.values())
    share = math.sqrt(sum(float(change.square().sum()) for change in carried.values()) / whole)
    assert told["on_layers"] == pytest.approx(share, rel=1e-5) == told["kept"]
    told = run("extract", sd_bases("sd15"), place, "--rank", 2, "--out", tmp_path / "y.safetensors")
    assert not any("conv1" in name for name in changes(tmp_path / "y.safetensors")) and told["kept"] < share


def test_a_large_layer_is_decomposed_by_projection_as_well_as_exactly():
    from loraforge_image.lora_tools.svd import of_dense

    torch.manual_seed(0)
    values = torch.logspace(0, -3, 600, dtype=torch.float64)
    left, right = (torch.linalg.qr(torch.randn(n, 600, dtype=torch.float64))[0] for n in (700, 640))
    change = left * values @ right.T
    found = of_dense(change, 16)
    best = float(values[16:].norm())
    pair = found.factors("x", "x", 16)
    assert float((change - pair.delta()).norm()) < 1.001 * best


@pytest.mark.parametrize(
    ("words", "said"),
    [(("resize", "A", "NEW"), "--rank"), (("resize", "A", "A", "--rank", 2), "exists already"), (("merge", "A", "--out", "NEW"), "merged with nothing"),
     (("resize", "A", "NEW.bin", "--rank", 2), "NAME.safetensors"), (("merge", "A:nan", "A:1", "--out", "NEW"), "a strength lies"),
     (("merge", "A", "XL:0.5", "--out", "NEW"), "different base models"), (("resize", "PAGE", "NEW", "--rank", 2), "a web page"),
     (("extract", "BASE", "BASE", "--rank", 2, "--out", "NEW"), "do not differ"), (("extract", "BASE", "A", "--rank", 2, "--out", "NEW"), "is a LoRA"),
     (("merge", "XL", "--into", "BASE", "--out", "NEWDIR"), "not fit"), (("resize", "A", "gone/NEW", "--rank", 2), "no such folder")],
)  # fmt: skip
def test_what_cannot_be_done_is_said_and_nothing_is_written(words, said, network, sd_bases, command, tmp_path):
    write("kohya", random_lora(network, ATTENTION), tmp_path / "a.safetensors", metadata={"ss_base_model_version": "sd_v1"})
    xl = {"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k": (torch.ones(2, 2048), torch.ones(64, 2), 1.0)}
    save_file(
        {f"{n}.{end}.weight": t for n, (a, b, _) in xl.items() for end, t in (("lora_down", a), ("lora_up", b))},
        tmp_path / "xl.safetensors",
    )
    (tmp_path / "page.safetensors").write_bytes(b"<!DOCTYPE html>")
    places = {"A": "a.safetensors", "XL": "xl.safetensors", "PAGE": "page.safetensors", "NEW": "new.safetensors", "NEW.bin": "new.bin", "NEWDIR": "new",
              "gone/NEW": "gone/new.safetensors"}  # fmt: skip
    before = sorted(tmp_path.rglob("*"))

    def resolved(word):
        name, colon, strength = str(word).partition(":")
        if name == "BASE":
            return str(sd_bases("sd15"))
        return str(tmp_path / places[name]) + colon + strength if name in places else str(word)

    code, _, err = command("lora", *map(resolved, words))
    assert code == 2 and said in err, err
    assert sorted(tmp_path.rglob("*")) == before


def test_the_strength_is_told_from_a_colon_of_the_path():
    from loraforge_image.lora_tools.merge import split_strength

    assert split_strength("a.safetensors:0.8") == (Path("a.safetensors"), 0.8)
    assert split_strength("C:\\loras\\a.safetensors") == (Path("C:\\loras\\a.safetensors"), 1.0)
    assert split_strength("C:\\a.safetensors:-1e-1") == (Path("C:\\a.safetensors"), -0.1)


SD1 = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
SD3 = "lora_unet_joint_blocks_0_x_block_attn_qkv"


def pair(name, rank=2, rows=320, inputs=320, **more):
    made = {f"{name}.lora_down.weight": torch.randn(rank, inputs), f"{name}.lora_up.weight": torch.randn(rows, rank)}
    return {**made, f"{name}.alpha": torch.tensor(float(rank)), **{f"{name}.{end}": value for end, value in more.items()}}


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (pair(SD1, alpha=torch.tensor([1.0, 2.0])), "or their shapes do not fit together"),
        (pair(SD1, alpha=torch.tensor(1 + 2j)), "complex numbers"),
        ({name: value.to(torch.complex64) if "down" in name else value for name, value in pair(SD1).items()}, "complex numbers"),
        ({name: value * torch.inf if "down" in name else value for name, value in pair(SD1).items()}, "NaN or infinity"),
    ],
    ids=["two alphas", "complex alpha", "complex factor", "endless factor"],
)  # fmt: skip
@pytest.mark.parametrize("words", [("resize", "--rank", "1"), ("convert", "--to", "diffusers")], ids=lambda words: words[0])
def test_numbers_that_mean_nothing_are_refused_in_a_sentence(tensors, said, words, command, tmp_path):
    save_file(tensors, tmp_path / "a.safetensors")
    out = (tmp_path / "b.safetensors",) if words[0] == "resize" else ("--out", tmp_path / "b.safetensors")
    code, _, err = command("lora", words[0], tmp_path / "a.safetensors", *out, *words[1:])
    assert code == 2 and said in err and "Traceback" not in err and not (tmp_path / "b.safetensors").exists()


def test_files_of_two_models_are_not_added(command, tmp_path):
    """Of a PEFT folder too, which says nothing of its model: its layers do."""
    folder = tmp_path / "sd15"
    folder.mkdir()
    name = "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    save_file(
        {f"{name}.lora_A.weight": torch.randn(2, 768), f"{name}.lora_B.weight": torch.randn(320, 2)}, folder / "adapter_model.safetensors"
    )
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["to_k"]}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(pair(SD3, rows=72, inputs=24), tmp_path / "sd3.safetensors")
    code, _, err = command("lora", "merge", folder, tmp_path / "sd3.safetensors", "--out", tmp_path / "b.safetensors")
    assert code == 2 and "sd15" in err and "sd3" in err and not (tmp_path / "b.safetensors").exists()


def test_a_smaller_file_keeps_the_words_of_its_card_and_no_hash_of_the_larger(run, tmp_path):
    save_file(pair(SD1), tmp_path / "a.safetensors", {"modelspec.hash_sha256": "0xabc", "ss_base_model_version": "sd_v1"})
    (tmp_path / "a.json").write_text(json.dumps({"activation text": "zz style"}), encoding="utf-8")
    run("resize", tmp_path / "a.safetensors", tmp_path / "b.safetensors", "--rank", "1")
    told = metadata(tmp_path / "b.safetensors")
    assert told["modelspec.trigger_phrase"] == "zz style" and "modelspec.hash_sha256" not in told
