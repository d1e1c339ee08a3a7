# SPDX-License-Identifier: Apache-2.0
"""Which tokens end an answer: the one that was trained, and the others that `sample` stops at."""

from __future__ import annotations

import functools

from loraforge import LoraForgeError

from ..base_files import BaseFiles
from ..records import Conversation, Message
from .prompting import Prompting

# gpt-oss ends every channel with <|end|> and only the last one with <|return|>: to stop at the first would lose the answer.
_NO_END_BESIDE = {"<|end|>": "<|return|>"}


def trained_stop(prompting: Prompting) -> str:
    """The stop token that the answers of a run end in; empty if they end in none.

    It is not always the base's ``eos_token``: the chat template decides. So a question and its answer are rendered, and looked at.
    """
    try:
        learned = [span.text for span in prompting.render(Conversation("question", "answer", where="")) if span.learn]
    except LoraForgeError:  # a template that wants more than one question and one answer
        return prompting.stop
    return max((stop for stop in prompting.stops if stop and learned and learned[-1].endswith(stop)), key=len, default="")


def stop_ids(base: BaseFiles, trained: str = "") -> tuple[int, ...]:
    """The ids of the tokens that end an answer, the trained one first: the same for `sample` and for every server."""
    # A token that ends the thought in the base's own template ends no answer.
    inner = _before_answer(base.chat_template, tuple(base.tokens.items()), base.stops, True) if base.chat_template else ""
    others = [stop for stop in base.stops if stop not in inner and _NO_END_BESIDE.get(stop) not in base.added]
    return tuple(dict.fromkeys(base.added[stop] for stop in [trained, *others] if stop in base.added))


def opening(base: BaseFiles) -> str:
    """What the model itself writes before an answer, where tokens of the base's own template are in it (a channel's name between marks);
    otherwise nothing."""
    before = _before_answer(base.chat_template, tuple(base.tokens.items()), base.stops, False) if base.chat_template else ""
    return before.strip() if any(token in before for token in base.special) else ""


@functools.cache
def _before_answer(template: str, tokens: tuple[tuple[str, str], ...], stops: tuple[str, ...], thinks: bool) -> str:
    """What is learned before an answer, with a thought before it or without one."""
    prompting = Prompting(jinja=template, tokens=dict(tokens), stops=stops).in_parts()
    said = (Message("user", "question"), Message("assistant", "answer", reasoning="thought" if thinks else ""))
    try:
        learned = [span.text for span in prompting.render(Conversation("question", "answer", messages=said, where="")) if span.learn]
    except LoraForgeError:  # no place for thoughts
        return ""
    return learned[-1].partition("answer")[0] if learned else ""
