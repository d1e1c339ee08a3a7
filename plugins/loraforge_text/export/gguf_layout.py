# SPDX-License-Identifier: Apache-2.0
"""How llama.cpp keeps a model: what its file says of each architecture, and what becomes of each of the base's tensors.

Every model type here was compared with what llama.cpp's own converter writes: each key, and each tensor byte by byte.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loraforge import ExportError, speaker

from .llama_cpp import ARCHITECTURES, INTERLEAVED

if TYPE_CHECKING:
    from torch import Tensor

say = speaker(__name__)

Fact = int | float | bool | str | Sequence[bool]

# (llama.cpp's key, what config.json calls it). The first name that is there counts, as in the converter.
_COUNTS = (
    ("context_length", ("max_position_embeddings", "n_ctx", "n_positions")),
    ("embedding_length", ("hidden_size", "n_embd")),
    ("feed_forward_length", ("intermediate_size", "n_inner")),
    ("attention.head_count", ("num_attention_heads", "n_head")),
    ("attention.head_count_kv", ("num_key_value_heads",)),
    ("attention.key_length", ("head_dim",)),
    ("attention.value_length", ("head_dim",)),
)
_SIZES = (
    ("attention.layer_norm_rms_epsilon", ("rms_norm_eps", "norm_eps")),
    ("attention.layer_norm_epsilon", ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon")),
)
_YARN = (
    ("yarn_ext_factor", ("extrapolation_factor",)),
    ("yarn_attn_factor", ("attention_factor", "attn_factor")),
    ("yarn_beta_fast", ("beta_fast",)),
    ("yarn_beta_slow", ("beta_slow",)),
)


@dataclass(frozen=True)
class _Rules:
    """What one kind of architecture has beside, or other than, what all have.

    Attributes:
        facts: more keys.
        without: keys that the converter does not write for it.
        rope: ways of stretching the rotation, beside those that every architecture takes.
        shifted: the norms' weights are kept with 1 added, which its layers add themselves.
    """

    facts: Callable[[Mapping[str, Any]], dict[str, Fact]]
    without: frozenset[str] = frozenset()
    rope: frozenset[str] = frozenset()
    shifted: bool = False


def _none(config: Mapping[str, Any]) -> dict[str, Fact]:
    return {}


def _llama(config: Mapping[str, Any]) -> dict[str, Fact]:
    return {"vocab_size": int(config["vocab_size"]), "rope.dimension_count": _head_width(config)}


def _granite(config: Mapping[str, Any]) -> dict[str, Fact]:
    scales = {
        "attention.scale": "attention_multiplier",
        "embedding_scale": "embedding_multiplier",
        "residual_scale": "residual_multiplier",
        "logit_scale": "logits_scaling",
    }
    width = int(config["hidden_size"]) // int(config["num_attention_heads"])
    own = {key: float(config[name]) for key, name in scales.items() if config.get(name)}
    return {**_llama(config), "rope.dimension_count": width, **own}


def _gemma2(config: Mapping[str, Any]) -> dict[str, Fact]:
    return {
        "attn_logit_softcapping": float(config["attn_logit_softcapping"]),
        "final_logit_softcapping": float(config["final_logit_softcapping"]),
        "attention.sliding_window": int(config["sliding_window"]),
    }


def _gemma3(config: Mapping[str, Any]) -> dict[str, Fact]:
    cap = config.get("final_logit_softcapping")
    window: dict[str, Fact] = {"attention.sliding_window": int(config["sliding_window"])} if config.get("sliding_window") else {}
    return {**window, **({"final_logit_softcapping": float(cap)} if cap else {})}


def _olmo(config: Mapping[str, Any]) -> dict[str, Fact]:
    clip = config.get("clip_qkv")
    return {"attention.layer_norm_epsilon": 1e-5, **({"attention.clamp_kqv": float(clip)} if clip is not None else {})}


def _windows(config: Mapping[str, Any]) -> dict[str, Fact]:
    if "sliding_window" not in config:
        return {}
    kinds = config.get("layer_types") or ["sliding_attention" if (i + 1) % 4 else "full_attention" for i in range(blocks(config))]
    return {
        "attention.sliding_window": int(config["sliding_window"]),
        "attention.sliding_window_pattern": [kind == "sliding_attention" for kind in kinds],
    }


def _phi3(config: Mapping[str, Any]) -> dict[str, Fact]:
    rope = config["rope_parameters"]
    positions = int(rope.get("original_max_position_embeddings") or config["original_max_position_embeddings"])
    stretched = max(1.0, int(config["max_position_embeddings"]) / positions)
    facts: dict[str, Fact] = {
        "rope.scaling.original_context_length": positions,
        "rope.dimension_count": int(float(rope.get("partial_rotary_factor", 1.0)) * int(config["hidden_size"]))
        // int(config["num_attention_heads"]),
        "attention.sliding_window": int(config.get("sliding_window") or 0),
    }
    if rope.get("long_factor"):
        facts["rope.scaling.attn_factor"] = math.sqrt(1 + math.log(stretched) / math.log(positions))
    return facts


_OWN_LISTS = frozenset({"rope.freq_base", "rope.scaling.type"})
_LLAMA_ROPE = frozenset({"llama3"})
_LLAMA = _Rules(_llama, rope=_LLAMA_ROPE)
_PLAIN = _Rules(_none)
_KINDS: Mapping[str, _Rules] = {
    **dict.fromkeys(("arcee", "llama", "mistral", "smollm3"), _LLAMA),
    **dict.fromkeys(("qwen2", "qwen3", "seed_oss", "starcoder2"), _PLAIN),
    **dict.fromkeys(("gemma3", "gemma3_text"), _Rules(_gemma3, shifted=True)),
    **dict.fromkeys(("olmo2", "olmo3"), _Rules(_windows)),
    "gemma": _Rules(_none, _OWN_LISTS, shifted=True),
    "gemma2": _Rules(_gemma2, _OWN_LISTS, shifted=True),
    "granite": _Rules(_granite, frozenset({"attention.key_length", "attention.value_length"}), _LLAMA_ROPE),
    "olmo": _Rules(_olmo),
    "phi3": _Rules(
        _phi3, frozenset({"rope.scaling.type", "attention.key_length", "attention.value_length"}), frozenset({"longrope", "su"})
    ),
}


def is_known(kind: str) -> bool:
    """Whether a merged model of this model type can be written."""
    return kind in _KINDS


def language_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with that of its language part on top, as the converter reads it."""
    return {**config, **(config.get("text_config") or {}), "model_type": config.get("model_type")}


def blocks(config: Mapping[str, Any]) -> int:
    """How many layers there are."""
    return int(_first(config, ("num_hidden_layers", "n_layer", "num_layers")) or 0)


def _first(config: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((config[name] for name in names if name in config), None)


def _head_width(config: Mapping[str, Any]) -> int:
    width = config.get("head_dim")
    return int(width) if width is not None else int(config["hidden_size"]) // int(config["num_attention_heads"])


def facts_of(config: Mapping[str, Any]) -> dict[str, Fact]:
    """What the file says of the architecture, by llama.cpp's key without the architecture's name in front.

    Args:
        config: see ``language_part``.

    Raises:
        ExportError: if the positions are stretched in a way that llama.cpp does not know for this type.
    """
    rules = _KINDS[config["model_type"]]
    facts: dict[str, Fact] = {"block_count": blocks(config)}
    facts |= {key: int(value) for key, names in _COUNTS if (value := _first(config, names)) is not None}
    facts |= {key: float(value) for key, names in _SIZES if (value := _first(config, names)) is not None}
    facts |= _rotation(config, rules)
    return {key: value for key, value in facts.items() if key not in rules.without} | rules.facts(config)


def _rotation(config: Mapping[str, Any], rules: _Rules) -> dict[str, Fact]:
    every = config.get("rope_parameters") or {}
    rope = every.get("full_attention", every)
    kind = str(rope.get("rope_type") or "default")
    if kind not in ("default", "linear", "yarn") and kind not in rules.rope:
        raise ExportError(
            say(
                "the base stretches its positions by '{kind}' (rope_parameters in config.json), which llama.cpp does not know for the "
                "type {type}. Use `export: [merged]`.",
                kind=kind,
                type=config["model_type"],
            )
        )
    facts: dict[str, Fact] = {}
    if kind in ("linear", "yarn"):
        facts |= {"rope.scaling.type": kind, "rope.scaling.factor": float(rope["factor"])}
    if kind == "yarn":
        positions = rope.get("original_max_position_embeddings") or config["max_position_embeddings"]
        facts["rope.scaling.original_context_length"] = int(positions)
        facts |= {f"rope.scaling.{key}": float(value) for key, names in _YARN if (value := _first(rope, names)) is not None}
    if rope.get("rope_theta") is not None:
        facts["rope.freq_base"] = float(rope["rope_theta"])
    local = (every.get("sliding_attention") or {}).get("rope_theta")
    if local is not None:
        facts["rope.freq_base_swa"] = float(local)
    return facts


def extra_tensors(config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors that no file of the base has: by what the rotation's frequencies are divided."""
    import torch

    every = config.get("rope_parameters") or {}
    rope = every.get("full_attention", every)
    if rope.get("long_factor") and config["model_type"] == "phi3":
        return {
            "rope_factors_long.weight": torch.tensor(rope["long_factor"], dtype=torch.float32),
            "rope_factors_short.weight": torch.tensor(rope["short_factor"], dtype=torch.float32),
        }
    if str(rope.get("rope_type")) != "llama3":
        return {}
    width = _head_width(config)
    frequencies = 1.0 / (float(rope.get("rope_theta", 10000.0)) ** (torch.arange(0, width, 2, dtype=torch.float32) / width))
    factor, low, high = (float(rope.get(name, usual)) for name, usual in (("factor", 8), ("low_freq_factor", 1), ("high_freq_factor", 4)))
    positions = float(rope.get("original_max_position_embeddings", 8192))
    return {"rope_freqs.weight": torch.tensor([_slowed(float(f), factor, low, high, positions) for f in frequencies])}


def _slowed(frequency: float, factor: float, low: float, high: float, positions: float) -> float:
    """By what Llama 3.1 divides a frequency: see ``rope_type: llama3`` in transformers' modeling_rope_utils."""
    length = 2 * math.pi / frequency
    if length < positions / high:
        return 1.0
    if length > positions / low:
        return factor
    smooth = (positions / length - low) / (high - low)
    return 1 / ((1 - smooth) / factor + smooth)


def is_read(name: str) -> bool:
    """Whether a tensor of the base belongs to the part that writes text."""
    seen = any(part in name for part in ("vision", "visual.", "multi_modal_projector."))
    return not seen and not name.endswith((".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq"))


def tensor_name(table: Any, name: str) -> str | None:
    """llama.cpp's name of a tensor of the base, or of a module's weight; None if it has none.

    Args:
        table: gguf's, see ``get_tensor_name_map``.
    """
    found = table.get_name(name.replace("language_model.", ""), try_suffixes=(".weight", ".bias"))
    return None if found is None else str(found)


def arranged(config: Mapping[str, Any], name: str, tensor: Tensor) -> Tensor:
    """A float32 tensor of the base as llama.cpp has it: (out, in), with rotated rows in pairs and norms that need nothing added.

    Args:
        name: the base's own, or that of a module with ``.weight``.
    """
    kind = config["model_type"]
    heads = rotated_heads(config, name)
    if heads:
        return tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)
    return tensor + 1 if _KINDS[kind].shifted and name.endswith("norm.weight") else tensor


def rotated_heads(config: Mapping[str, Any], name: str) -> int:
    """How many heads the rows of a tensor belong to whose order llama.cpp changes; 0 for one that it leaves."""
    if ARCHITECTURES[config["model_type"]] not in INTERLEAVED:
        return 0
    heads = int(config["num_attention_heads"])
    count = {"q_proj": heads, "k_proj": int(config.get("num_key_value_heads") or heads)}
    return count.get(name.removesuffix(".weight").removesuffix(".bias").rpartition(".")[2], 0)
