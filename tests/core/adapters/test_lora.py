# SPDX-License-Identifier: Apache-2.0
"""Putting a LoRA on, taking it off: what is written does what was trained, in every variant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from loraforge import ConfigError, ExportError, RunConfig, RunError
from loraforge.adapters import lora


def config(**values) -> RunConfig:
    return RunConfig(train_data_dir=".", base_model="base", **{"lora_rank": 4, "lora_dropout": 0.0, **values})


def fresh(base: Path):
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


def trained(base: Path, **values):
    """A LoRA whose weights have moved, on a fresh base; and what the model then says."""
    torch.manual_seed(0)
    model = fresh(base)
    attached = lora.inject(model, config(**values))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * (0.1 if "lora" in name and "magnitude" not in name else 0.01))
    return attached, logits(model)


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(3, 40)[None], use_cache=False).logits


def test_where_the_adapter_sits(base):
    model = fresh(base)
    last = lambda wanted: {n.rpartition(".")[2] for n in lora.find_targets(model, wanted)}  # noqa: E731
    assert last("all-linear") == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert last("attention") == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert last("q,v") == last("q, v") == last(["q_proj", "v_proj"]) == last("q_proj,v_proj") == {"q_proj", "v_proj"}
    assert lora.find_targets(model, r"model\.layers\.0\..*_proj") == [n for n in lora.find_targets(model, "all-linear") if ".0." in n]
    assert last("q_proj,,v_proj,") == {"q_proj", "v_proj"}, "a comma too many"
    assert lora.find_targets(model, "model.layers.1.mlp.up_proj") == ["model.layers.1.mlp.up_proj"]


def test_a_wrong_target_lists_what_there_is(base):
    with pytest.raises(ConfigError, match=r"no linear layer 'qproj'.*q_proj"):
        lora.find_targets(fresh(base), ["qproj", "v_proj"])
    with pytest.raises(ConfigError, match="no regular expression|not a regular expression"):
        lora.find_targets(fresh(base), "q_proj(")


def test_short_names_only_where_they_mean_the_same():
    names = ["a.q", "a.v", "b.q", "b.v"]
    assert lora.shortest_names(["a.q", "b.q"], names) == ("q",)
    assert lora.shortest_names(["a.q"], names) == ("a.q",)


@pytest.mark.parametrize("variant", ["lora", "rslora", "dora", "pissa"])
def test_the_written_adapter_does_what_the_trained_model_did(base, tmp_path, variant):
    from peft import PeftModel

    attached, wanted = trained(base, lora_variant=variant)
    lora.write_peft(attached.adapter(), tmp_path / "a")
    assert not torch.allclose(logits(fresh(base)), wanted, atol=1e-3)
    got = logits(PeftModel.from_pretrained(fresh(base), tmp_path / "a"))
    torch.testing.assert_close(got, wanted, atol=2e-5, rtol=1e-4)
    written = json.loads((tmp_path / "a" / "adapter_config.json").read_text(encoding="utf-8"))
    assert isinstance(written["lora_alpha"], int) and not written["use_rslora"] and list(written) == sorted(written)
    assert written["r"] == (8 if variant == "pissa" else 4)


@pytest.mark.parametrize("variant", ["lora", "rslora", "pissa"])
def test_a_reader_that_knows_only_alpha_over_rank_is_right(base, tmp_path, variant):
    """By hand, as vLLM and llama.cpp compute it: W + alpha / r * B @ A."""
    import safetensors.torch

    attached, wanted = trained(base, lora_variant=variant, lora_target="q,v")
    lora.write_peft(attached.adapter(), tmp_path / "a")
    written = json.loads((tmp_path / "a" / "adapter_config.json").read_text(encoding="utf-8"))
    tensors = safetensors.torch.load_file(tmp_path / "a" / "adapter_model.safetensors")
    model = fresh(base)
    with torch.no_grad():
        for name, module in model.named_modules():
            if f"base_model.model.{name}.lora_A.weight" in tensors:
                a, b = (tensors[f"base_model.model.{name}.lora_{x}.weight"] for x in "AB")
                module.weight += written["lora_alpha"] / written["r"] * b @ a
    torch.testing.assert_close(logits(model), wanted, atol=2e-5, rtol=1e-4)


def test_a_wrong_file_is_refused_and_names_the_module(base):
    import dataclasses

    attached, _ = trained(base)
    adapter = attached.adapter()
    lora.verify(adapter)
    name = adapter.modules[3]
    spoiled = dict(adapter.tensors)
    spoiled[f"{name}.lora_B.weight"] = spoiled[f"{name}.lora_B.weight"] * 1.01
    with pytest.raises(ExportError, match=name.replace(".", r"\.")):
        lora.verify(dataclasses.replace(adapter, tensors=spoiled))
    with pytest.raises(ExportError):
        lora.verify(dataclasses.replace(adapter, alpha=adapter.alpha * 2))


@pytest.mark.parametrize("variant", ["lora", "rslora", "dora", "pissa"])
def test_merging_gives_the_trained_model_as_a_plain_one(base, tmp_path, variant):
    attached, wanted = trained(base, lora_variant=variant)
    lora.write_peft(attached.adapter(), tmp_path / "a")
    model = fresh(base)
    lora.merge(model, lora.read_peft(tmp_path / "a"))
    torch.testing.assert_close(logits(model), wanted, atol=2e-5, rtol=1e-4)
    assert not any("lora" in name for name, _ in model.named_parameters())


def test_several_adapters_on_one_base_can_be_switched(base, tmp_path):
    one, first = trained(base, lora_target="q,v")
    two, second = trained(base, lora_rank=8)
    model = fresh(base)
    plain = logits(model)
    lora.load_adapters(model, {"law": one.adapter(), "medicine": two.adapter()})
    for name, wanted in (("law", first), ("medicine", second), (None, plain), ("law", first)):
        lora.set_adapter(model, name)
        torch.testing.assert_close(logits(model), wanted, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("variant", ["lora", "dora"])
def test_an_adapter_of_strength_0_does_nothing(base, variant):
    one, wanted = trained(base, lora_variant=variant)
    model = fresh(base)
    plain = logits(model)
    lora.load_adapters(model, {"law": one.adapter(), "medicine": one.adapter()})
    for strengths, expected in (({"law": 0.0}, plain), ({"law": 0.0, "medicine": 1.0}, wanted), ({"law": 0.0, "medicine": 0.0}, plain)):
        lora.set_adapter(model, strengths)
        torch.testing.assert_close(logits(model), expected, atol=2e-5, rtol=1e-4)


def test_the_adapter_is_float32_on_a_bf16_base(base):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    attached = lora.inject(model, config())
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {torch.bfloat16}
    assert sum(1 for _ in attached.layers()) == 14


def test_gpt2s_transposed_layers(tmp_path):
    from builders.tiny_text import make_base
    from peft import PeftModel

    base = make_base(tmp_path / "gpt2", architecture="gpt2")
    attached, wanted = trained(base)
    lora.write_peft(attached.adapter(), tmp_path / "a")
    torch.testing.assert_close(logits(PeftModel.from_pretrained(fresh(base), tmp_path / "a")), wanted, atol=2e-5, rtol=1e-4)
    model = fresh(base)
    lora.merge(model, lora.read_peft(tmp_path / "a"))
    torch.testing.assert_close(logits(model), wanted, atol=2e-5, rtol=1e-4)


def test_continuing_starts_from_the_given_adapter(base, tmp_path):
    attached, wanted = trained(base, lora_alpha=8)
    lora.write_peft(attached.adapter(), tmp_path / "a")
    model = fresh(base)
    lora.inject(model, config(lora_alpha=16, lora_variant="rslora"), lora.read_peft(tmp_path / "a"))
    torch.testing.assert_close(logits(model), wanted, atol=2e-5, rtol=1e-4)
    with pytest.raises(ConfigError) as error:
        lora.inject(fresh(base), config(lora_rank=8, lora_target="q,v"), lora.read_peft(tmp_path / "a"))
    assert "Set lora_rank: 4" in str(error.value) and "Set lora_target: [" in str(error.value)


def test_an_adapter_of_another_trainer_is_read_with_its_scale(base, tmp_path):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(fresh(base), LoraConfig(r=4, lora_alpha=5, use_rslora=True, target_modules=["q_proj"], init_lora_weights=False))
    wanted = logits(model)
    model.save_pretrained(tmp_path / "theirs", save_embedding_layers=False)
    adapter = lora.read_peft(tmp_path / "theirs")
    other = fresh(base)
    lora.load_adapters(other, {"x": adapter})
    lora.set_adapter(other, "x")
    torch.testing.assert_close(logits(other), wanted, atol=2e-5, rtol=1e-4)


def test_damaged_adapters_are_explained(base, tmp_path):
    attached, _ = trained(base)
    lora.write_peft(attached.adapter(), tmp_path / "a")
    with pytest.raises(RunError, match=r"no adapter_config\.json"):
        lora.read_peft(tmp_path)
    (tmp_path / "a" / "adapter_model.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(RunError, match="cannot be read"):
        lora.read_peft(tmp_path / "a")


# --- layers of every kind ------------------------------------------------------------------------------------------------------


class Picture(torch.nn.Module):
    """A convolution and two linear layers, of different widths."""

    def __init__(self, wide: int = 6) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = torch.nn.Conv2d(3, 5, 3, padding=1)
        self.proj, self.head = torch.nn.Linear(5, wide), torch.nn.Linear(wide, 2, bias=False)

    def forward(self, x):
        return self.head(self.proj(self.conv(x).mean((2, 3))))


def moved(model, **values):
    attached = lora.inject(model, config(**values.pop("config", {})), **values)
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return attached


PIXELS = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)


@pytest.mark.parametrize("variant", ["lora", "rslora", "dora"])
def test_convolutions_with_ranks_of_their_own_are_written_loaded_and_merged(tmp_path, variant):
    model = Picture()
    attached = moved(model, config={"lora_variant": variant, "lora_alpha": 6}, modules={"conv": 2, "proj": 4, "head": 3})
    wanted = model.eval()(PIXELS).detach()
    adapter = attached.adapter("/base", {"a": 1}, {"f.txt": b"x"})
    assert (adapter.ranks, adapter.rank, adapter.alpha, adapter.targets) == ({"conv": 2, "head": 3}, 4, 6, ("conv", "head", "proj"))
    assert (adapter.base_folder, adapter.facts, adapter.files, adapter.dora) == ("/base", {"a": 1}, {"f.txt": b"x"}, variant == "dora")
    assert adapter.tensors["conv.lora_A.weight"].shape == (2, 3, 3, 3) and adapter.probes.keys() == {"conv", "proj", "head"}
    lora.write_peft(adapter, tmp_path)
    read = lora.read_peft(tmp_path)
    beside = Picture()
    lora.load_adapters(beside, {"x": read})
    lora.set_adapter(beside, "x")
    torch.testing.assert_close(beside.eval()(PIXELS), wanted)
    merged = Picture()
    lora.merge(merged, read)
    torch.testing.assert_close(merged(PIXELS), wanted)
    assert type(merged.conv) is torch.nn.Conv2d and not hasattr(merged, "peft_config")
    if variant == "lora":  # one scale for every rank: alpha / rank of the whole adapter
        a, b = adapter.tensors["conv.lora_A.weight"], adapter.tensors["conv.lora_B.weight"]
        torch.testing.assert_close(merged.conv.weight - Picture().conv.weight, 6 / 4 * torch.einsum("or,rihw->oihw", b[..., 0, 0], a))


def test_adapters_at_once_add_up_with_their_strengths():
    inputs = torch.linspace(-1, 1, 12).reshape(2, 6)
    adapters = {}
    for name, where in (("one", ["0"]), ("two", ["0", "1"])):
        torch.manual_seed(len(where))
        model = torch.nn.ModuleList([torch.nn.Linear(6, 6, bias=False), torch.nn.Linear(6, 6, bias=False)])
        attached = lora.inject(model, config(lora_alpha=3), modules=dict.fromkeys(where, 4))
        for parameter in (p for p in model.parameters() if p.requires_grad):
            torch.nn.init.normal_(parameter.data)
        adapters[name] = attached.adapter()
    torch.manual_seed(9)
    model = torch.nn.ModuleList([torch.nn.Linear(6, 6, bias=False), torch.nn.Linear(6, 6, bias=False)])
    plain = [layer.weight.detach().clone() for layer in model]
    lora.load_adapters(model, adapters)

    def change(name: str, layer: int):
        tensors = adapters[name].tensors
        if f"{layer}.lora_A.weight" not in tensors:
            return torch.zeros(6, 6)
        return 0.75 * tensors[f"{layer}.lora_B.weight"] @ tensors[f"{layer}.lora_A.weight"]

    for strengths in ({"one": 0.5, "two": -2.0}, {"one": 1.0}, "two", {}, None, {"two": 0.25}, "one"):
        lora.set_adapter(model, strengths)
        wanted = {strengths: 1.0} if isinstance(strengths, str) else strengths or {}
        for layer in (0, 1):
            weight = plain[layer] + sum(strength * change(name, layer) for name, strength in wanted.items())
            torch.testing.assert_close(model[layer](inputs), inputs @ weight.T, atol=1e-5, rtol=1e-5)
    assert not any(p.requires_grad for name, p in model.named_parameters() if "lora" in name)


class Router(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x), x


def test_only_layers_that_multiply_and_nothing_else_are_linear():
    from types import SimpleNamespace

    from transformers.pytorch_utils import Conv1D

    model = torch.nn.Module()
    model.plain, model.router, model.turned = torch.nn.Linear(2, 2), Router(2, 2), Conv1D(2, 2)
    model.out_proj, model.norm, model.last = torch.nn.Linear(2, 2), torch.nn.LayerNorm(2), torch.nn.Linear(2, 2)
    assert lora.linear_names(model) == ["plain", "turned", "out_proj", "last"]
    model.get_output_embeddings = lambda: model.last
    model.config = SimpleNamespace(model_type="mamba")
    assert lora.linear_names(model) == ["plain", "turned"]
    model.config = SimpleNamespace(model_type="llama")
    assert lora.linear_names(model) == ["plain", "turned", "out_proj"]


def test_four_bit_layers_are_linear_and_their_packed_numbers_are_counted():
    """bitsandbytes keeps two numbers of 4 bits in a byte, in whatever type of storage it was asked for."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    for storage in (torch.uint8, torch.bfloat16, torch.float32):
        model = torch.nn.Module()
        model.four = bitsandbytes.nn.Linear4bit(64, 32, bias=True, quant_type="nf4", quant_storage=storage, compute_dtype=torch.float32)
        model.whole = torch.nn.Linear(32, 16)
        plain = sum(p.numel() for p in model.parameters())
        model.four = model.four.to("cpu")
        assert plain == 64 * 32 + 32 + 32 * 16 + 16 and sum(p.numel() for p in model.parameters()) < plain, "it was packed"
        assert lora.linear_names(model) == ["four", "whole"]
        attached = lora.inject(model, config(lora_rank=3))
        added = 3 * (64 + 32) + 3 * (32 + 16)
        assert attached.count() == (added, plain + added)


def test_every_parameter_is_counted_once_and_those_that_learn_apart(base):
    model = fresh(base)
    whole = model.num_parameters()
    attached = lora.inject(model, config(lora_target="q,v", lora_variant="dora"))
    # q: 32 -> 32, v: 32 -> 16, in two layers; DoRA adds a magnitude for each output.
    added = 2 * (4 * (32 + 32) + 32 + 4 * (32 + 16) + 16)
    assert attached.count() == (added, whole + added)


def test_rates_of_their_own_by_the_beginning_of_the_name():
    attached = lora.inject(Picture(), config(learning_rate=0.1), modules={"conv": 4, "proj": 4}, rates={"conv": 0.2, "pro": 0.3})
    assert [attached.rate(n) for n in ("conv.lora_A.default.weight", "proj.x", "head.conv", "con")] == [0.2, 0.3, 0.1, 0.1]
    assert lora.inject(Picture(), config(learning_rate=0.1), modules={"conv": 4}).rate("conv.x") == 0.1


# --- what peft is asked for ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "width", "start"),
    [("lora", 2048, True), ("rslora", 2048, True), ("dora", 2048, True), ("pissa", 2047, "pissa"), ("pissa", 2048, "pissa_niter_16")],
)
def test_what_peft_is_asked_for(monkeypatch, variant, width, start):
    """PiSSA's exact decomposition takes minutes where a weight has 2**22 numbers or more."""
    asked = []

    def stop(given, model, adapter_name):
        asked.append((given, adapter_name))
        raise InterruptedError

    monkeypatch.setattr(lora.exact_names.peft, "inject_adapter_in_model", stop)
    model = torch.nn.Sequential(torch.nn.Linear(2048, width, bias=False, device="meta"), torch.nn.Linear(4, 4, device="meta"))
    with pytest.raises(InterruptedError):
        lora.inject(model, config(lora_variant=variant, lora_alpha=6, lora_dropout=0.3), modules={"0": 4, "1": 2})
    ((given, name),) = asked
    assert (name, given.r, given.lora_alpha, given.lora_dropout, given.bias) == ("default", 4, 6, 0.3, "none")
    assert (given.init_lora_weights, given.use_rslora, given.use_dora) == (start, variant == "rslora", variant == "dora")
    assert (given.target_modules, given.rank_pattern, given.alpha_pattern) == ({"0", "1"}, {"^1": 2}, {"^1": 3.0})


def test_pissa_keeps_the_pair_that_the_base_was_reduced_by(base):
    model = fresh(base)
    plain = {n: m.weight.detach().clone() for n, m in model.named_modules() if n.endswith("q_proj")}
    attached = lora.inject(model, config(lora_variant="pissa", lora_target="q_proj"))
    for name, layer in attached.layers():
        a, b = attached.initial[f"{name}.lora_A.weight"], attached.initial[f"{name}.lora_B.weight"]
        scale = layer.scaling["default"]
        torch.testing.assert_close(layer.get_base_layer().weight + scale * b @ a, plain[name], atol=1e-5, rtol=1e-4)
        u, s, v = torch.linalg.svd(plain[name])  # the paper's principal part
        torch.testing.assert_close(scale * b @ a, (u[:, :4] * s[:4]) @ v[:4], atol=1e-4, rtol=1e-3)
    assert not lora.inject(fresh(base), config()).initial
    untrained = attached.adapter()
    assert (untrained.rank, untrained.alpha) == (8, 16)
    for name in plain:
        delta = 2 * untrained.tensors[f"{name}.lora_B.weight"] @ untrained.tensors[f"{name}.lora_A.weight"]
        torch.testing.assert_close(delta, torch.zeros_like(delta), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kernels", ["auto", "off"])
def test_kernels_are_counted_where_they_are_wanted(base, kernels):
    attached = lora.inject(fresh(base), config(kernels=kernels))
    assert attached.replaced == ({"LoRA layers": 14} if kernels == "auto" else {})


# --- what does not fit ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "values", "modules", "told"),
    [
        ({}, {}, {"conv": 2, "proj": 4}, []),
        ({}, {"lora_variant": "rslora"}, {"conv": 2, "proj": 4}, []),
        ({}, {"lora_variant": "dora"}, {"conv": 2, "proj": 4}, ["lora and rslora only"]),
        ({}, {"lora_variant": "pissa"}, {"conv": 2, "proj": 4}, ["lora and rslora only"]),
        ({"dora": True}, {}, {"conv": 2, "proj": 4}, ["lora and rslora only"]),
        ({}, {"lora_rank": 8}, {"conv": 2, "proj": 8}, ["Set lora_rank: 4"]),
        ({}, {}, {"conv": 2}, ["other layers. Set lora_target: [conv, proj]"]),
        ({}, {}, {"conv": 3, "proj": 4}, ["other ranks on 1 layer: conv (2)"]),
        ({}, {}, {"conv": 2, "proj": 4, "head": 4}, ["other layers"]),
        ({"dora": True}, {"lora_rank": 8}, {"head": 8}, ["rslora only", "Set lora_rank", "other layers"]),
    ],
)
def test_an_adapter_that_cannot_be_continued_says_all_that_is_wrong(given, values, modules, told):
    import dataclasses

    adapter = dataclasses.replace(moved(Picture(), modules={"conv": 2, "proj": 4}).adapter(), **given)
    if not told:
        lora.inject(Picture(), config(**values), adapter, modules=modules)
        return
    with pytest.raises(ConfigError) as error:
        lora.inject(Picture(), config(**values), adapter, modules=modules)
    assert len(error.value.problems) == len(told) and all(part in text for part, text in zip(told, error.value.problems, strict=True))


def test_an_adapter_of_another_base_is_named():
    adapter = moved(Picture(wide=7), modules={"conv": 4, "proj": 4, "head": 4}).adapter()
    with pytest.raises(ConfigError, match=r"other widths: proj.lora_B.weight, head.lora_A.weight$"):
        lora.inject(Picture(), config(), adapter, modules={"conv": 4, "proj": 4, "head": 4})
    with pytest.raises(RunError, match="does not fit the base model"):
        lora.load_adapters(Picture(), {"x": adapter})
    with pytest.raises(RunError, match="does not fit the base model"):
        lora.load_adapters(torch.nn.Sequential(torch.nn.Linear(2, 2)), {"x": adapter})


def test_merging_checks_every_module(base, tmp_path):
    import dataclasses

    adapter = moved(Picture(), modules={"conv": 2, "proj": 4}).adapter()
    for name in ("conv", "proj"):
        probes = {**adapter.probes, name: adapter.probes[name] * 1.01}
        with pytest.raises(ExportError, match=f"differ: {name}$"):
            lora.merge(Picture(), dataclasses.replace(adapter, probes=probes))
