# SPDX-License-Identifier: Apache-2.0
"""The GGUF adapter in llama.cpp itself: next tokens as transformers and peft have them."""

from __future__ import annotations

import json

import pytest
import torch
from builders.llama_cpp import NEAR, PROMPT, LlamaCpp, expected, furthest, gguf, random_adapter, write_base
from builders.small_bases import make_base
from loraforge_text.export import llama_cpp

from loraforge import Adapter, ExportError, KeySet, RunConfig


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gpt2", "olmo2", "smollm3", "phi3"])
def test_llama_cpp_says_what_peft_says(kind, tmp_path):
    from transformers import AutoModelForCausalLM

    folder = make_base(kind, tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    plain = expected(model)
    # Layers of another rank and, as peft has it without a pattern of alphas, another scale.
    adapter, wrapped = random_adapter(tmp_path / "lora", model, {"layers.1.self_attn.q_proj": 2, "layers.0.mlp.down_proj": 6})
    llama_cpp.write_lora(adapter, json.loads((folder / "config.json").read_text()), tmp_path / "lora.gguf")
    base = write_base(folder, tmp_path / "base.gguf")
    assert furthest(LlamaCpp(base).next_token(PROMPT, 97), plain) < NEAR
    learned = expected(wrapped)
    assert furthest(LlamaCpp(base, tmp_path / "lora.gguf").next_token(PROMPT, 97), learned) < NEAR
    assert (learned - plain).abs().max() > 20 * NEAR


@pytest.mark.parametrize("stop,ends,noted", [("<|im_end|>", 7, False), ("<done>", 7, True), ("<done>", 5, False)])
def test_a_stop_that_llama_cpp_does_not_know_is_told(stop, ends, noted):
    from types import SimpleNamespace

    of = SimpleNamespace(stop=stop, base=SimpleNamespace(config={"eos_token_id": [ends, 9]}, added={"<done>": 5, "<|im_end|>": 3}))
    assert bool(llama_cpp._stop_note(of)) == noted


# --- what cannot be held -----------------------------------------------------------------------------------------------------


def adapter_of(*modules: str, **more) -> Adapter:
    pairs = {f"{m}.lora_{part}.weight": torch.ones(2, 8) if part == "A" else torch.ones(8, 2) for m in modules for part in "AB"}
    return Adapter(tensors=pairs, rank=2, alpha=2, targets=modules, probes={}, base_model="x", **more)


CONFIG = {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
Q = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    "adapter,config,words",
    [
        (adapter_of(Q), {**CONFIG, "model_type": "bloom"}, ["type bloom", "merged"]),
        (adapter_of(Q, "lm_head"), {**CONFIG, "tie_word_embeddings": True}, ["lm_head", "lora_target"]),
        (adapter_of(Q, "model.layers.0.mlp.new_proj"), CONFIG, ["1 of the adapted layers", "new_proj"]),
        (adapter_of(Q, "model.layers.0.mlp.experts.down_proj"), {**CONFIG, "model_type": "mixtral"}, ["experts.down_proj"]),
    ],
    ids=["type", "tied head", "layer", "experts"],
)
def test_what_the_format_cannot_hold_is_refused(adapter, config, words, tmp_path):
    with pytest.raises(ExportError) as error:
        llama_cpp.write_lora(adapter, config, tmp_path / "x.gguf")
    assert all(word in str(error.value) for word in words) and not (tmp_path / "x.gguf").exists()


def test_dora_is_refused_whoever_writes_the_file(tmp_path):
    there = adapter_of(Q, dora=True)
    there.tensors[f"{Q}.lora_magnitude_vector"] = torch.ones(16)
    with pytest.raises(ExportError, match="llama.cpp reads no DoRA"):
        llama_cpp.write_lora(there, CONFIG, tmp_path / "x.gguf")


def test_a_head_that_is_not_tied_has_its_tensor(tmp_path):
    llama_cpp.write_lora(adapter_of("lm_head"), {**CONFIG, "tie_word_embeddings": False}, tmp_path / "x.gguf")
    assert {tensor.name for tensor in gguf.GGUFReader(tmp_path / "x.gguf").tensors} == {"output.weight.lora_a", "output.weight.lora_b"}


def test_a_file_that_would_do_something_else_is_refused(tmp_path):
    wrong = adapter_of(Q)
    wrong.probes[Q] = torch.ones(16)
    with pytest.raises(ExportError, match="would not do what was trained"):
        llama_cpp.write_lora(wrong, CONFIG, tmp_path / "x.gguf")


@pytest.mark.parametrize("values,words", [({"lora_variant": "dora"}, "DoRA"), ({"base_model": "bloom"}, "type bloom"), ({}, "")])
def test_it_is_said_before_training(values, words, base, tmp_path):
    folder = tmp_path / "bloom"
    folder.mkdir()
    for file in base.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "model_type": "bloom"}))
    named = {**values, "base_model": str(folder if values.get("base_model") else base)}
    config = RunConfig(train_data_dir=".", **named)
    told = llama_cpp.GgufExporter().refuses(config, KeySet({RunConfig: config}))
    assert words in told and bool(told) == bool(words)


def test_every_type_is_one_of_transformers_and_every_name_one_of_gguf():
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    assert set(llama_cpp.ARCHITECTURES) - set(CONFIG_MAPPING_NAMES) == set()
    assert set(llama_cpp.ARCHITECTURES.values()) <= set(gguf.MODEL_ARCH_NAMES.values())
    assert set(llama_cpp.ARCHITECTURES.values()) >= llama_cpp.INTERLEAVED


def test_without_the_library_its_extra_is_named(monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ExportError, match=r"pip install 'loraforge\[gguf\]'"):
        llama_cpp.write_lora(adapter_of(Q), CONFIG, tmp_path / "x.gguf")
