# SPDX-License-Identifier: Apache-2.0
"""A base's tokenizer.json as llama.cpp reads a vocabulary.

llama.cpp splits texts by programs of its own, each with a name (``tokenizer.ggml.pre``; ``llm_tokenizer_bpe`` in its src/llama-vocab.cpp).
The name is found by what tokenizer.json says, to the last character, and by nothing else; what has no name is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loraforge import ExportError, speaker

from ..base_files import BaseFiles
from .folder import read_json

say = speaker(__name__)

# llama.cpp's kinds of tokens.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

_SPACE = "\u2581"
_ENDINGS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_BLANKS}"
_QWEN2 = _LLAMA3.replace("{1,3}", "")
_QWEN35 = rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_BLANKS}"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_WORD = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*%s"
_MARKS = rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_BLANKS}"
_TEKKEN = _WORD % ("", "") + rf"|\p{{N}}|{_MARKS}"
_GPT4O = _WORD % (f"{_ENDINGS}?", f"{_ENDINGS}?") + rf"|\p{{N}}{{1,3}}|{_MARKS}"
_DEEPSEEK3 = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|""" + _BLANKS
_DIGIT, _DIGITS = r"\p{N}", r"\p{N}{1,3}"

# (the texts' splits in turn, whether a word that is a token is taken as it is) -> llama.cpp's name. Of several names that do the same to a
# text, the one that does least beside it.
_NAMES: Mapping[tuple[tuple[str, ...], bool], str] = {
    ((_GPT2,), False): "gpt-2",
    ((_DIGIT, _GPT2), False): "smollm",
    ((_LLAMA3,), False): "smaug-bpe",
    ((_LLAMA3,), True): "llama-bpe",
    ((_QWEN2,), False): "qwen2",
    ((_QWEN35,), False): "qwen35",
    ((_TEKKEN,), True): "tekken",
    ((_GPT4O,), False): "gpt-4o",
    ((_DIGITS, "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", _DEEPSEEK3), False): "deepseek-v3",
}


@dataclass(frozen=True)
class Vocabulary:
    """What llama.cpp is told of a tokenizer.

    Attributes:
        model: ``gpt2`` for byte-level BPE, ``llama`` for SentencePiece's.
        pre: how texts are split first.
        tokens: by id.
        types: what each is.
        scores: which merge comes first; SentencePiece only.
        merges: two tokens and a blank between; byte-level BPE only.
        space_prefix: a blank is put in front of a text; None: there is no such thing.
        special: ids of named tokens, by llama.cpp's name (``bos``).
    """

    model: str
    pre: str
    tokens: Sequence[str]
    types: Sequence[int]
    special: Mapping[str, int]
    scores: Sequence[float] = ()
    merges: Sequence[str] = ()
    space_prefix: bool | None = None


def read_vocabulary(base: BaseFiles, size: int | None, prompts: Sequence[str]) -> Vocabulary:
    """The vocabulary of the base in ``base.folder``.

    Args:
        size: how many rows the embedding has; None where config.json leaves that to transformers.
        prompts: some trained prompts, as text.

    Raises:
        ExportError: if llama.cpp has nothing that does the same, or nobody has compared it.
    """
    whole = read_json(base.folder / "tokenizer.json")
    model = whole.get("model") or {}
    if not whole:
        raise ExportError(_refused(say("the base has no tokenizer.json")))
    if model.get("type") != "BPE":
        raise ExportError(_refused(say("it is of the kind {kind}; BPE is known here", kind=model.get("type"))))
    odd = [name for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix") if model.get(name)]
    if odd:
        raise ExportError(_refused(say("llama.cpp has nothing like its {names}", names=", ".join(odd))))
    named = {int(number): token for token, number in model["vocab"].items()}
    added = {int(entry["id"]): entry for entry in whole.get("added_tokens") or ()}
    largest = max((*named, *added), default=0)
    size = size or largest + 1
    if largest >= size:
        raise ExportError(
            say("the tokenizer has a token of the number {number}, and the embedding {size} rows.", number=largest, size=size)
        )
    merges = [tuple(one.split(" ", 1)) if isinstance(one, str) else tuple(one) for one in model.get("merges") or ()]
    if model.get("byte_fallback"):
        return _sentencepiece(base, whole, named, added, merges, size, prompts)
    tokens, types = _listed(named, added, size)
    pre = _NAMES.get((splits(whole), bool(model.get("ignore_merges"))))
    if pre is None:
        raise ExportError(_refused(_unknown_splits(whole)))
    if _has_prefix(whole.get("pre_tokenizer") or {}):
        raise ExportError(_refused(say("llama.cpp has nothing like its {names}", names="add_prefix_space")))
    if not merges:  # llama.cpp wants one; two blanks are no token here, and fall apart again
        merges = [("\u0120", "\u0120")]
    joined = [f"{_marked(one)} {_marked(two)}" for one, two in merges]
    return Vocabulary("gpt2", pre, tokens, types, _special(base, model["vocab"]), merges=joined)


def _marked(part: str) -> str:
    """A blank inside of a merge would end it."""
    return part.replace(" ", "\u0120")


def _listed(named: Mapping[int, str], added: Mapping[int, Mapping[str, Any]], size: int) -> tuple[list[str], list[int]]:
    tokens, types = [], []
    for number in range(size):
        entry = added.get(number)
        text = str(entry["content"]) if entry else named.get(number)
        if text is None:
            text, kind = f"[PAD{number}]", UNUSED
        elif entry is None:
            kind = NORMAL
        elif entry.get("special") or _looks_special(text):
            kind = CONTROL
        else:
            text, kind = text.replace(_SPACE, " "), USER_DEFINED
        tokens.append(text)
        types.append(kind)
    return tokens, types


def _looks_special(text: str) -> bool:
    """What llama.cpp's converter takes for a control token whatever the base's files call it."""
    marks = (("<|", "|>"), ("<\uff5c", "\uff5c>"), ("<unused", ">"))
    return text in ("<pad>", "<mask>", "<2mass>", "[@BOS@]") or any(text.startswith(a) and text.endswith(z) for a, z in marks)


def _special(base: BaseFiles, vocab: Mapping[str, int]) -> dict[str, int]:
    """The named tokens, by the tokenizer's files first and then by config.json."""
    found: dict[str, int] = {}
    part = base.config.get("text_config") or {}
    for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"):
        text = base.tokens.get(f"{name}_token")
        number = base.added.get(text or "", vocab.get(text or ""))
        if number is None:
            number = base.config.get(f"{name}_token_id", part.get(f"{name}_token_id"))
        if isinstance(number, int) and not isinstance(number, bool) and number >= 0:
            found[name] = number
    return found


# --- how texts are split ------------------------------------------------------------------------------------------------------


def splits(whole: Mapping[str, Any]) -> tuple[str, ...]:
    """The regular expressions by which tokenizer.json splits a text, in turn; one that no expression says is in angle brackets.

    A normalizer that only composes characters (NFC) is none: llama.cpp leaves it out, and texts that it would change are found later.
    """
    before = [f"<{kind}>" for one in _parts(whole.get("normalizer"), "normalizers") if (kind := str(one.get("type"))) != "NFC"]
    found = [split for one in _parts(whole.get("pre_tokenizer"), "pretokenizers") for split in _split(one)]
    return (*before, *found)


def _parts(one: Mapping[str, Any] | None, several: str) -> list[Mapping[str, Any]]:
    if not one:
        return []
    return list(one.get(several) or ()) if one.get("type") == "Sequence" else [one]


def _split(one: Mapping[str, Any]) -> list[str]:
    kind = one.get("type")
    if kind == "ByteLevel":
        return [_GPT2] if one.get("use_regex", True) else []
    if kind == "Digits" and one.get("individual_digits"):
        return [_DIGIT]
    pattern = (one.get("pattern") or {}).get("Regex")
    # "Removed" with the sense turned round keeps what matches, and all of these match everything.
    whole = (one.get("behavior"), bool(one.get("invert"))) in (("Isolated", False), ("Removed", True))
    if kind == "Split" and pattern and whole:
        return [pattern.replace("\r", r"\r").replace("\n", r"\n")]  # written either way
    return [f"<{kind}>"]


def _has_prefix(pre: Mapping[str, Any]) -> bool:
    return any(one.get("type") == "ByteLevel" and one.get("add_prefix_space") for one in _parts(pre, "pretokenizers"))


def _unknown_splits(whole: Mapping[str, Any]) -> str:
    model = whole.get("model") or {}
    ways = " ; ".join(splits(whole)) or say("nothing")
    if model.get("ignore_merges"):
        ways += " (ignore_merges)"
    return say("no way of splitting texts that llama.cpp has is exactly its own: {ways}", ways=ways)


def _refused(reason: str) -> str:
    return say(
        "no GGUF of the whole model can be written, as llama.cpp might read the base's tokenizer otherwise: {reason}. Use "
        "`export: [gguf]` with a GGUF of the base that somebody has checked, or `export: [merged]`.",
        reason=reason,
    )


# --- SentencePiece's BPE -------------------------------------------------------------------------------------------------------


def _sentencepiece(
    base: BaseFiles,
    whole: Mapping[str, Any],
    named: Mapping[int, str],
    added: Mapping[int, Mapping[str, Any]],
    merges: Sequence[tuple[str, ...]],
    size: int,
    prompts: Sequence[str],
) -> Vocabulary:
    tokens, types = _listed(named, added, size)
    unknown = whole["model"].get("unk_token")
    for number, text in enumerate(tokens):
        if number in named and text == unknown:
            types[number] = UNKNOWN
        elif types[number] == NORMAL and len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            types[number] = BYTE
    first: dict[str, int] = {}
    for pair in merges:
        first.setdefault("".join(pair), len(first))
    # SentencePiece's own scores: 0, -1, -2 in the order of the merges, then the tokens that nothing merges to.
    scores, last = [], len(first)
    for text, kind in zip(tokens, types, strict=True):
        if kind == NORMAL:
            last += text not in first
            scores.append(-float(first.get(text, last - 1)))
        else:
            scores.append(0.0 if kind in (BYTE, UNKNOWN) else -1000.0)
    prefix = _space_prefix(whole, base, prompts)
    special = _special(base, whole["model"]["vocab"])
    return Vocabulary("llama", "default", tokens, types, special, scores=scores, space_prefix=prefix)


def _space_prefix(whole: Mapping[str, Any], base: BaseFiles, prompts: Sequence[str]) -> bool:
    """Whether llama.cpp is to put a blank in front of each text that follows a special token, or none.

    Raises:
        ExportError: if a text is changed in another way.
    """
    steps = [*_parts(whole.get("normalizer"), "normalizers"), *_parts(whole.get("pre_tokenizer"), "pretokenizers")]
    prefix = replaced = False
    for step in steps:
        kind = step.get("type")
        if kind == "Prepend" and step.get("prepend") == _SPACE:
            prefix = True
        elif kind == "Replace" and step.get("pattern") == {"String": " "} and step.get("content") == _SPACE:
            replaced = True
        elif kind == "Metaspace" and step.get("replacement", _SPACE) == _SPACE:
            scheme = step.get("prepend_scheme", "always")
            # "first" is once, at the very beginning, where most prompts have a special token.
            begun = all(any(prompt.startswith(token) for token in base.added) for prompt in prompts)
            prefix, replaced = scheme == "always" or (scheme == "first" and not begun), True
        elif not (kind == "Split" and step.get("pattern") == {"String": " "} and step.get("behavior") == "MergedWithPrevious"):
            raise ExportError(_refused(say("llama.cpp has nothing like its {names}", names=kind)))
    if not replaced:
        raise ExportError(_refused(_unknown_splits(whole)))
    return prefix
