# SPDX-License-Identifier: Apache-2.0
"""Small bases whose tokenizers split texts in the ways of published ones, for llama.cpp to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from builders.small_bases import make_base

_ENDINGS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
# As they stand in the tokenizer.json of Llama 3, Qwen 2 and 3, Qwen 3.5, Mistral Nemo and gpt-oss.
PUBLISHED = {
    "llama3": rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen35": rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "nemo": rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "gpt-oss": rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_ENDINGS}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_ENDINGS}?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
_SPECIAL = ("<pad>", "<s>", "</s>", "<|user|>", "<|bot|>")
_CORPUS = [
    "The employee's contract, signed in 2019, says: 3 months' notice; we'll pay 1,250.00 dollars!",
    "劳动合同到期，用人单位不续签的，应当支付经济补偿。《劳动合同法》第四十六条。",
    "I'll see what they've done: she isn't here, he'd said it's HTMLParser and camelCase.\n\n  Two  spaces\tand tabs.\r\n",
    "Привет, мир! naïve café Straße 안녕 こんにちは 12345 678 ２０２６ नमस्ते",
] * 8


def byte_level(*splits: str, ignore_merges: bool = False, plain: bool = False, size: int = 600) -> Any:
    """A byte-level BPE tokenizer.

    Args:
        splits: by which expressions texts are split in turn.
        plain: by GPT-2's too.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    steps = [pre_tokenizers.Split(Regex(split), "isolated") for split in splits]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=plain)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        _CORPUS, trainers.BpeTrainer(vocab_size=size, special_tokens=list(_SPECIAL), initial_alphabet=alphabet, show_progress=False)
    )
    return tokenizer


def sentence_piece(prefix: str | None, size: int = 600) -> Any:
    """A BPE tokenizer in the form that Llama 2's and Gemma's have.

    Args:
        prefix: ``legacy``: a blank before each text between special tokens; ``first``: before the first; None: nowhere.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    spelt = Tokenizer(models.BPE())
    spelt.normalizer = normalizers.Replace(" ", "\u2581")
    spelt.train_from_iterator(_CORPUS, trainers.BpeTrainer(vocab_size=size - 256, special_tokens=["<unk>", *_SPECIAL], show_progress=False))
    known = json.loads(spelt.to_str())["model"]
    vocabulary = dict(known["vocab"]) | {f"<0x{byte:02X}>": len(known["vocab"]) + byte for byte in range(256)}
    merges = [tuple(one) for one in known["merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if prefix == "first":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", prepend_scheme="first", split=False)
    else:
        steps = [normalizers.Prepend("\u2581")] if prefix == "legacy" else []
        tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(list(_SPECIAL))
    return tokenizer


def small_base(kind: str, folder: Path, **settings: Any) -> Path:
    """A base of model type ``kind`` with random weights, 97 tokens unless another number is given, and these settings."""
    from transformers import AutoModelForCausalLM

    from builders.architectures import architectures

    sizes = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "sliding_window": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64}
    config = architectures()[kind](**sizes | heads | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0} | settings)
    return make_base(kind, folder, AutoModelForCausalLM.from_config(config))


def base_with(tokenizer: Any, folder: Path) -> Path:
    """A base with random weights and this tokenizer."""
    small_base("llama", folder, vocab_size=tokenizer.get_vocab_size())
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def served_by(folder: Path) -> Any:
    """How a run on this base would ask, with the base's own chat template and ``</s>`` at the end of answers."""
    from loraforge_text.base_files import read_base
    from loraforge_text.export.folder import Served
    from loraforge_text.templates.prompting import Prompting

    base = read_base(folder)
    return Served(folder, base, Prompting(jinja=base.chat_template, stops=base.stops), "</s>", (2,))


def no_adapter(folder: Path, **config: Any) -> Any:
    """An adapter on no layer, of a run on this base.

    Args:
        config: the run's keys.
    """
    from loraforge import Adapter

    template = {"jinja": (folder / "chat_template.jinja").read_text(encoding="utf-8"), "stops": ["</s>"]}
    facts = {"name": "out", "template": template, "config": {"base_model": str(folder), **config}}
    return Adapter(tensors={}, rank=4, alpha=8, targets=(), probes={}, base_model=str(folder), base_folder=str(folder), facts=facts)
