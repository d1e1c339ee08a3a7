# SPDX-License-Identifier: Apache-2.0
"""Every causal language model of the installed transformers that can be made small, with random weights."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

_MOST = 3_000_000  # parameters; what cannot be made smaller by the usual settings is left out
_SIZES = {
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), 97),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "embedding_size", "word_embed_proj_dim"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "d_ff", "n_inner", "ffn_hidden_size", "decoder_ffn_dim", "encoder_ffn_dim"), 48),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "decoder_attention_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "mamba_d_state", "state_size", "mamba_n_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_experts_per_tok", "mamba_expand"), 2),
    **dict.fromkeys(("head_dim", "kv_lora_rank", "q_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "rotary_dim"), 8),
    **dict.fromkeys(("hidden_size_per_layer_input", "sliding_window"), 8),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size", "mamba_d_head"), 16),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 64),
    **dict.fromkeys(("n_shared_experts", "n_group", "topk_group", "bos_token_id"), 1),
    **{"pad_token_id": 0, "eos_token_id": 2, "moe_shared_expert_intermediate_size": 16},
    **{"first_k_dense_replace": 1, "moe_layer_start_index": 1},
}
# What the usual settings leave open or cannot say; None: to be left alone.
_OWN: dict[str, dict[str, Any]] = {
    "deepseek_v2": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "topk_method": "greedy"},
    "falcon_h1": {"layer_types": None, "mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16},
    "gemma3n_text": {"num_kv_shared_layers": 0, "layer_types": ["sliding_attention", "full_attention"], "laurel_rank": 4},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "mamba2": {"num_heads": 4, "head_dim": 16},
    "prophetnet": {
        "num_hidden_layers": None,
        "num_layers": None,
        "num_encoder_layers": 2,
        "num_decoder_layers": 2,
        "num_decoder_attention_heads": 4,
    },
    "roc_bert": {"pronunciation_vocab_size": 7, "shape_vocab_size": 7, "pronunciation_embed_dim": 8, "shape_embed_dim": 8},
    "xlnet": {"max_position_embeddings": None, "d_head": 8, "d_inner": 48},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "moe_intermediate_size": 16, "num_experts_per_tok": 2},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 8},
    "reformer": {"is_decoder": True, "attn_layers": ["local", "local"], "axial_pos_embds": False, "num_hashes": 1},
}


def architectures() -> dict[str, type]:
    """Configuration classes by model type."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    return {kind.model_type: kind for kind in MODEL_FOR_CAUSAL_LM_MAPPING}


def small(kind: type) -> Any:
    """A model of this configuration class, in float32, without dropout; the test is skipped if transformers makes none this small."""
    problem = ""
    for heads, blocks in itertools.product(("given", "left", "set", "as many"), (True, False)):
        try:
            model = _small(kind, heads, blocks)
        except Exception as error:  # each class complains in its own way of sizes that do not fit together
            problem = problem or f"{type(error).__name__}: {error}"
        else:
            return model
    pytest.skip(f"transformers makes none with the usual settings: {problem}")


def _small(kind: type, heads: str, blocks: bool) -> Any:
    """
    Args:
        heads: whether the width of heads is ours where it is a number, is left alone, or is always ours; ``as many`` keys as queries.
        blocks: whether two different kinds of layers are asked for where there are kinds.
    """
    from transformers import AutoModelForCausalLM

    whole = kind()
    text = whole.get_text_config()
    sizes: dict[str, Any] = {name: size for name, size in _SIZES.items() if type(_value(text, name)) is int and _settable(text, name)}
    if heads in ("left", "set"):
        sizes.pop("head_dim", None)
    if heads == "set":
        sizes |= {"head_dim": 8, "num_key_value_heads": 2}
    if heads == "as many":
        sizes |= {"num_key_value_heads": 4}
    for name in ("layer_types", "mlp_layer_types", "block_types") if blocks else ():
        kinds = _value(text, name)
        if isinstance(kinds, list | tuple) and kinds and isinstance(kinds[0], str) and _settable(text, name):
            different = list(dict.fromkeys(kinds))
            sizes[name] = [different[0], different[-1]]
    sizes |= _OWN.get(text.model_type, {})
    config = type(text)(**{name: value for name, value in sizes.items() if value is not None})
    with torch.device("meta"):
        count = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    if count > _MOST:
        raise ValueError(f"{count:,} parameters")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = model(input_ids=torch.arange(3, 12)[None], use_cache=False).logits
    if not logits.isfinite().all():
        raise ValueError("random weights give no finite logits")
    return model


def _settable(config: Any, name: str) -> bool:
    """Whether ``name`` is a setting, and not a property that follows from others."""
    found = getattr(type(config), name, None)
    return not isinstance(found, property) or found.fset is not None


def _value(config: Any, name: str) -> Any:
    try:
        return getattr(config, name, None)
    except Exception:  # a property of a configuration that is not whole
        return None
