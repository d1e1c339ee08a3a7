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
    inner = _inner(base.chat_template, tuple(base.tokens.items()), base.stops) if base.chat_template else frozenset()
    others = [stop for stop in base.stops if stop not in inner and _NO_END_BESIDE.get(stop) not in base.added]
    return tuple(dict.fromkeys(base.added[stop] for stop in [trained, *others] if stop in base.added))


@functools.cache
def _inner(template: str, tokens: tuple[tuple[str, str], ...], stops: tuple[str, ...]) -> frozenset[str]:
    """Those of ``stops`` that an answer goes on after: they end its thought in this template."""
    prompting = Prompting(jinja=template, tokens=dict(tokens), stops=stops)
    thought = (Message("user", "question"), Message("assistant", "answer", reasoning="thought"))
    try:
        learned = [span.text for span in prompting.render(Conversation("question", "answer", messages=thought, where="")) if span.learn]
    except LoraForgeError:  # no place for thoughts
        return frozenset()
    before = learned[-1].partition("answer")[0] if learned else ""
    return frozenset(stop for stop in stops if stop and stop in before)
