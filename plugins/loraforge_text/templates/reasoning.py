"""Where a chat template puts reasoning, and how a finished answer follows the prompt."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os.path import commonprefix

from loraforge import DataError

from ..records import Message
from .conversation import Parts, as_mapping

# Words that occur in no template.
QUESTION, ANSWER, THOUGHT, SYSTEM = "Qzeh7 xo", "Awyx5 ob", "Rdof3 um", "Sjuk9 ip"
# A mark at the end of a prompt that opens a thought: <think>, <think:a>, <seed:think>, <mm:think>, [THINK], <|START_THINKING|>.
_TAG = re.compile(r"(?:<([\w:.-]*(?:think|thought|reason)[\w:.-]*)>|\[(THINK)\]|<\|START_(THINKING)\|>)(\s*)$", re.IGNORECASE)
_THINKS = re.compile(r"think|thought|reason", re.IGNORECASE)


@dataclass(frozen=True)
class AnswerForm:
    """How a template writes reasoning.

    Attributes:
        ways: how reasoning reaches the template so that it stands before the answer (see ``as_mapping``), the usual first.
        opened: whether the prompt itself opens a thought, which the model has to close.
        close: what then stands between the thought and the answer.
        written: whether a text in which both stand comes through as it is.
    """

    ways: tuple[str, ...] = ()
    opened: bool = False
    close: str = ""
    written: bool = False

    @property
    def place(self) -> bool:
        """Whether the template has a place for reasoning."""
        return bool(self.ways) or self.opened

    def way(self, parts: Parts) -> str:
        """How the reasoning of one answer reaches the template; nothing: it has no way of its own."""
        if parts.written and "inline" in self.ways:
            return "inline"
        return self.ways[0] if self.ways else ""


def closing(prompt: str) -> str | None:
    """What closes the thought that a prompt opens, in the way of its opening; None: it opens none."""
    found = _TAG.search(prompt)
    if found is None:
        return None
    tag, bracket, _, space = found.groups()
    mark = f"</{tag}>" if tag else "[/THINK]" if bracket else "<|END_THINKING|>"
    return f"\n{mark}\n\n" if space else mark


def find_form(text: Callable[..., str], source: str) -> AnswerForm:
    """The form of a template's answers, found by rendering words that it cannot know.

    Args:
        text: ``Prompting.text`` of mappings.
        source: the template.
    """
    asked = {"role": "user", "content": QUESTION}
    prompt = text([asked], ask=True)
    ways: list[str] = []
    close = closing(prompt)
    opened = close is not None
    for way in ("fields", "blocks", "inline"):
        if way == "inline" and "</think>" not in source:
            continue
        full = _written(text, asked, Message("assistant", ANSWER, reasoning=THOUGHT), way)
        if full is None or not full.startswith(prompt):
            continue
        start, end = full.index(THOUGHT), full.index(ANSWER)
        if opened and THOUGHT not in full[len(prompt) : len(prompt) + len(THOUGHT)] and full[len(prompt) : start].strip():
            continue  # it opens the thought once more
        ways.append(way)
        if start == len(prompt):
            opened, close = True, full[start + len(THOUGHT) : end]
    plain = f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"
    whole = _written(text, asked, Message("assistant", plain), "written")
    written = not opened and whole is not None and whole.startswith(prompt) and plain in whole[len(prompt) :]
    return AnswerForm(tuple(ways), opened, close or "", written)


def _written(text: Callable[..., str], asked: dict[str, str], message: Message, way: str) -> str | None:
    """The finished conversation, if thought and answer stand in it once and in this order."""
    try:
        full = text([asked, as_mapping(message, way)], ask=False)
    except DataError:
        return None
    once = full.count(THOUGHT) == 1 and full.count(ANSWER) == 1
    return full if once and full.index(THOUGHT) < full.index(ANSWER) else None


def follow(prompt: str, full: str, anchor: str, answer: str) -> str | None:
    """What of a finished conversation follows the prompt; None where it is another conversation.

    Most templates write a finished answer behind the very prompt. Some leave out of it what only the prompt has: a thought that is closed
    at once, a system message that stands before the last question. What is served is the prompt; the answer follows it.

    Args:
        anchor: the last text before the answer.
        answer: the answer.
    """
    if full.startswith(prompt):
        return full[len(prompt) :]
    place = full.rfind(answer) if answer else len(full)
    start = full.rfind(anchor, 0, place) if anchor else -1
    if start < 0 or anchor not in prompt:
        return None
    asked, written = prompt[prompt.rfind(anchor) + len(anchor) :], full[start + len(anchor) :]
    same = commonprefix([asked, written])
    # Not in the middle of a mark: <think> and </think> share a bracket.
    cut = max((same.rfind(bracket) for bracket in "<[" if same.rfind(bracket) > same.rfind({"<": ">", "[": "]"}[bracket])), default=-1)
    same = same[:cut] if cut >= 0 and len(same) < len(asked) else same
    extra, rest = asked[len(same) :], written[len(same) :]
    if extra.strip() and not _THINKS.search(extra):
        return None
    overlap = max((n for n in range(len(extra) + 1) if extra.endswith(rest[:n]) and len(rest) >= n), default=0)
    return rest[overlap:]


def ending(rest: str, stops: Sequence[str]) -> str | None:
    """What of the text after an answer belongs to it: up to the end of the first stop token; None if there is no stop token in it."""
    # The line break that follows the stop token in ChatML is the server's, not the model's.
    ends = [rest.index(stop) + len(stop) for stop in stops if stop and stop in rest]
    return rest[: min(ends)] if ends else None
