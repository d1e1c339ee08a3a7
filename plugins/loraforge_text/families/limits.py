# SPDX-License-Identifier: Apache-2.0
"""What a base cannot read, by its configuration: rows longer than its positions, tokens that it has no embedding for, text of both sides.
Without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loraforge import DataError, ModelError, speaker

say = speaker(__name__)

# Model types with a position table of a fixed size: one token more is an error inside torch. The others compute their positions.
_AFTER_PADDING = frozenset({"camembert", "data2vec-text", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl"})
TABLES = _AFTER_PADDING | {
    *("bart", "bert", "bert-generation", "big_bird", "bigbird_pegasus", "biogpt", "blenderbot", "blenderbot-small", "codegen", "ctrl"),
    *("electra", "ernie", "gpt2", "gpt_bigcode", "gpt_neo", "gptj", "marian", "mbart", "megatron-bert", "mpt", "mvp", "openai-gpt", "opt"),
    *("pegasus", "plbart", "prophetnet", "reformer", "rembert", "roc_bert", "roformer", "trocr", "whisper", "xlm"),
}
# How configurations call the number of positions.
_NAMES = ("n_positions", "max_position_embeddings", "max_target_positions", "max_seq_len")
# Model types that fill gaps: what comes after a token is read too, unless the configuration says otherwise.
BOTH_WAYS = _AFTER_PADDING | {
    *(
        "bert",
        "bert-generation",
        "big_bird",
        "cpmant",
        "electra",
        "ernie",
        "megatron-bert",
        "rembert",
        "roc_bert",
        "roformer",
        "xlm",
        "xlnet",
    )
}
# Model types that read padding as if it were text, in transformers too: their rows share a batch with rows of the same length only.
READS_PADDING = frozenset({"prophetnet"})


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a configuration that is about the language model."""
    for name in ("text_config", "llm_config", "language_config"):
        if isinstance(config.get(name), Mapping):
            return {"model_type": config.get("model_type"), **config[name]}
    return config


def positions(config: Mapping[str, Any]) -> int | None:
    """How many tokens the base has positions for, or was trained with, whether or not it can compute more; None: not said."""
    found = next((number for name in _NAMES if (number := _whole(config.get(name)))), None)
    if found and config.get("model_type") in _AFTER_PADDING:
        padding = config.get("pad_token_id", 1)
        found -= (padding if isinstance(padding, int) else 1) + 1
    return found


def most_tokens(config: Mapping[str, Any]) -> int | None:
    """The longest row that the base can read at all; None: any."""
    return positions(config) if config.get("model_type") in TABLES else None


def problem(ids: Sequence[int], config: Mapping[str, Any], rows: int | None = None) -> str | None:
    """Why a row cannot be read, if it cannot.

    Args:
        config: of the language model.
        rows: of the embedding, where it is known better than by the configuration.
    """
    most = most_tokens(config)
    if most is not None and len(ids) > most:
        return say("is {n} tokens long, but this base has positions for {most} only. Shorten it.", n=len(ids), most=most)
    rows = rows or _whole(config.get("vocab_size"))
    if rows and max(ids, default=0) >= rows:
        return say(
            "has the token {token}, but the base's weights know tokens 0 to {last} only: its tokenizer was given tokens that its weights "
            "were never given. Take the tokenizer files that belong to these weights.",
            token=max(ids),
            last=rows - 1,
        )
    return None


def room(ids: Sequence[int], model: Any, wanted: int) -> int:
    """How many tokens the loaded ``model`` can write after a prompt, ``wanted`` at most.

    Raises:
        DataError: if it cannot read the prompt.
    """
    config = model.config.get_text_config().to_dict()
    if found := problem(ids, config, len(model.get_input_embeddings().weight)):
        raise DataError(say("the prompt {problem}", problem=found))
    most = most_tokens(config)
    if most is not None and len(ids) == most:
        raise DataError(say("the prompt is {n} tokens long, and this base has positions for no more: nothing could be answered.", n=most))
    return wanted if most is None else min(wanted, most - len(ids))


def refuse_both_ways(config: Mapping[str, Any]) -> None:
    """
    Raises:
        ModelError: if the base is one that sees the next token before it is to say it.
    """
    kind = config.get("model_type")
    if kind in BOTH_WAYS and not config.get("is_decoder") and not config.get("causal"):
        raise ModelError(both_ways(kind))


def both_ways(kind: Any) -> str:
    """The sentence about a base of this model type that sees the next token before it is to say it."""
    return say(
        "base_model is a {kind} model that reads what comes after a word too: it fills gaps and does not write on. Take a base that writes "
        "(a causal language model).",
        kind=kind,
    )


def notes(config: Mapping[str, Any], lengths: Sequence[int], target: str | Sequence[str]) -> Iterator[str]:
    """What one should know of these rows on this base.

    Args:
        config: the whole configuration, of the base and not of its language model alone.
        lengths: of the rows, in tokens.
    """
    text = text_config(config)
    trained = positions(text)
    long = sum(1 for length in lengths if trained and length > trained)
    if long and text.get("model_type") not in TABLES:
        yield say(
            "{n} rows are longer than the {most} tokens that the base was made for (max_position_embeddings); it can read them, but not as "
            "well. Shorten them, or set max_seq_length: {most} and on_bad_row: skip.",
            n=long,
            most=trained,
        )
    towers = [name.removesuffix("_config") for name in config if "vision" in name or name == "audio_config"]
    if towers:
        yield say("the base sees or hears too ({towers}); only its language model gets a LoRA.", towers=", ".join(towers))
    if target == "all-linear" and has_experts(text):
        yield say(
            "the base has routed experts; where they are fused weights and no layers, they stay as they are and the LoRA is on the layers "
            "beside them. The run says so."
        )


def has_experts(config: Mapping[str, Any]) -> bool:
    """Whether a token is sent to some of many feed-forward blocks."""
    return any((_whole(value) or 0) > 1 for name, value in config.items() if name in _EXPERTS)


_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_moe_experts")


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
