# SPDX-License-Identifier: Apache-2.0
"""How long captions are for a base's own tokenizer, counted before anything is loaded. Without torch; transformers is
asked where a folder has the older files alone."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loraforge import panics_as_errors, read_text

from ...data.captions import alternatives, arrangements, written
from ...records import ImageKeys

_WAYS = 24  # as ``Texts`` encodes a caption beforehand


def caption_lengths(folder: Path, texts: Sequence[str], keys: ImageKeys) -> list[int] | None:
    """The tokens of each text, of its longest caption where it has several; None if no tokenizer is in ``folder``."""
    tokenizer = _tokenizer(folder)
    if tokenizer is None:
        return None

    @functools.cache
    def tokens(caption: str) -> int:
        return len(tokenizer.encode(caption, add_special_tokens=False).ids)

    return [max(tokens(written(caption, keys)) for caption in alternatives(text)) for text in texts]


@functools.cache
def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        with panics_as_errors():
            whole = folder / "tokenizer.json"
            found = Tokenizer.from_str(read_text(whole)) if whole.is_file() else _older(folder)
    except Exception:  # the libraries raise nearly anything for what they cannot use
        return None
    found.no_truncation()
    return found


def _older(folder: Path) -> Any:
    """What transformers makes of a vocabulary and its merges, as Qwen-Image and SD3's CLIPs are published with."""
    if not (folder / "tokenizer_config.json").is_file():
        raise FileNotFoundError(folder)
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False).backend_tokenizer


def encoded_texts(texts: Sequence[str], keys: ImageKeys) -> int:
    """How many captions are encoded beforehand, the empty one and all orders included."""
    plain, ways = {""}, 0
    for text in texts:
        for caption in alternatives(text):
            plain.add(written(caption, keys))
            if keys.varies_captions:
                ways += len(arrangements(caption, keys, _WAYS) or ())
    return len(plain) + ways
