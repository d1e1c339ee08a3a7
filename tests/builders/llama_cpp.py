# SPDX-License-Identifier: Apache-2.0
"""Small bases as GGUF files, written without the product, and llama.cpp itself (in the xllamacpp package) answering for them."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

gguf = pytest.importorskip("gguf")
xllamacpp = pytest.importorskip("xllamacpp")

PROMPT = [5, 9, 20, 33, 47, 12, 60]
NEAR = 5e-3  # llama.cpp keeps keys and values in float16


def write_base(folder: Path, file: Path, stored: str = "F32", cut: str = "smollm", more: dict[str, Any] | None = None) -> Path:
    """A folder of transformers as one GGUF file. The tensors of these types are as transformers has them, but for Llama's
    rotation, GPT-2's transposed layers, and the norms of Gemma, which are stored with 1 added.

    Args:
        stored: how matrices are stored: F32, F16, BF16, Q8_0, Q4_1 ...
        cut: ``tokenizer.ggml.pre``.
        more: keys that are written as well, with their values as gguf's writer takes them; tensors where the value is an array.
    """
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = config["model_type"]
    kind = kind.removesuffix("_text")
    arch = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}[kind]
    heads = config.get("num_attention_heads") or config["n_head"]
    groups, layers = config.get("num_key_value_heads") or heads, config.get("num_hidden_layers") or config["n_layer"]
    width = config.get("hidden_size") or config["n_embd"]
    each = config.get("head_dim") or width // heads
    writer = gguf.GGUFWriter(file, kind)
    writer.add_block_count(layers)
    writer.add_context_length(config.get("max_position_embeddings") or config["n_positions"])
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(config.get("intermediate_size") or 4 * width)
    writer.add_head_count(heads)
    if kind == "gpt2":
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    else:
        writer.add_head_count_kv(groups)
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        rotation = config.get("rope_parameters") or config
        writer.add_rope_freq_base(float(rotation.get("full_attention", rotation)["rope_theta"]))
        writer.add_rope_dimension_count(each)
        writer.add_key_length(each)
        writer.add_value_length(each)
    if kind in ("gemma2", "gemma3"):
        writer.add_sliding_window(config["sliding_window"])
    if kind == "gemma2":
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    _write_vocabulary(writer, folder, config, cut)
    if (folder / "chat_template.jinja").is_file():
        writer.add_chat_template((folder / "chat_template.jinja").read_text(encoding="utf-8"))
    for key, value in (more or {}).items():
        if hasattr(value, "dtype"):
            writer.add_tensor(key, value)
        else:
            write = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
            write[type(value)](key, value)
    table = gguf.get_tensor_name_map(arch, layers)
    for name, tensor in sorted(load_file(folder / "model.safetensors").items()):
        if kind == "gpt2" and name.endswith((".attn.bias", ".attn.masked_bias")):
            continue
        if kind == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            tensor = tensor.T.copy()
        if kind in ("llama", "smollm3") and name.endswith(("q_proj.weight", "k_proj.weight")):
            count = heads if "q_proj" in name else groups
            # Row by row: pairs that turn together stand side by side in llama.cpp, half a head apart in transformers.
            size = tensor.shape[0] // count
            order = [h * size + half * size // 2 + i for h in range(count) for i in range(size // 2) for half in (0, 1)]
            tensor = tensor[order]
        if kind.startswith("gemma") and name.endswith("norm.weight"):
            tensor = tensor + 1
        written = table.get_name(name, try_suffixes=(".weight", ".bias"))
        assert written, name
        kind_of = gguf.GGMLQuantizationType[stored if tensor.ndim > 1 and tensor.shape[-1] % 32 == 0 else "F32"]
        writer.add_tensor(written, gguf.quantize(tensor.astype("float32"), kind_of), raw_dtype=kind_of)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _write_vocabulary(writer: Any, folder: Path, config: dict[str, Any], cut: str) -> None:
    """Byte-level tokens as they stand in tokenizer.json, filled up to the width of the embedding."""
    known = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    named = {number: token for token, number in known["model"]["vocab"].items()}
    special = {entry["id"]: entry["content"] for entry in known["added_tokens"]}
    size = config["vocab_size"]
    tokens = [special.get(i) or named.get(i) or f"<unused{i}>" for i in range(size)]
    kinds = [
        gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL if i in named else gguf.TokenType.UNUSED for i in range(size)
    ]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in known["model"]["merges"]]
    merges = merges or ["\u0120 \u0120"]  # llama.cpp wants one; two spaces are no token here, and fall apart again
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cut)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(next((i for i, token in special.items() if token in ("</s>", "<|im_end|>")), 0))
    writer.add_add_bos_token(False)


class LlamaCpp:
    """llama.cpp with a base and, if given, an adapter on it."""

    def __init__(self, base: Path, adapter: Path | None = None, context: int = 256) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = str(base)
        params.n_ctx, params.n_parallel, params.warmup, params.n_gpu_layers, params.port = context, 1, False, 0, 0
        params.cpuparams.n_threads = 1
        params.fit_params, params.verbosity = False, -1
        if adapter is not None:
            params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
        self._server = xllamacpp.Server(params)

    def next_token(self, prompt: list[int], most: int) -> dict[int, float]:
        """The log-probabilities of the likeliest ``most`` tokens behind a prompt."""
        [first] = self._choice(prompt, 1, most)["logprobs"]["content"]
        return {one["id"]: one["logprob"] for one in first["top_logprobs"]}

    def answer(self, prompt: list[int], most: int) -> str:
        """What the likeliest tokens behind a prompt say, at most so many. (Their numbers are not told where a character has several.)"""
        return str(self._choice(prompt, most, 0)["text"])

    def tokens(self, text: str) -> list[int]:
        """What a text becomes, special tokens and the one before it included."""
        asked = json.dumps({"content": text, "add_special": True, "parse_special": True}).encode()
        address = f"{self._server.listening_address}/tokenize"
        with urllib.request.urlopen(urllib.request.Request(address, asked, {"Content-Type": "application/json"})) as told:
            return list(json.load(told)["tokens"])

    def _choice(self, prompt: list[int], count: int, most: int) -> dict[str, Any]:
        asked = {"prompt": prompt, "n_predict": count, "n_probs": most, "temperature": 0, "cache_prompt": False}
        told = self._server.handle_completions(asked)
        answer = json.loads(told) if isinstance(told, str | bytes) else told
        return dict(answer["choices"][0])


def random_adapter(folder: Path, model: Any, ranks: Any = None, names: Any = None, **settings: Any) -> tuple[Any, Any]:
    """An adapter of peft's own on every linear layer, with nothing zero in it; and the model with it on."""
    import torch
    from peft import LoraConfig, get_peft_model

    from loraforge.adapters import lora

    names = names or [n for n, m in model.named_modules() if type(m).__name__ in ("Linear", "Conv1D") and any(c.isdigit() for c in n)]
    wrapped = get_peft_model(
        model, LoraConfig(r=4, lora_alpha=8, target_modules=names, rank_pattern=ranks or {}, alpha_pattern={}, **settings)
    )
    torch.manual_seed(3)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_()
    wrapped.save_pretrained(folder, save_embedding_layers=False)
    return lora.read_peft(folder), wrapped


def expected(model: Any) -> Any:
    """The log-probabilities of the next token behind ``PROMPT``."""
    import torch

    with torch.no_grad():
        return model(torch.tensor([PROMPT])).logits[0, -1].log_softmax(-1)


def furthest(told: dict[int, float], wanted: Any) -> float:
    """The largest difference of what llama.cpp told from that."""
    assert len(told) == len(wanted)
    return max(abs(value - float(wanted[token])) for token, value in told.items())
