# SPDX-License-Identifier: Apache-2.0
"""What a GGUF file's keys and tensors are called in transformers, and what llama.cpp's converter did to them. Without torch.

Only architectures whose next tokens were compared with llama.cpp's on the same file are here; of the others nothing is guessed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loraforge import ModelError, first_few, speaker

from .gguf_file import GgufFile, StoredTensor

say = speaker(__name__)

_OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYERS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GEMMA_LAYERS = {
    **_LAYERS,
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
# The rotation's frequencies of Llama 3.1 and later, which llama.cpp's converter computes from four numbers of config.json.
_FREQUENCIES = "rope_freqs.weight"
_LLAMA3 = tuple(
    {"factor": f, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192} for f in (8.0, 32.0)
)
_SEEING = ("v.", "mm.", "a.")  # eyes and ears, which Ollama keeps in one file with the language model


@dataclass(frozen=True)
class _Kind:
    """How transformers has one of llama.cpp's architectures.

    Attributes:
        more: of config.json, where all models of the kind have it.
        interleaved: rows of queries and keys stand in pairs that turn together.
        one_more: norms are stored with 1 added.
    """

    model_type: str
    architecture: str
    layers: Mapping[str, str]
    more: Mapping[str, Any]
    interleaved: bool = False
    one_more: bool = False


_SILU: Mapping[str, Any] = {"hidden_act": "silu"}
_GELU: Mapping[str, Any] = {"hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh"}
KINDS: Mapping[str, _Kind] = {
    "llama": _Kind("llama", "LlamaForCausalLM", _LAYERS, _SILU, interleaved=True),
    "qwen2": _Kind("qwen2", "Qwen2ForCausalLM", _LAYERS, _SILU),
    "qwen3": _Kind("qwen3", "Qwen3ForCausalLM", _LAYERS, _SILU),
    "gemma": _Kind("gemma", "GemmaForCausalLM", {**_LAYERS}, _GELU, one_more=True),
    "gemma2": _Kind("gemma2", "Gemma2ForCausalLM", _GEMMA_LAYERS, _GELU, one_more=True),
    "gemma3": _Kind("gemma3_text", "Gemma3ForCausalLM", _GEMMA_LAYERS, _GELU, one_more=True),
}


@dataclass(frozen=True)
class Wanted:
    """One tensor of the base to be written.

    Attributes:
        heads: into how many heads its rows are to be put in transformers' order; 0: they stay.
        less: what is subtracted from every number.
    """

    name: str
    stored: StoredTensor
    heads: int = 0
    less: float = 0.0


def refuse_unreadable(file: GgufFile) -> None:
    """
    Raises:
        ModelError: if the file is no language model that can be read here.
    """
    path, kind = file.path, file.architecture
    if file.named("general.type") == "adapter":
        raise ModelError(
            say(
                "{path} is a LoRA adapter for llama.cpp and no base. Give the base's GGUF file; to train an adapter further, "
                "init_from_adapter takes a folder in PEFT's form.",
                path=path,
            )
        )
    if file.named("general.type") == "mmproj" or kind == "clip":
        raise ModelError(
            say("{path} holds the eyes of a model (mmproj) and no language model. Give the other GGUF file that came with it.", path=path)
        )
    parts = file.values.get("split.count")
    if isinstance(parts, int) and parts > 1:
        raise ModelError(
            say(
                "{path} is one of {n} parts. Put them together with llama.cpp first: llama-gguf-split --merge FIRST-PART whole.gguf",
                path=path,
                n=parts,
            )
        )
    if kind not in KINDS:
        raise ModelError(
            say(
                "{path} is a model of the kind '{kind}', which cannot be trained from a GGUF file; those of the kinds {known} can. Take "
                "the model that it was made from: org/name, or a folder with config.json and safetensors.",
                path=path,
                kind=kind or "?",
                known=", ".join(KINDS),
            )
        )
    if int(_whole(file, "expert_count", 0)):
        raise ModelError(
            say(
                "{path} is a model with experts ('{kind}'), which cannot be trained from a GGUF file. Take the model that it was made "
                "from.",
                path=path,
                kind=kind,
            )
        )
    if "token_embd.weight" not in file.tensors:
        raise ModelError(say("{path} holds no weights of a language model (token_embd.weight is missing).", path=path))


def make_config(file: GgufFile, dtype: str) -> dict[str, Any]:
    """The base's config.json.

    Args:
        dtype: of the weights that will stand beside it.

    Raises:
        ModelError: if the file does not say what is needed, or says what cannot be said in config.json.
    """
    kind = KINDS[file.architecture]
    hidden, heads = _whole(file, "embedding_length"), _whole(file, "attention.head_count")
    head = _whole(file, "attention.key_length", hidden // heads)
    turned = _whole(file, "rope.dimension_count", head)
    if turned != head or _whole(file, "attention.value_length", head) != head:
        raise _cannot(file, say("only {n} of the {all} numbers of a head are turned", n=turned, all=head))
    vocabulary, width = file.tensors["token_embd.weight"].shape
    if width != hidden:
        raise _cannot(file, say("embedding_length is {said}, and the embedding has {found}", said=hidden, found=width))
    ids = {name: file.values.get(f"tokenizer.ggml.{key}_token_id") for name, key in _IDS.items()}
    config = {
        "architectures": [kind.architecture],
        "model_type": kind.model_type,
        "dtype": dtype,
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": _whole(file, "feed_forward_length"),
        "num_hidden_layers": _layers(file),
        "num_attention_heads": heads,
        "num_key_value_heads": _whole(file, "attention.head_count_kv", heads),
        "head_dim": head,
        "max_position_embeddings": _whole(file, "context_length"),
        "rms_norm_eps": float(_decimal(file, "attention.layer_norm_rms_epsilon")),
        "attention_bias": "blk.0.attn_output.bias" in file.tensors or ("blk.0.attn_q.bias" in file.tensors and kind.model_type != "qwen2"),
        "attention_dropout": 0.0,
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "use_cache": True,
        **{name: value for name, value in ids.items() if isinstance(value, int)},
        **kind.more,
        "rope_parameters": _rotation(file, head),
    }
    if kind.model_type in ("gemma2", "gemma3_text"):
        config |= _gemma(file, config)
    return config


_MOST_LAYERS = 1000  # no model has a third of them
_IDS = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}


def _gemma(file: GgufFile, config: Mapping[str, Any]) -> dict[str, Any]:
    """What Gemma 2 and 3 have beside: windows, soft limits, and the scale of attention, which llama.cpp knows by the size."""
    hidden, heads, layers, head = (config[n] for n in ("hidden_size", "num_attention_heads", "num_hidden_layers", "head_dim"))
    second = config["model_type"] == "gemma2"
    largest = layers == (46 if second else 62)  # the 27B, in llama-model.cpp too
    every = 2 if second else 6
    kinds = ["full_attention" if (layer + 1) % every == 0 else "sliding_attention" for layer in range(layers)]
    found: dict[str, Any] = {
        "query_pre_attn_scalar": hidden // heads if largest else head,
        "sliding_window": _whole(file, "attention.sliding_window", 4096 if second else 1024),
        "layer_types": kinds,
    }
    if second:
        return found | {
            "attn_logit_softcapping": float(_decimal(file, "attn_logit_softcapping", 50.0)),
            "final_logit_softcapping": float(_decimal(file, "final_logit_softcapping", 30.0)),
        }
    near = float(_decimal(file, "rope.freq_base_swa", 10000.0))
    rotations = {"full_attention": config["rope_parameters"], "sliding_attention": {"rope_type": "default", "rope_theta": near}}
    return found | {"attn_logit_softcapping": None, "final_logit_softcapping": None, "rope_parameters": rotations}


def _rotation(file: GgufFile, head: int) -> dict[str, Any]:
    default = 1_000_000.0 if file.architecture == "gemma3" else 10000.0
    base = float(_decimal(file, "rope.freq_base", default))
    scaling, factor = file.about("rope.scaling.type", "none"), float(_decimal(file, "rope.scaling.factor", 1.0))
    for key, value in (("rope.freq_base", base), ("rope.scaling.factor", factor)):
        if value == 0:
            raise _cannot(file, say("{key} is {value!r}", key=f"{file.architecture}.{key}", value=value))
    if scaling not in ("none", "linear"):
        raise _cannot(file, say("its positions are stretched in the way '{kind}'", kind=scaling))
    frequencies = file.tensors.get(_FREQUENCIES)
    if frequencies is not None:
        return {"rope_theta": base, "rope_type": "llama3", **_llama3(file, frequencies, base, head)}
    if scaling == "linear" and factor != 1.0:
        return {"rope_theta": base, "rope_type": "linear", "factor": factor}
    return {"rope_theta": base, "rope_type": "default"}


def _llama3(file: GgufFile, stored: StoredTensor, base: float, head: int) -> dict[str, Any]:
    """Which numbers of config.json give the divisors that the file has."""
    import numpy as np

    if stored.type == 0 and stored.shape == (head // 2,):
        there = np.fromfile(file.path, "<f4", head // 2, offset=stored.start)
        for known in _LLAMA3:
            made = np.array([_divisor(base ** (-2 * i / head), known) for i in range(head // 2)])
            if there.shape == made.shape and np.allclose(there, made, rtol=1e-4):
                return dict(known)
    raise _cannot(file, say("its positions are stretched otherwise than those of any Llama that is known ({name})", name=_FREQUENCIES))


def _divisor(frequency: float, known: Mapping[str, float]) -> float:
    """By how much a frequency is divided (transformers, ``_compute_llama3_parameters``)."""
    positions, low, high = known["original_max_position_embeddings"], known["low_freq_factor"], known["high_freq_factor"]
    wave = 2 * math.pi / frequency
    if wave < positions / high:
        return 1.0
    if wave > positions / low:
        return known["factor"]
    smooth = (positions / wave - low) / (high - low)
    return 1 / ((1 - smooth) / known["factor"] + smooth)


def choose_tensors(file: GgufFile, config: Mapping[str, Any]) -> list[Wanted]:
    """Every tensor of the base, with where it is in the file.

    Raises:
        ModelError: if the file has tensors that have no place in the base, or lacks some.
    """
    kind = KINDS[file.architecture]
    found, strange = [], []
    for name, stored in file.tensors.items():
        if name == _FREQUENCIES or name.startswith(_SEEING):
            continue
        target = _target(kind, name, config["num_hidden_layers"])
        if target is None:
            strange.append(name)
            continue
        part = target.rpartition(".")[0].rpartition(".")[2]
        heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}.get(part, 0)
        less = 1.0 if kind.one_more and part.endswith("norm") else 0.0
        found.append(Wanted(target, stored, heads if kind.interleaved else 0, less))
    inside = {name.split(".", 3)[-1] for name in (one.name for one in found) if name.startswith("model.layers.")}
    expected = {f"model.layers.{layer}.{name}" for layer in range(config["num_hidden_layers"]) for name in inside}
    missing = sorted((expected | {"model.norm.weight"}) - {one.name for one in found})
    if strange or missing or not inside:
        raise _cannot(
            file,
            say("tensors that have no place in it: {names}", names=first_few(sorted(strange)))
            if strange
            else say("tensors that are missing: {names}", names=first_few(missing)),
        )
    return found


def _target(kind: _Kind, name: str, layers: int) -> str | None:
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    inner = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    if inner is None or inner[2] not in kind.layers or int(inner[1]) >= layers:
        return None
    return f"model.layers.{int(inner[1])}.{kind.layers[inner[2]]}.{inner[3]}"


def _layers(file: GgufFile) -> int:
    layers = _whole(file, "block_count")
    if layers > _MOST_LAYERS:  # lists of as many names are made
        raise _cannot(file, say("{key} is {value!r}", key=f"{file.architecture}.block_count", value=layers))
    return layers


def _whole(file: GgufFile, key: str, default: int | None = None) -> int:
    value = file.about(key, default)
    if isinstance(value, list) and value and len(set(value)) == 1:
        value = value[0]
    if not isinstance(value, int) or isinstance(value, bool) or value < (0 if default == 0 else 1):
        raise _cannot(file, say("{key} is {value!r}", key=f"{file.architecture}.{key}", value=value))
    return value


def _decimal(file: GgufFile, key: str, default: float | None = None) -> float:
    value = file.about(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise _cannot(file, say("{key} is {value!r}", key=f"{file.architecture}.{key}", value=value))
    # Files hold 32 bits; 1e-05 is meant, not 9.999999747378752e-06.
    return float(f"{value:.7g}")


def _cannot(file: GgufFile, why: str) -> ModelError:
    return ModelError(
        say(
            "{path} ('{kind}') cannot be turned into a base that can be trained: {why}. Take the model that it was made from: org/name, or "
            "a folder with config.json and safetensors.",
            path=file.path,
            kind=file.architecture,
            why=why,
        )
    )
