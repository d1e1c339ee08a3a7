# SPDX-License-Identifier: Apache-2.0
"""A GGUF file's base is the model that the file was made of, and says what llama.cpp says of the file."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from builders import small_bases
from builders.llama_cpp import LlamaCpp, write_base
from loraforge_text.gguf_bases import conversion
from loraforge_text.gguf_bases.gguf_file import read_head

from loraforge import ModelError

PROMPT = [5, 9, 20, 33, 47, 12, 60]
NEAR = 5e-3  # llama.cpp keeps keys and values in float16


def make_base(kind, folder):
    """Two layers of a model type, with random weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "max_position_embeddings": 64}
    config = AutoConfig.for_model(kind, **sizes, num_attention_heads=4, num_key_value_heads=2, head_dim=8, eos_token_id=2)
    torch.manual_seed(0)
    return small_bases.make_base(kind, folder, AutoModelForCausalLM.from_config(config, dtype=torch.float32))


def next_token(folder) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        return (
            AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(torch.tensor([PROMPT])).logits[0, -1].log_softmax(-1)
        )


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"])
def test_it_says_what_llama_cpp_says(kind, tmp_path):
    folder = make_base(kind, tmp_path / "base")
    file = write_base(folder, tmp_path / "b.gguf")
    made = conversion.base_of(file)
    ours = next_token(made)
    told = LlamaCpp(file).next_token(PROMPT, 97)
    assert len(told) == 97 and max(abs(value - float(ours[token])) for token, value in told.items()) < NEAR
    assert float(ours.max() - ours.min()) > 50 * NEAR
    if kind not in ("gemma2", "gemma3_text"):  # whose scale of attention, and layers with a window, llama.cpp takes for granted
        assert torch.equal(ours, next_token(folder))
    written = json.loads((made / "config.json").read_text())
    assert written["architectures"] == json.loads((folder / "config.json").read_text())["architectures"]


def test_the_layers_of_gemma_3_and_its_scale(tmp_path):
    """As google/gemma-3-1b-it has them: every sixth layer sees all, and the 27B alone is scaled by its width."""
    from loraforge_text.gguf_bases.architectures import make_config

    file = read_head(write_base(make_base("gemma3_text", tmp_path / "base"), tmp_path / "b.gguf"))
    values = {**file.values, "gemma3.block_count": 26}
    made = make_config(type(file)(file.path, values, file.tensors, file.size, "gemma3"), "float16")
    assert [layer for layer, kind in enumerate(made["layer_types"]) if kind == "full_attention"] == [5, 11, 17, 23]
    assert made["query_pre_attn_scalar"] == made["head_dim"]
    made = make_config(type(file)(file.path, {**values, "gemma3.block_count": 62}, file.tensors, file.size, "gemma3"), "float16")
    assert made["query_pre_attn_scalar"] == made["hidden_size"] // made["num_attention_heads"]


@pytest.mark.parametrize(
    ("key", "value"), [("block_count", 1 << 20), ("rope.freq_base", 0.0), ("rope.scaling.factor", 0.0), ("attention.key_length", 1 << 20)]
)
def test_sizes_that_no_model_has_are_named(base, tmp_path, key, value):
    from loraforge_text.gguf_bases.architectures import make_config

    file = read_head(write_base(base, tmp_path / "b.gguf"))
    odd = type(file)(file.path, {**file.values, f"llama.{key}": value}, file.tensors, file.size, "llama")
    with pytest.raises(ModelError, match=rf"llama.{key} is {value!r}|{value} numbers of a head"):
        make_config(odd, "float16")


def with_frequencies(folder, tmp_path, **known):
    """A file with Llama 3's frequencies, by transformers' own function."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"] = {"rope_theta": 10000.0, "rope_type": "llama3", **known}
    (folder / "config.json").write_text(json.dumps(config))
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    stretched, _ = ROPE_INIT_FUNCTIONS["llama3"](LlamaConfig.from_pretrained(folder), torch.device("cpu"))
    divisors = 10000.0 ** (-torch.arange(0, head, 2) / head) / stretched
    return write_base(folder, tmp_path / "b.gguf", more={"rope_freqs.weight": divisors.numpy().astype(np.float32)})


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama_3s_stretched_positions_are_found_again(factor, tmp_path):
    known = {"factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    folder = make_base("llama", tmp_path / "base")
    made = conversion.base_of(with_frequencies(folder, tmp_path, **known))
    assert json.loads((made / "config.json").read_text())["rope_parameters"] == {"rope_theta": 10000.0, "rope_type": "llama3", **known}
    assert torch.equal(next_token(made), next_token(folder))


# --- what is refused ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return make_base("llama", tmp_path_factory.mktemp("llama") / "base")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"general.type": "adapter"}, "is a LoRA adapter for llama.cpp and no base"),
        ({"general.type": "mmproj"}, "holds the eyes of a model (mmproj)"),
        ({"split.count": 3}, "is one of 3 parts. Put them together with llama.cpp first: llama-gguf-split --merge"),
        ({"general.architecture": "bert"}, "of the kind 'bert', which cannot be trained from a GGUF file; those of the kinds llama, qwen2, qwen3, gemma,"),
        ({"llama.expert_count": 8}, "is a model with experts"),
        ({"llama.rope.dimension_count": 4}, "only 4 of the 8 numbers of a head are turned"),
        ({"llama.rope.scaling.type": "yarn"}, "its positions are stretched in the way 'yarn'"),
        ({"llama.block_count": 3}, "tensors that are missing: model.layers.2."),
        ({"llama.block_count": 1}, "tensors that have no place in it: blk.1."),
        ({"llama.embedding_length": 48}, "embedding_length is 48, and the embedding has 32"),
        ({"llama.attention.head_count": "four"}, "llama.attention.head_count is 'four'"),
        ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, "llama.attention.layer_norm_rms_epsilon is nan"),
        ({"blk.0.attn_sinks.weight": np.ones(4, np.float32)}, "tensors that have no place in it: blk.0.attn_sinks.weight"),
        ({"rope_freqs.weight": np.full(4, 3, np.float32)}, "its positions are stretched otherwise than those of any Llama that is known"),
    ],
)  # fmt: skip
def test_what_cannot_be_turned_exactly_is_refused_with_what_to_do(more, words, llama, tmp_path, cache, monkeypatch):
    path = write_base(llama, tmp_path / "b.gguf", more={key: value for key, value in more.items() if hasattr(value, "dtype")})
    file = read_head(path)
    values = {**file.values, **{key: value for key, value in more.items() if not hasattr(value, "dtype")}}
    altered = type(file)(path, values, file.tensors, file.size, str(values["general.architecture"]))
    monkeypatch.setattr(conversion, "read_head", lambda path: altered)
    monkeypatch.setattr(conversion, "_content_hash", lambda *given: "0" * 64)
    with pytest.raises(ModelError) as error:
        conversion.base_of(path)
    assert words in str(error.value) and str(path) in str(error.value)
    assert re.search(r"Take the model|Give the|Put them together", str(error.value))
    assert not any(folder.name.startswith(".b-") and folder.is_dir() for folder in cache.iterdir())


def test_eyes_beside_the_language_model_are_left_out(llama, tmp_path):
    """As Ollama keeps a model that sees: in one file."""
    plain = conversion.base_of(write_base(llama, tmp_path / "plain.gguf"))
    seeing = conversion.base_of(write_base(llama, tmp_path / "seeing.gguf", more={"v.blk.0.attn_q.weight": np.ones((4, 4), np.float32)}))
    assert (plain / "model.safetensors").read_bytes() == (seeing / "model.safetensors").read_bytes()
