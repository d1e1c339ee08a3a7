# SPDX-License-Identifier: Apache-2.0
"""The tokenizer that llama.cpp has for a GGUF file, as transformers' files. Without torch.

transformers makes one too, and silently takes GPT-2's cut where it does not know the file's (``tokenizer.ggml.pre``). Rows would be learned
as other tokens than llama.cpp asks with. Here the cuts are llama.cpp's own, and an unknown one is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loraforge import ModelError, speaker

from .gguf_file import GgufFile

say = speaker(__name__)

# Kinds of tokens (llama.h, ``llama_token_attr``).
_UNKNOWN, _CONTROL, _OWN = 2, 3, 4

# How text is cut before pairs are merged (src/llama-vocab.cpp); each was compared with llama.cpp's tokens.
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CUTS: Mapping[str, tuple[str, ...]] = {
    "gpt-2": (_GPT2,),
    "smollm": (r"\p{N}", _GPT2),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), (_QWEN2,)),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3"), (_LLAMA3,)),
}
# Those whose whole words are looked up before any pair is merged, and whose texts begin with BOS unless the file says otherwise.
_WHOLE_FIRST = ("llama-bpe", "llama3", "llama-v3")
_BLANK = "\u2581"  # how SentencePiece writes a space


def write_tokenizer(file: GgufFile, folder: Path) -> None:
    """tokenizer.json, tokenizer_config.json, chat templates and generation_config.json.

    Raises:
        ModelError: if the file's tokenizer cannot be made again exactly, or names no end of an answer.
    """
    tokens = _tokens(file)
    kinds = _kinds(file, len(tokens))
    model = file.named("tokenizer.ggml.model")
    makers = {"gpt2": _byte_level, "llama": _sentence_piece}
    if model not in makers:
        raise _refused(file, say("it is of the kind '{kind}', and only {known} are read", kind=model or "?", known=", ".join(makers)))
    document, adds_bos = makers[model](file, tokens)
    named = {key: _named(file, tokens, key) for key in ("bos", "eos", "unknown", "padding")}
    if named["eos"] is None:
        raise _refused(file, say("it names no token that ends an answer (tokenizer.ggml.eos_token_id)"))
    if file.values.get("tokenizer.ggml.add_eos_token"):
        raise _refused(file, say("it puts {token} behind every text (tokenizer.ggml.add_eos_token)", token=named["eos"]))
    adds_bos = bool(file.values.get("tokenizer.ggml.add_bos_token", adds_bos))
    if adds_bos and named["bos"] is None:
        raise _refused(file, say("it puts a token before every text that it does not name (tokenizer.ggml.bos_token_id)"))
    added = [
        _added(number, token, kinds[number] != _OWN) for number, token in enumerate(tokens) if kinds[number] in (_UNKNOWN, _CONTROL, _OWN)
    ]
    begin = _begins_with(str(named["bos"]), tokens.index(str(named["bos"]))) if adds_bos else None
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, **document, "post_processor": begin}
    _write(folder / "tokenizer.json", whole, compact=True)
    names = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{names[key]: token for key, token in named.items() if token is not None},
        "add_bos_token": adds_bos,
        "clean_up_tokenization_spaces": False,
        "model_max_length": file.about("context_length"),
    }
    _write(folder / "tokenizer_config.json", settings)
    _write_templates(file, folder)
    _write(folder / "generation_config.json", _generation(file, len(tokens)))


def _tokens(file: GgufFile) -> list[str]:
    tokens = file.values.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not tokens or not all(isinstance(token, str) for token in tokens):
        raise _refused(file, say("it has none (tokenizer.ggml.tokens)"))
    if len(set(tokens)) != len(tokens):
        raise _refused(file, say("several of its tokens are the same text"))
    rows = file.tensors["token_embd.weight"].shape[0]
    if len(tokens) > rows:
        raise _refused(file, say("it has {n} tokens, and the weights know {rows}", n=len(tokens), rows=rows))
    return tokens


def _kinds(file: GgufFile, count: int) -> list[int]:
    kinds = file.values.get("tokenizer.ggml.token_type")
    if not isinstance(kinds, list) or len(kinds) != count:
        raise _refused(file, say("it does not say which of its tokens are special (tokenizer.ggml.token_type)"))
    return kinds


def _named(file: GgufFile, tokens: list[str], key: str) -> str | None:
    number = file.values.get(f"tokenizer.ggml.{key}_token_id")
    return tokens[number] if isinstance(number, int) and 0 <= number < len(tokens) else None


def _byte_level(file: GgufFile, tokens: list[str]) -> tuple[dict[str, Any], bool]:
    """Of GPT-2's kind: bytes, written as letters, merged by a list of pairs."""
    cut = file.named("tokenizer.ggml.pre")
    if cut not in _CUTS:
        raise _refused(
            file,
            say("it cuts text in a way that is not known ('{cut}'); known are {known}", cut=cut or "?", known=", ".join(_CUTS)),
        )
    merges = file.values.get("tokenizer.ggml.merges")
    if not isinstance(merges, list) or not all(isinstance(merge, str) and merge.count(" ") == 1 for merge in merges):
        raise _refused(file, say("its list of merged pairs is missing or damaged (tokenizer.ggml.merges)"))
    vocabulary = {token: number for number, token in enumerate(tokens)}
    # Pairs that make no token are never merged in llama.cpp, and would be an error here.
    split = [merge.split(" ") for merge in merges]
    pairs = [pair for pair in split if all(part in vocabulary for part in (*pair, "".join(pair)))]
    cuts = [{"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False} for regex in _CUTS[cut]]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
        "byte_fallback": False, "ignore_merges": cut in _WHOLE_FIRST, "vocab": vocabulary, "merges": pairs,
    }  # fmt: skip
    document = {
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*cuts, level]},
        "decoder": level,
        "model": model,
    }
    return document, cut in _WHOLE_FIRST


def _sentence_piece(file: GgufFile, tokens: list[str]) -> tuple[dict[str, Any], bool]:
    """Of Llama 2's kind: letters, merged while the whole is a token, the best score first."""
    scores = file.values.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) != len(tokens):
        raise _refused(file, say("its scores are missing (tokenizer.ggml.scores)"))
    if not {f"<0x{byte:02X}>" for byte in range(256)} <= set(tokens):
        raise _refused(file, say("it has no tokens for single bytes"))
    vocabulary = {token: number for number, token in enumerate(tokens)}
    ranked: list[tuple[float, int, list[str]]] = []
    for token, number in vocabulary.items():
        pairs = ([token[:at], token[at:]] for at in range(1, len(token)))
        ranked += [(-scores[number], number, pair) for pair in pairs if pair[0] in vocabulary and pair[1] in vocabulary]
    ranked.sort(key=lambda one: (one[0], one[1]))
    prefixed = bool(file.values.get("tokenizer.ggml.add_space_prefix", True))
    blanks = {"type": "Replace", "pattern": {"String": " "}, "content": _BLANK}
    steps: list[dict[str, Any]] = [*([{"type": "Prepend", "prepend": _BLANK}] if prefixed else []), blanks]
    back: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": _BLANK}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    back += [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefixed else []
    model = {
        "type": "BPE", "dropout": None, "unk_token": _named(file, tokens, "unknown"), "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False, "vocab": vocabulary,
        "merges": [pair for _, _, pair in ranked],
    }  # fmt: skip
    document = {
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": back},
        "model": model,
    }
    return document, True


def _added(number: int, token: str, special: bool) -> dict[str, Any]:
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": token, **plain, "special": special}


def _begins_with(token: str, number: int) -> dict[str, Any]:
    bos, first, second = (
        {"SpecialToken": {"id": token, "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"Sequence": {"id": "B", "type_id": 0}},
    )
    return {
        "type": "TemplateProcessing",
        "single": [bos, first],
        "pair": [bos, first, second],
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}},
    }


def _write_templates(file: GgufFile, folder: Path) -> None:
    if usual := file.named("tokenizer.chat_template"):
        (folder / "chat_template.jinja").write_text(usual, encoding="utf-8", newline="\n")
    if tools := file.named("tokenizer.chat_template.tool_use"):
        others = folder / "additional_chat_templates"
        others.mkdir()
        (others / "tool_use.jinja").write_text(tools, encoding="utf-8", newline="\n")


def _generation(file: GgufFile, count: int) -> dict[str, Any]:
    """What ends an answer: the end of a text, and of a turn where the file names it too."""
    ends = [file.values.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot")]
    ids = list(dict.fromkeys(number for number in ends if isinstance(number, int) and 0 <= number < count))
    bos = file.values.get("tokenizer.ggml.bos_token_id")
    return {**({"bos_token_id": bos} if isinstance(bos, int) else {}), "eos_token_id": ids if len(ids) > 1 else ids[0]}


def _write(path: Path, value: Mapping[str, Any], compact: bool = False) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=None if compact else 2) + "\n", encoding="utf-8", newline="\n")


def _refused(file: GgufFile, why: str) -> ModelError:
    return ModelError(
        say(
            "{path}: its tokenizer cannot be made again: {why}. Take the model that it was made from: org/name, or a folder with "
            "config.json, tokenizer.json and safetensors.",
            path=file.path,
            why=why,
        )
    )
