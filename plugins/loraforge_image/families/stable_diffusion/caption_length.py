# SPDX-License-Identifier: Apache-2.0
"""How long captions are for a base's CLIP, counted with its own tokenizers before anything is loaded. Without torch and transformers."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loraforge import ConfigError, ModelError, RunConfig, read_text

from ...data.captions import alternatives, written
from ...records import ImageKeys
from ..base_files import locate, read_config
from .identify import config_folder
from .published import PUBLISHED

WINDOW = 75  # CLIP's tokens without beginning and end
WINDOWS = 3  # in which a caption is read at most, as in sd-scripts
# What CLIP takes for words before they are split further: contractions, letters, single digits, runs of other signs.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def windows(tokens: int) -> int:
    """How many windows of ``WINDOW`` tokens a caption is read in; what does not fit into ``WINDOWS`` is cut."""
    return min(WINDOWS, max(1, -(-tokens // WINDOW)))


def counts(config: RunConfig, family: str, keys: ImageKeys, texts: Sequence[str]) -> list[int] | None:
    """The tokens of each text, of its longest caption where it has several, for the tokenizer that makes most of it; None if there is no
    tokenizer to ask."""
    try:
        place = locate(config.base_model, config.revision)
        folder = place if place.is_dir() else config_folder(place, family, keys.base_config)
        asked = [_tokenizer(folder / name) for name in PUBLISHED[family].tokenizers]
    except (ConfigError, ModelError, OSError):
        return None
    if None in asked:
        return None

    @functools.cache
    def tokens(caption: str) -> int:
        return max(len(one.encode(caption, add_special_tokens=False).ids) for one in asked)

    return [max(tokens(written(caption, keys)) for caption in alternatives(text)) for text in texts]


@functools.cache
def _tokenizer(folder: Path) -> Any:
    """The tokenizer that transformers' CLIPTokenizer builds of a folder; None if it is not there, or no CLIP's."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    try:
        settings = read_config(folder / "tokenizer_config.json")
        vocabulary, merges = _words(folder)
        special = _special(settings)
        made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>", unk_token=special[0]))
    except Exception:  # the tokenizers library raises bare Exception for what it cannot use
        return None
    made.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    marks = r"<\|startoftext\|>|<\|endoftext\|>|"
    split = pre_tokenizers.Split(Regex(marks + _WORDS), behavior="removed", invert=True)
    made.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    made.add_special_tokens([word for word in special if word in vocabulary])
    return made


def _words(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """(vocabulary, merges), from two files or from one."""
    if (folder / "vocab.json").is_file():
        lines = read_text(folder / "merges.txt").splitlines()
        pairs = [tuple(line.split(" ")) for line in lines if line.strip() and not line.startswith("#version")]
        return json.loads(read_text(folder / "vocab.json")), [(one, two) for one, two in pairs]
    model = json.loads(read_text(folder / "tokenizer.json"))["model"]
    merges = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]]
    return model["vocab"], [(one, two) for one, two in merges]


def _special(settings: dict[str, Any]) -> list[str]:
    """The tokens that are never split, the unknown one first: SDXL's second tokenizer has the exclamation mark among them."""
    named = [settings.get(f"{kind}_token", usual) for kind, usual in _USUAL.items()]
    added = settings.get("added_tokens_decoder")
    more = list(added.values()) if isinstance(added, dict) else []
    texts = [one.get("content") if isinstance(one, dict) else one for one in [*named, *more]]
    return list(dict.fromkeys(text for text in texts if isinstance(text, str) and text))


_USUAL = {"unk": "<|endoftext|>", "bos": "<|startoftext|>", "eos": "<|endoftext|>", "pad": "<|endoftext|>"}
