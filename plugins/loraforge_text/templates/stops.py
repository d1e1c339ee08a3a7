"""Which tokens end an answer: the one that was trained, and the others that `sample` stops at."""

from __future__ import annotations

from loraforge import LoraForgeError

from ..base_files import BaseFiles
from ..records import Conversation
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
    others = [stop for stop in base.stops if _NO_END_BESIDE.get(stop) not in base.added]
    return tuple(dict.fromkeys(base.added[stop] for stop in [trained, *others] if stop in base.added))
