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
    sizes: dict[str, Any] = {name: size for name, size in _SIZES.items() if type(_value(text, name)) is int}
    if heads in ("left", "set"):
        sizes.pop("head_dim", None)
    if heads == "set":
        sizes |= {"head_dim": 8, "num_key_value_heads": 2}
    if heads == "as many":
        sizes |= {"num_key_value_heads": 4}
    for name in ("layer_types", "mlp_layer_types", "block_types") if blocks else ():
        kinds = _value(text, name)
        if isinstance(kinds, list | tuple) and kinds and isinstance(kinds[0], str):
            different = list(dict.fromkeys(kinds))
            sizes[name] = [different[0], different[-1]]
    config = type(text)(**sizes)
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


def _value(config: Any, name: str) -> Any:
    try:
        return getattr(config, name, None)
    except Exception:  # a property of a configuration that is not whole
        return None
