# SPDX-License-Identifier: Apache-2.0
"""What training a language model needs, from config.json alone: parameters, bytes, operations. Without torch.

Known are the decoders that most bases are; of others nothing is said rather than something wrong. Where the weights are on this computer,
their headers must agree with the count, or nothing is said either.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraforge import (
    MemoryEstimate,
    RunConfig,
    adapter_size,
    apply_block_ranks,
    dropout_noise,
    licence_of,
    match_layers,
    open_file,
    read_text,
    speaker,
    weight_copies,
)

from .stored_weights import four_bits, sizes, stored_as

say = speaker(__name__)

_TIED = ("gemma", "gemma2", "gemma3_text", "gpt2")  # whose head is the embedding unless the config says otherwise
_WIDE_HEADS = {"qwen3": 128, "qwen3_moe": 128, "gemma": 256, "gemma2": 256, "gemma3_text": 256}
_NORMS = {"gemma2": 4, "gemma3_text": 4}  # norms of a layer, where there are not two
_QK_NORMS = ("qwen3", "qwen3_moe", "gemma3_text")
_SPARSE = ("mixtral", "qwen3_moe")
_EXPERTS = {  # what the weights call an expert's matrices: two that widen, one that narrows
    "mixtral": ("block_sparse_moe", "w1", "w3", "w2"),
    "qwen3_moe": ("mlp", "gate_proj", "up_proj", "down_proj"),
}
KNOWN = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "gpt2", *_SPARSE)
_NF4 = 4.5 / 8  # bytes of a weight in 4bit, its scales included
_CHUNK, _CHUNK_GPU = 4e6, 64e6  # bytes of float32 logits that the head makes at a time
_READS = {  # which input a layer reads, where several read the same
    **dict.fromkeys(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "attention"),
    **dict.fromkeys(("mlp.gate_proj", "mlp.up_proj"), "feed-forward"),
}
_RECOMPUTED = ("attention", "feed-forward", "mlp.down_proj")  # inputs that are made once more from what a norm or a gate keeps


@dataclass(frozen=True)
class Decoder:
    """The shape of a decoder: widths in numbers, heads in pieces.

    Attributes:
        linears: of one layer, by name: (inputs, outputs, whether it has a bias).
        fused: parameters of one layer's experts and router, which are no linear layers and carry no LoRA.
        active: multiplications of one token in them.
        drops: whether attention has a dropout of its own, with which the CPU makes its scores whole.
        experts: how many feed-forward blocks of which width a token is sent to some of.
    """

    kind: str
    hidden: int
    layers: int
    inner: int
    heads: int
    kv: int
    head: int
    vocab: int
    positions: int
    tied: bool
    linears: Mapping[str, tuple[int, int, bool]]
    fused: int = 0
    active: int = 0
    drops: bool = False
    experts: tuple[int, int] = (0, 0)

    @property
    def embedding(self) -> int:
        """Parameters of the embeddings, and of the head if it is a matrix of its own."""
        return self.vocab * self.hidden * (1 if self.tied else 2) + self.positions * self.hidden

    @property
    def norms(self) -> int:
        """Parameters of all norms."""
        if self.kind == "gpt2":
            return (4 * self.layers + 2) * self.hidden
        return self.layers * (_NORMS.get(self.kind, 2) * self.hidden + (2 * self.head if self.kind in _QK_NORMS else 0)) + self.hidden

    @property
    def linear(self) -> int:
        """Parameters of all linear layers, without biases."""
        return self.layers * sum(i * o for i, o, _ in self.linears.values())

    @property
    def total(self) -> int:
        """All parameters."""
        biases = self.layers * sum(o for _, o, bias in self.linears.values() if bias)
        return self.embedding + self.norms + self.linear + biases + self.layers * self.fused

    def names(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of every linear layer by full name."""
        start = "transformer.h" if self.kind == "gpt2" else "model.layers"
        return {f"{start}.{layer}.{name}": (i, o) for layer in range(self.layers) for name, (i, o, _) in self.linears.items()}

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor that transformers looks for in the weights, by name."""
        wide: tuple[int, ...] = (self.hidden,)
        gpt2 = self.kind == "gpt2"
        norms: tuple[str, ...] = ("ln_1", "ln_2") if gpt2 else ("input_layernorm", "post_attention_layernorm")
        norms += ("pre_feedforward_layernorm", "post_feedforward_layernorm") if _NORMS.get(self.kind, 2) == 4 else ()
        inner = {name: wide for norm in norms for name in ((f"{norm}.weight", f"{norm}.bias") if gpt2 else (f"{norm}.weight",))}
        if self.kind in _QK_NORMS:
            inner |= {"self_attn.q_norm.weight": (self.head,), "self_attn.k_norm.weight": (self.head,)}
        for name, (i, o, bias) in self.linears.items():
            inner[f"{name}.weight"] = (i, o) if gpt2 else (o, i)
            inner |= {f"{name}.bias": (o,)} if bias else {}
        if self.experts[0]:
            block, first, second, third = _EXPERTS[self.kind]
            inner[f"{block}.gate.weight"] = (self.experts[0], self.hidden)
            for expert in range(self.experts[0]):
                inner |= {f"{block}.experts.{expert}.{name}.weight": (self.experts[1], self.hidden) for name in (first, second)}
                inner[f"{block}.experts.{expert}.{third}.weight"] = (self.hidden, self.experts[1])
        if gpt2:
            found = {"wte.weight": (self.vocab, self.hidden), "wpe.weight": (self.positions, self.hidden)}
            whole = {f"transformer.{name}": size for name, size in {**found, "ln_f.weight": wide, "ln_f.bias": wide}.items()}
        else:
            whole = {"model.embed_tokens.weight": (self.vocab, self.hidden), "model.norm.weight": wide}
        whole |= {} if self.tied else {"lm_head.weight": (self.vocab, self.hidden)}
        start = "transformer.h" if gpt2 else "model.layers"
        return whole | {f"{start}.{layer}.{name}": size for layer in range(self.layers) for name, size in inner.items()}


def read(config: Mapping[str, Any]) -> Decoder | None:
    """The shape that a config.json describes; None for what is not known."""
    kind = str(config.get("model_type"))
    if kind not in KNOWN or config.get("quantization_config"):
        return None
    try:
        return _gpt2(config) if kind == "gpt2" else _decoder(kind, config)
    except (KeyError, TypeError, ValueError):
        return None


def _gpt2(config: Mapping[str, Any]) -> Decoder:
    hidden = int(config["n_embd"])
    inner = int(config.get("n_inner") or 4 * hidden)
    linears = {
        "attn.c_attn": (hidden, 3 * hidden, True),
        "attn.c_proj": (hidden, hidden, True),
        "mlp.c_fc": (hidden, inner, True),
        "mlp.c_proj": (inner, hidden, True),
    }
    heads, positions = int(config["n_head"]), int(config.get("n_positions", 1024))
    tied, vocab, drops = bool(config.get("tie_word_embeddings", True)), int(config["vocab_size"]), bool(config.get("attn_pdrop", 0.1))
    layers, head = int(config["n_layer"]), hidden // heads
    return Decoder("gpt2", hidden, layers, inner, heads, heads, head, vocab, positions, tied, linears, drops=drops)


def _decoder(kind: str, config: Mapping[str, Any]) -> Decoder | None:
    hidden, inner, heads = int(config["hidden_size"]), int(config["intermediate_size"]), int(config["num_attention_heads"])
    kv = int(config.get("num_key_value_heads") or heads)
    head = int(config.get("head_dim") or _WIDE_HEADS.get(kind, hidden // heads))
    wide, narrow = heads * head, kv * head
    bias = bool(config.get("attention_bias", False)) and kind not in ("mistral", "mixtral", "qwen2")
    mine = kind == "qwen2" or bias
    linears = {
        "self_attn.q_proj": (hidden, wide, mine),
        "self_attn.k_proj": (hidden, narrow, mine),
        "self_attn.v_proj": (hidden, narrow, mine),
        "self_attn.o_proj": (wide, hidden, bias),
    }
    if kind == "phi3":
        linears = {"self_attn.o_proj": (wide, hidden, False), "self_attn.qkv_proj": (hidden, wide + 2 * narrow, False)}
        linears |= {"mlp.gate_up_proj": (hidden, 2 * inner, False), "mlp.down_proj": (inner, hidden, False)}
    elif kind not in _SPARSE:
        thick = kind == "llama" and bool(config.get("mlp_bias", False))
        linears |= {"mlp.gate_proj": (hidden, inner, thick), "mlp.up_proj": (hidden, inner, thick), "mlp.down_proj": (inner, hidden, thick)}
    fused = active = experts = narrower = 0
    if kind in _SPARSE:
        if config.get("mlp_only_layers") or int(config.get("decoder_sparse_step", 1)) != 1:
            return None
        experts = int(config.get("num_local_experts") or config["num_experts"])
        inner = narrower = int(config.get("moe_intermediate_size") or inner)
        fused = experts * (3 * hidden * inner + hidden)
        active = int(config["num_experts_per_tok"]) * 3 * hidden * inner + experts * hidden
        inner *= int(config["num_experts_per_tok"])
    tied = bool(config.get("tie_word_embeddings", kind in _TIED))
    layers, vocab = int(config["num_hidden_layers"]), int(config["vocab_size"])
    drops = bool(config.get("attention_dropout"))
    sizes = (hidden, layers, inner, heads, kv, head, vocab, 0)
    return Decoder(kind, *sizes, tied, linears, fused, active, drops, (experts, narrower))


def chosen(shape: Decoder, target: str | Sequence[str]) -> dict[str, tuple[int, int]]:
    """The linear layers that ``lora_target`` means; (inputs, outputs) by full name.

    Raises:
        ConfigError: if there is none.
    """
    names = shape.names()
    return {name: names[name] for name in match_layers(target, list(names))}


def adapted(shape: Decoder, config: RunConfig) -> dict[str, tuple[int, int, int]]:
    """The layers that get an adapter; (rank, inputs, outputs) by full name.

    Raises:
        ConfigError: if ``lora_target`` means none, or an entry of ``block_ranks``.
    """
    found = chosen(shape, config.lora_target)
    ranks = apply_block_ranks(dict.fromkeys(found, config.lora_rank), config.block_ranks)
    return {name: (rank, *found[name]) for name, rank in ranks.items()}


def trainable(shape: Decoder, config: RunConfig) -> int:
    """Parameters of the adapter."""
    return sum(adapter_size(config, *sizes) for sizes in adapted(shape, config).values())


def agrees(folder: Path, shape: Decoder) -> bool:
    """Whether the headers of the weights in ``folder`` hold as many parameters as were counted; so too where weights are missing."""
    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    try:
        listed = set(json.loads(read_text(index))["weight_map"].values()) if index.is_file() else set()
        if not files or listed - {file.name for file in files}:
            return True
        found = sum(_numbers(file, shape.tied) for file in files if not listed or file.name in listed)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error, MemoryError):
        return False
    return abs(found - shape.total) <= 0.02 * shape.total


def _stored(folder: Path, shape: Decoder, raw: Mapping[str, Any]) -> int | None:
    """Bytes of weights in fewer bits as they lie in ``folder``; None where they are not those of this decoder."""
    found = sizes(folder)
    if found is None:  # not fetched yet
        return weights(shape, "4bit") if four_bits(raw) else 0
    return sum(found.values()) if found.keys() >= shape.tensors().keys() else None


def _numbers(file: Path, tied: bool) -> int:
    """How many numbers a safetensors file holds, by its header; without a head that is the embedding, and GPT-2's constant masks."""
    with open_file(file) as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        entries = json.loads(opened.read(min(length, 100_000_000)))
    entries.pop("__metadata__", None)
    left_out = (".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq", *(("lm_head.weight",) if tied else ()))
    return sum(math.prod(entry["shape"]) for name, entry in entries.items() if not name.endswith(left_out))


# --- bytes --------------------------------------------------------------------------------------------------------------------


def weights(shape: Decoder, precision: str) -> int:
    """Bytes of the frozen base."""
    if precision != "4bit":
        return shape.total * (4 if precision == "fp32" else 2)
    return round(shape.linear * _NF4) + 2 * (shape.total - shape.linear)


def kept(shape: Decoder, config: RunConfig, device: str, length: int) -> float:
    """Bytes that one token of one layer leaves for the backward pass, in a row of ``length`` tokens. The attention's scores are whole in
    memory only where they have a dropout and there is no GPU."""
    low = 4 if config.precision == "fp32" else 2
    wide, narrow = shape.heads * shape.head, shape.kv * shape.head
    here = {name.split(".", 3)[3]: inputs for name, (_, inputs, _) in adapted(shape, config).items()}
    # A plain LoRA on a plain layer keeps what it reads, once for all layers that read the same, and a mask; others keep what dropout made.
    fast = shape.kind != "gpt2" and config.precision != "4bit" and config.lora_variant != "dora" and config.adapter_kind == "lora"
    noise = dropout_noise(config, device, fast=fast)
    read = {_READS.get(name, name) if fast or not noise else name: width for name, width in here.items()}
    if fast and config.precision == "fp32" and not shape.kind.startswith("gemma"):
        read = {name: width for name, width in read.items() if name not in _RECOMPUTED}
    per_token: float = sum(read.values()) * low + sum(here.values()) * noise + len(here) * config.lora_rank * low
    if config.lora_variant == "dora":
        per_token += 2 * low * sum(shape.linears[name][1] for name in here)
    norms = _NORMS.get(shape.kind, 2) * shape.hidden + (wide + narrow if shape.kind in _QK_NORMS else 0)
    per_token += norms * (4 if shape.kind.startswith("gemma") else low)
    # Query, key, value; and the result, where it is not the same that the next layer reads.
    shared = fast and device == "cpu" and config.precision == "fp32"
    per_token += ((1 if shared else 2) * wide + 2 * narrow) * low
    per_token += {"gpt2": 5, "phi3": 3}.get(shape.kind, 3 if shape.kind.startswith("gemma") else 2) * shape.inner * low
    if shape.drops and device == "cpu":
        per_token += 3 * shape.heads * length * low
    if shape.fused:
        per_token += (2 * shape.inner + 3 * shape.hidden) * low  # rows are sorted by expert and weighed
    return per_token


def estimate_memory(
    folder: Path, raw: Mapping[str, Any], config: RunConfig, longest: int, facts: Mapping[str, Any], device: str
) -> MemoryEstimate | None:
    """What a run needs.

    Args:
        folder: where the base's files are; weights need not be among them.
        raw: its config.json.
        longest: ``max_seq_length``, for rows that could not be counted.
        facts: see ``ModelFamily.estimate_memory``.
    """
    form = stored_as(raw)
    shape = read({name: value for name, value in raw.items() if name != "quantization_config"})
    stored = _stored(folder, shape, raw) if shape is not None and form else 0
    if shape is None or stored is None or not (form or agrees(folder, shape)):
        return None
    places = adapted(shape, config)
    rows = max(1, int(facts.get("rows", 1)))
    counted = isinstance(facts.get("longest_row"), int) and facts["longest_row"] > 0
    length = int(facts["longest_row"]) if counted else longest
    mean = facts["tokens"] / rows if counted else longest
    learned = facts["learned_tokens"] / rows if counted else longest / 2
    tokens = min(config.batch_size, rows) * length
    tokens = max(length, min(tokens, int(facts["tokens"]))) if counted else tokens
    first = min(int(name.split(".")[2]) for name in places)  # nothing is kept below the first adapted layer
    layer = kept(shape, config, device, length) * tokens
    low = 4 if config.precision == "fp32" else 2
    through = shape.layers - first
    checkpoints = config.gradient_checkpointing
    activations = through * shape.hidden * tokens * low + layer if checkpoints else through * layer
    made = weight_copies(config) * sum(inputs * outputs for _, inputs, outputs in places.values())  # numbers of weights put together
    activations += made * low / (shape.layers if checkpoints else 1)
    working = (4 * shape.inner + 8 * shape.hidden) * tokens * low  # measured: gradients, and what the allocator keeps of a layer
    working += (4 + low) * max(inputs * outputs for _, inputs, outputs in places.values()) if made else 0  # a weight and its gradient
    piece = min(_CHUNK_GPU if device == "cuda" else _CHUNK, 4.0 * tokens * shape.vocab)
    head = piece * (1 if low == 4 else 1.5) + 3 * shape.hidden * tokens * low  # of learned tokens only, in pieces
    per_token = 2 * (shape.linear + shape.layers * shape.active) + 2 * mean * shape.layers * shape.heads * shape.head
    forward = mean * per_token + learned * 2 * shape.vocab * shape.hidden
    held = stored if form and config.precision == "4bit" else weights(shape, config.precision)
    kind = str(raw.get("dtype") or raw.get("torch_dtype") or "float32")
    merged = shape.total * (2 if "16" in kind else 4)
    phases = {"export": 4 * shape.total + merged}
    if stored and config.precision != "4bit":
        phases[say("loading")] = stored + held  # given back as numbers while the others still lie beside them
    return MemoryEstimate(
        parameters={"embeddings": shape.embedding, "layers": shape.total - shape.embedding},
        trainable=trainable(shape, config),
        weights=held,
        activations=round(activations),
        transient=round(working + head),
        flops=forward * (3 if checkpoints else 2) + 2 * mean * made * (4 if checkpoints else 3),
        phases=phases,
        files={"merged": merged},
        licence=licence_of(folder),
        precisions=("fp32", "bf16", "4bit") if device == "cuda" and (not form or four_bits(raw)) else ("fp32", "bf16"),
    )
