# SPDX-License-Identifier: Apache-2.0
"""LoKr and LoHa beside LoRA, on linear layers, convolutions and a language model: trained as a plain peft loop does, written, read, merged."""

from __future__ import annotations

import copy
import dataclasses
import json

import peft
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from loraforge import ConfigError, RunConfig, RunError
from loraforge.adapters import lora

VARIANTS = {
    "lora": ({}, lambda **given: peft.LoraConfig(lora_alpha=given.pop("alpha"), **given)),
    "lokr": ({}, lambda **given: peft.LoKrConfig(init_weights="lycoris", **given)),
    "lokr-both": (
        {"lora_variant": "lokr", "lokr_factor": 4, "lokr_decompose_both": True, "lora_rank": 1},
        lambda **given: peft.LoKrConfig(init_weights="lycoris", decompose_factor=4, decompose_both=True, **given),
    ),
    "lokr-whole": ({"lora_variant": "lokr", "lora_rank": 256}, lambda **given: peft.LoKrConfig(init_weights="lycoris", **given)),
    "loha": ({}, lambda **given: peft.LoHaConfig(**given)),
}
MODELS = ("linear", "conv", "text")


def config(variant="lora", **values) -> RunConfig:
    own = VARIANTS.get(variant, ({},))[0]
    return RunConfig(
        train_data_dir=".",
        base_model="b",
        kernels="off",
        **{"lora_rank": 3, "lora_alpha": 6, "lora_dropout": 0.0, "lora_variant": variant, **own, **values},
    )


@pytest.fixture
def made(base):
    """``made("conv")``: the model, its adapted modules with their ranks, and its loss."""

    def make(kind):
        torch.manual_seed(1)
        if kind == "text":
            model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
            ids = torch.arange(3, 40)[None]
            return model, None, lambda m: m(ids, labels=ids, use_cache=False).loss
        if kind == "linear":
            model, x = nn.Sequential(nn.Linear(24, 32), nn.Tanh(), nn.Linear(32, 20)), torch.randn(8, 24)
            return model, {"0": 3, "2": 3}, lambda m: (m(x) - 1).square().mean()
        model, x = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.Tanh(), nn.Conv2d(16, 12, 1)), torch.randn(2, 8, 6, 6)
        return model, {"0": 2, "2": 3}, lambda m: (m(x) - 1).square().mean()

    return make


def ranked(modules, wanted):
    """The modules with the config's rank, and those of another rank as they are."""
    return modules and {name: wanted.lora_rank if rank == 3 else rank for name, rank in modules.items()}


def steps(model, loss, count=10):
    """Ten steps of AdamW on what learns; (losses, gradients of the first step)."""
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer, losses, first = torch.optim.AdamW(learned, lr=0.02), [], []
    for number in range(count):
        value = loss(model)
        value.backward()
        first = [p.grad.clone() for p in learned] if not number else first
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(value.detach()))
    return losses, first


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_losses_and_gradients_are_those_of_a_plain_peft_loop_and_fall(made, variant, kind):
    model, modules, loss = made(kind)
    plain, wanted = copy.deepcopy(model), config(variant)
    modules = ranked(modules, wanted)
    torch.manual_seed(2)
    attached = lora.inject(model, wanted, modules=modules)
    ranks = {name: rank for name, rank in (modules or {}).items() if rank != wanted.lora_rank}
    chosen = list(modules) if modules else ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    theirs = VARIANTS[variant][1](
        r=wanted.lora_rank,
        alpha=6,
        target_modules=chosen,
        rank_pattern=ranks,
        alpha_pattern={n: r * 6 / wanted.lora_rank for n, r in ranks.items()},
    )
    torch.manual_seed(2)
    peft.inject_adapter_in_model(theirs, plain)
    assert [n for n, p in model.named_parameters() if p.requires_grad] == [n for n, p in plain.named_parameters() if p.requires_grad]
    (mine, first), (losses, other) = steps(model.train(), loss), steps(plain.train(), loss)
    assert mine == losses and all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert mine[-1] < mine[0] and all(torch.isfinite(p).all() for p in model.parameters())
    adapter = attached.adapter()
    assert adapter.kind == wanted.adapter_kind and adapter.ranks == ranks


@pytest.fixture
def trained(made):
    def train(variant, kind, **values):
        model, modules, loss = made(kind)
        fresh, wanted = copy.deepcopy(model), config(variant, **values)
        attached = lora.inject(model, wanted, modules=ranked(modules, wanted))
        steps(model, loss, 4)
        model.eval()
        return attached, model, fresh, loss

    return train


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_what_is_written_read_and_merged_does_what_was_trained(trained, tmp_path, variant, kind):
    attached, model, fresh, loss = trained(variant, kind)
    with torch.no_grad():
        wanted, before = float(loss(model)), float(loss(fresh.eval()))
    lora.write_peft(attached.adapter(), tmp_path / "a")
    read = lora.read_peft(tmp_path / "a")
    live = {name: layer.get_delta_weight("default").flatten(1) for name, layer in attached.layers()}
    assert read.kind == VARIANTS[variant][0].get("lora_variant", variant) and sorted(live) == list(read.modules)
    for name, delta in live.items():
        torch.testing.assert_close(read.delta(name), delta, atol=1e-6, rtol=1e-5)
    merged = copy.deepcopy(fresh)
    lora.merge(merged, read)
    loaded = copy.deepcopy(fresh)
    lora.load_adapters(loaded, {"x": read})
    with torch.no_grad():
        assert float(loss(merged)) == pytest.approx(wanted, abs=1e-5) and float(loss(loaded)) == pytest.approx(wanted, abs=1e-6)
        lora.set_adapter(loaded, None)
        assert float(loss(loaded)) == before
        lora.set_adapter(loaded, {"x": 0.5})
        assert min(before, wanted) < float(loss(loaded)) < max(before, wanted)
        if kind == "text":  # peft's own way to load it
            assert float(loss(peft.PeftModel.from_pretrained(copy.deepcopy(fresh), tmp_path / "a"))) == pytest.approx(wanted, abs=1e-6)
    assert not any(isinstance(module, lora.ADAPTED) for module in merged.modules())


def test_kinds_beside_each_other_on_the_same_layers(trained):
    """Each alone, switched, mixed by strength, and taken off: peft nests the layers of different kinds."""
    runs = {variant: trained(variant, "conv") for variant in VARIANTS}
    _, _, base, loss = runs["lora"]
    model = copy.deepcopy(base)
    lora.load_adapters(model, {variant: run[0].adapter() for variant, run in runs.items()})
    with torch.no_grad():
        wanted = {variant: float(loss(run[1])) for variant, run in runs.items()} | {None: float(loss(base))}
        for name in (*VARIANTS, None, "loha", "lora", "lokr-both", "lora"):
            lora.set_adapter(model, name)
            assert float(loss(model)) == pytest.approx(wanted[name], abs=1e-6), name
        lora.set_adapter(model, {"lora": 0.5, "loha": 1.0, "lokr": 0.25})
        deltas = {variant: runs[variant][0].adapter().delta("0") for variant in ("lora", "loha", "lokr")}
        x = torch.randn(1, 8, 6, 6)
        weight = base[0].weight + (0.5 * deltas["lora"] + deltas["loha"] + 0.25 * deltas["lokr"]).view_as(base[0].weight)
        torch.testing.assert_close(model[0](x), nn.functional.conv2d(x, weight, base[0].bias, padding=1), atol=1e-5, rtol=1e-4)
        for gone in ("lora", "loha", "lokr-whole"):
            lora.unload_adapter(model, gone)
        for name in ("lokr", "lokr-both", None):
            lora.set_adapter(model, name)
            assert float(loss(model)) == pytest.approx(wanted[name], abs=1e-6), name


@pytest.mark.parametrize("variant", ["lokr", "loha"])
def test_dropout_drops_rows_of_the_change_and_keeps_its_mean(made, variant):
    model, modules, loss = made("linear")
    attached = lora.inject(model, config(variant, lora_dropout=0.4), modules=modules)
    steps(model, loss, 3)
    layer = dict(attached.layers())["0"]
    whole = layer.get_delta_weight("default").detach()
    rows = torch.stack([layer.get_delta_weight("default", apply_rank_dropout=True).detach() for _ in range(200)])
    gone = (rows.abs().sum(2) == 0).float().mean()
    assert 0.3 < float(gone) < 0.5 and float((rows.mean(0) - whole).norm() / whole.norm()) < 0.15
    assert torch.equal(layer.get_delta_weight("default"), whole)


@pytest.mark.parametrize("variant", ["lokr", "loha"])
def test_layers_that_hold_their_weights_otherwise_are_named(base_gpt2, variant):
    model = AutoModelForCausalLM.from_pretrained(base_gpt2)
    with pytest.raises(ConfigError, match=rf"lora_variant: {variant} works on plain linear layers.*transformer\.h\.0"):
        lora.inject(model, config(variant))


@pytest.fixture(scope="module")
def base_gpt2(tmp_path_factory):
    from builders.tiny_text import make_base

    return make_base(tmp_path_factory.mktemp("base") / "gpt2", architecture="gpt2")


@pytest.mark.parametrize("variant", ["lora", "rslora", "pissa", "lokr", "loha"])
def test_ranks_of_parts(base, tmp_path, variant):
    """The scale stays that of the others; what is left out is the base's."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    entries = ["layers.0=2", "q_proj=5", "layers.1.mlp=0"]
    attached = lora.inject(
        model, config(variant if variant != "lokr" else "lokr-both", lora_variant=variant, lora_rank=3, block_ranks=entries)
    )
    layers = dict(attached.layers())
    assert len(layers) == 11 and not any(".1.mlp." in name for name in layers)
    size = lambda layer: layer.r["default"]  # noqa: E731
    assert {n.rpartition(".")[2]: size(layer) for n, layer in layers.items() if ".0." in n} == {
        **dict.fromkeys(("k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"), 2),
        "q_proj": 5,
    }
    assert {n.rpartition(".")[2]: size(layer) for n, layer in layers.items() if ".1." in n} == {
        "q_proj": 5,
        "k_proj": 3,
        "v_proj": 3,
        "o_proj": 3,
    }
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1 if p.requires_grad else 0)
        ids = torch.arange(3, 40)[None]
        wanted = model.eval()(ids, use_cache=False).logits
        lora.write_peft(attached.adapter(), tmp_path / "a")
        fresh = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
        got = peft.PeftModel.from_pretrained(fresh, tmp_path / "a")(ids, use_cache=False).logits
    torch.testing.assert_close(got, wanted, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("variant", ["lokr-both", "loha"])
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda t, c, k: t.pop(k[0]), "do not make a whole|is no part"),
        (lambda t, c, k: t.update({k[-1]: t[k[-1]].T.contiguous()}), "do not make a whole"),
        (lambda t, c, k: t.update({k[-1]: t[k[-1]] * float("nan")}), "not numbers"),
        (lambda t, c, k: t.update({"x.lora_A.weight": torch.ones(2, 2)}), "is no part of an adapter of the kind"),
        (lambda t, c, k: t.clear(), "no tensor in it"),
        (lambda t, c, k: c.update(r=77, rank_pattern={}), "do not make a whole of rank 77"),
        (lambda t, c, k: c.update(alpha="much"), "'alpha' in adapter_config.json is 'much'"),
    ],
)
def test_a_damaged_folder_is_refused_in_words(trained, tmp_path, variant, spoil, told):
    import safetensors.torch

    lora.write_peft(trained(variant, "conv")[0].adapter(), tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    tensors, written = safetensors.torch.load_file(file), json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    spoil(tensors, written, sorted(name for name in tensors if "_w2" in name or "hada" in name))
    safetensors.torch.save_file(tensors, file)
    (tmp_path / "adapter_config.json").write_text(json.dumps(written), encoding="utf-8")
    with pytest.raises(RunError, match=told):
        lora.read_peft(tmp_path)


def test_a_folder_of_pefts_own_with_other_scales_is_read_exactly(made, tmp_path):
    """LoHa with alpha_pattern and a convolution in three factors, saved by peft."""
    model, _, _ = made("conv")
    theirs = peft.get_peft_model(
        model,
        peft.LoHaConfig(r=4, alpha=3, target_modules=["0", "2"], alpha_pattern={"0": 10}, use_effective_conv2d=True, init_weights=False),
    )
    theirs.save_pretrained(tmp_path)
    read = lora.read_peft(tmp_path)
    for name in ("0", "2"):
        wanted = theirs.base_model.model.get_submodule(name).get_delta_weight("default").flatten(1)
        torch.testing.assert_close(read.delta(name), wanted, atol=1e-6, rtol=1e-4)
    again, _, _ = made("conv")
    lora.load_adapters(again, {"x": dataclasses.replace(read, probes={})})
    torch.testing.assert_close(again[0].get_delta_weight("x"), theirs.base_model.model[0].get_delta_weight("default"), atol=1e-6, rtol=1e-4)
