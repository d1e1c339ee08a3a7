"""How long captions are for a base's own tokenizer, counted before anything is loaded. Without torch and transformers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loraforge import read_text

from ...data.captions import alternatives, arrangements, written
from ...records import ImageKeys

_WAYS = 24  # as ``Texts`` encodes a caption beforehand


def caption_lengths(file: Path, texts: Sequence[str], keys: ImageKeys) -> list[int] | None:
    """The tokens of each text, of its longest caption where it has several; None if ``file`` is no tokenizer of the tokenizers library."""
    tokenizer = _tokenizer(file)
    if tokenizer is None:
        return None

    @functools.cache
    def tokens(caption: str) -> int:
        return len(tokenizer.encode(caption, add_special_tokens=False).ids)

    return [max(tokens(written(caption, keys)) for caption in alternatives(text)) for text in texts]


@functools.cache
def _tokenizer(file: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        found = Tokenizer.from_str(read_text(file))
    except Exception:  # the library raises bare Exception for what it cannot use
        return None
    found.no_truncation()
    return found


def encoded_texts(texts: Sequence[str], keys: ImageKeys) -> int:
    """How many captions are encoded beforehand, the empty one and all orders included."""
    plain, ways = {""}, 0
    for text in texts:
        for caption in alternatives(text):
            plain.add(written(caption, keys))
            if keys.varies_captions:
                ways += len(arrangements(caption, keys, _WAYS) or ())
    return len(plain) + ways
