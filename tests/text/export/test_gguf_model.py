# SPDX-License-Identifier: Apache-2.0
"""Base and adapter in one GGUF file, in llama.cpp itself: next tokens as transformers and peft have them."""

from __future__ import annotations

import json

import pytest
import torch
from builders.gguf_bases import no_adapter, served_by, small_base
from builders.llama_cpp import NEAR, PROMPT, LlamaCpp, expected, furthest, gguf, random_adapter
from builders.small_bases import make_base
from loraforge_text.export.gguf_model import GgufModel

from loraforge import Adapter, ExportError


def written(folder, adapter, file, kind="f32") -> GgufModel:
    model = GgufModel.make(served_by(folder), adapter, kind)
    model.write(file)
    return model


def loaded(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


# What llama.cpp takes for granted of Gemma: by what attention is divided, and that every sixth layer sees everything.
GEMMA = {"query_pre_attn_scalar": 8}
GRANTED = {"gemma2": GEMMA, "gemma3_text": {**GEMMA, "layer_types": ["sliding_attention"] * 2}}


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma2", "gemma3_text", "phi3", "olmo3", "granite"])
def test_llama_cpp_says_what_peft_says(kind, tmp_path):
    folder = small_base(kind, tmp_path / "base", **GRANTED.get(kind, {}))
    model = loaded(folder)
    plain = expected(model)
    adapter, wrapped = random_adapter(tmp_path / "lora", model, {"layers.1.self_attn.o_proj": 2})
    whole = written(folder, adapter, tmp_path / "x.gguf")
    assert whole.verify(tmp_path / "x.gguf") == pytest.approx(1, abs=1e-3)
    learned = expected(wrapped)
    assert furthest(LlamaCpp(tmp_path / "x.gguf").next_token(PROMPT, 97), learned) < NEAR
    assert (learned - plain).abs().max() > 20 * NEAR


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"use_rslora": True}], ids=["dora", "rslora"])
def test_other_kinds_of_lora_are_in_it_too(settings, tmp_path):
    folder = make_base("qwen3", tmp_path / "base")
    adapter, wrapped = random_adapter(tmp_path / "lora", loaded(folder), **settings)
    written(folder, adapter, tmp_path / "x.gguf").verify(tmp_path / "x.gguf")
    assert furthest(LlamaCpp(tmp_path / "x.gguf").next_token(PROMPT, 97), expected(wrapped)) < NEAR


def test_llama_3s_stretched_rotation(tmp_path):
    """In float32 the longest wavelengths differ by the factor: a file without them says something else."""
    rope = {"rope_type": "llama3", "rope_theta": 10.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    folder = small_base("llama", tmp_path / "base", rope_parameters={**rope, "original_max_position_embeddings": 32})
    for name, parameter in (model := loaded(folder)).named_parameters():
        if "q_proj" in name or "k_proj" in name:
            parameter.data.mul_(40)  # so that positions matter
    model.save_pretrained(folder)
    written(folder, no_adapter(folder), tmp_path / "x.gguf")
    assert furthest(LlamaCpp(tmp_path / "x.gguf").next_token(PROMPT, 97), expected(model)) < NEAR
    factors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(tmp_path / "x.gguf").tensors}["rope_freqs.weight"]
    assert factors[0] == 1 and factors[-1] == 8 and any(1 < factor < 8 for factor in factors)


def test_types_are_those_of_the_converter(tmp_path):
    folder = make_base("qwen2", tmp_path / "base")
    written(folder, no_adapter(folder), tmp_path / "x.gguf", "q4_0")
    found = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / "x.gguf").tensors}
    wanted = {
        "token_embd.weight": "Q8_0",
        "blk.0.attn_q.weight": "Q4_0",
        "blk.0.attn_q.bias": "F32",
        "blk.0.attn_norm.weight": "F32",
        "blk.0.ffn_down.weight": "F16",  # its rows of 48 are no blocks of 32
        "output_norm.weight": "F32",
    }
    assert {name: found[name] for name in wanted} == wanted


def test_what_the_stops_are_is_in_the_file(tmp_path):
    folder = make_base("llama", tmp_path / "base")
    written(folder, no_adapter(folder), tmp_path / "x.gguf")
    fields = gguf.GGUFReader(tmp_path / "x.gguf").fields
    assert fields["tokenizer.ggml.eos_token_id"].contents() == 2
    assert fields["tokenizer.ggml.add_bos_token"].contents() is False
    assert fields["tokenizer.chat_template"].contents().endswith((folder / "chat_template.jinja").read_text(encoding="utf-8"))


# --- what is refused ----------------------------------------------------------------------------------------------------------


Q = "model.layers.0.self_attn.q_proj"


def on_queries(scale: float, **more) -> Adapter:
    torch.manual_seed(5)
    pair = {f"{Q}.lora_A.weight": torch.randn(2, 32), f"{Q}.lora_B.weight": scale * torch.randn(32, 2)}
    return Adapter(tensors=pair, rank=2, alpha=2, targets=("q_proj",), **{"probes": {}, "base_model": "x", **more})


def test_a_change_smaller_than_the_steps_of_the_weights_is_told(tmp_path):
    """A base that lies on the steps of Q8_0 already, as one does that was read from such a file: rounding gives the base again."""
    folder = make_base("llama", tmp_path / "base")
    model = loaded(folder)
    weight = model.get_submodule(Q).weight
    q8 = gguf.GGMLQuantizationType.Q8_0
    for _ in range(2):  # the scale is rounded too
        weight.data = torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(weight.detach().numpy(), q8), q8).copy())
    model.save_pretrained(folder)
    adapter = on_queries(1e-6)
    with pytest.raises(ExportError, match=r"would hold -?\d+% of what the adapter changes"):
        written(folder, adapter, tmp_path / "x.gguf", "q8_0").verify(tmp_path / "x.gguf")
    assert written(folder, adapter, tmp_path / "y.gguf", "f32").verify(tmp_path / "y.gguf") > 0.9


def test_a_file_with_other_weights_is_found(tmp_path):
    folder = make_base("llama", tmp_path / "base")
    adapter = on_queries(0.1)
    model = written(folder, adapter, tmp_path / "x.gguf")
    data = bytearray((tmp_path / "x.gguf").read_bytes())
    tensor = next(t for t in gguf.GGUFReader(tmp_path / "x.gguf").tensors if t.name == "blk.0.attn_q.weight")
    data[tensor.data_offset : tensor.data_offset + 2048] = data[tensor.data_offset + 2048 : tensor.data_offset + 4096]
    (tmp_path / "x.gguf").write_bytes(data)
    with pytest.raises(ExportError, match=rf"would not do what was trained.*{Q}"):
        model.verify(tmp_path / "x.gguf")


def test_an_adapter_that_is_not_what_was_trained_is_refused(tmp_path):
    folder = make_base("llama", tmp_path / "base")
    with pytest.raises(ExportError, match="would not do what was trained"):
        written(folder, on_queries(0.1, probes={Q: torch.ones(16)}), tmp_path / "x.gguf")


@pytest.mark.parametrize(
    "change,kind,words",
    [
        ({"lm_head.weight": torch.full((97, 32), 7e4)}, "f16", ["lm_head.weight", "bf16"]),
        ({"lm_head.weight": torch.full((97, 32), torch.nan)}, "q8_0", ["lm_head.weight"]),
        ({"model.layers.0.new.weight": torch.ones(3, 3)}, "f32", ["model.layers.0.new.weight", "merged"]),
    ],
    ids=["too large", "no number", "unknown"],
)
def test_weights_that_the_file_cannot_hold(change, kind, words, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = make_base("llama", tmp_path / "base")
    save_file({**load_file(folder / "model.safetensors"), **change}, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}), encoding="utf-8")
    with pytest.raises(ExportError) as error:
        written(folder, no_adapter(folder), tmp_path / "x.gguf", kind)
    assert all(word in str(error.value) for word in words)


def test_a_way_of_stretching_positions_that_llama_cpp_does_not_know(tmp_path):
    folder = make_base("qwen2", tmp_path / "base")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rope = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config["rope_parameters"] = {**rope, "original_max_position_embeddings": 32}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ExportError, match="stretches its positions by 'llama3'"):
        written(folder, no_adapter(folder), tmp_path / "x.gguf")
