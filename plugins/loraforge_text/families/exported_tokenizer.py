# SPDX-License-Identifier: Apache-2.0
"""Whether an export of a base could be read as it was trained, told before it is trained: transformers takes a tokenizer from more files
than tokenizer.json, which is what rows are learned with, and some bases' files contradict each other. Without torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from loraforge import ModelError, Span, first_few, panics_as_errors, read_text, speaker

from ..base_files import BaseFiles

say = speaker(__name__)

_ROWS = 32  # the export looks at five


def refuse_contradicting(tokenizer: Any, base: BaseFiles, rows: Sequence[Sequence[Span]]) -> None:
    """
    Args:
        tokenizer: the base's ``tokenizers.Tokenizer``.
        rows: the rendered texts, some of them empty.

    Raises:
        ModelError: if transformers would read an export of this base otherwise than it is trained, whatever the export does.
    """
    learned = [span.text for spans in rows for span in spans if span.learn]
    stop = max((one for one in base.stops if learned and learned[-1].endswith(one)), key=len, default="")
    if problems := [*_forbidden(base, stop), *_otherwise(tokenizer, base, stop, ["".join(span.text for span in spans) for spans in rows])]:
        raise ModelError(problems)


def _forbidden(base: BaseFiles, stop: str) -> list[str]:
    """What generation_config.json says against the token that ends answers."""
    file = base.folder / "generation_config.json"
    try:
        settings = json.loads(read_text(file)) if file.is_file() else {}
        never = [*(settings.get("suppress_tokens") or ()), *(settings.get("begin_suppress_tokens") or ())]
        never += [words[0] for words in settings.get("bad_words_ids") or () if len(words) == 1]
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return []
    if base.added.get(stop) not in never:
        return []
    return [
        say(
            "{file} forbids {stop}, the token that ends an answer (suppress_tokens, begin_suppress_tokens or bad_words_ids), so the "
            "trained model would never stop. Take it out there.",
            file=file,
            stop=stop,
        )
    ]


def _otherwise(tokenizer: Any, base: BaseFiles, stop: str, texts: Sequence[str]) -> list[str]:
    """Where transformers makes other tokens of the files than tokenizer.json alone."""
    from transformers import PreTrainedTokenizerFast

    try:  # the class that takes tokenizer.json as it stands, which an export falls back to; with the stop that is written into it
        with panics_as_errors():
            other = PreTrainedTokenizerFast.from_pretrained(base.folder, local_files_only=True, **({"eos_token": stop} if stop else {}))
            for text in [*filter(None, texts)][:_ROWS]:
                wanted = list(tokenizer.encode(text, add_special_tokens=False).ids)
                found = list(other(text, add_special_tokens=False).input_ids)
                if found != wanted:
                    return [_difference(base, other, tokenizer, wanted, found)]
    except Exception as error:  # a tokenizer's files raise nearly anything
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        return [say("base_model {folder}: transformers cannot read its tokenizer: {error}", folder=base.folder, error=reason)]
    return []


def _difference(base: BaseFiles, other: Any, tokenizer: Any, wanted: Sequence[int], found: Sequence[int]) -> str:
    at = next((i for i, (one, two) in enumerate(zip(wanted, found, strict=False)) if one != two), min(len(wanted), len(found)))
    more = [token for token, number in other.get_added_vocab().items() if base.added.get(token) != number]
    if more:
        cause = say("the other files have the tokens {tokens}, which tokenizer.json lacks", tokens=first_few(sorted(more)))
    elif getattr(other, "split_special_tokens", False):
        cause = say("tokenizer_config.json says {key}", key="split_special_tokens: true")
    else:
        cause = say("tokenizer_config.json describes some tokens otherwise")
    return say(
        "base_model {folder}: transformers reads its tokenizer otherwise than tokenizer.json says, which the rows are learned with: "
        "{wanted!r} becomes {found!r} ({cause}). An export would be refused. Take the tokenizer files that belong together.",
        folder=base.folder,
        wanted=_shown(tokenizer, wanted[at : at + 6]),
        found=_shown(other.backend_tokenizer, found[at : at + 6]),
        cause=cause,
    )


def _shown(tokenizer: Any, ids: Sequence[int]) -> str:
    """The tokens with bars between them."""
    return "|".join(tokenizer.decode([token], skip_special_tokens=False) for token in ids)
