"""How long captions are for a base's tokenizer, counted before anything is loaded. Without torch and transformers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loraforge import require_file

from ...data.captions import alternatives, written
from ...records import ImageKeys


def counts(tokenizer: Path, keys: ImageKeys, texts: Sequence[str]) -> list[int] | None:
    """The tokens of each text, of its longest caption where it has several; None where the tokenizer cannot be asked.

    Args:
        tokenizer: its folder.
        texts: captions, one a line.
    """
    asked = _tokenizer(tokenizer)
    if asked is None:
        return None

    @functools.cache
    def tokens(caption: str) -> int:
        return len(asked.encode(caption).ids)

    return [max((tokens(written(caption, keys)) for caption in alternatives(text)), default=0) for text in texts]


@functools.cache
def _tokenizer(folder: Path) -> Any:
    """What ``tokenizer.json`` describes, with its signs of the end; None where there is none that can be read."""
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    try:
        require_file(file)
        made = Tokenizer.from_file(str(file))
    except Exception:  # the tokenizers library raises bare Exception for what it cannot use
        return None
    made.no_truncation()
    made.no_padding()
    return made
