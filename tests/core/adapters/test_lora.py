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
