# SPDX-License-Identifier: Apache-2.0
"""Where a chat template puts reasoning, and how a finished answer follows the prompt."""

from __future__ import annotations

import bisect
import contextlib
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
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


# A thought that is closed as soon as it is opened, and what closes it.
_EMPTY = re.compile(
    r"<([\w:.-]*(?:think|thought|reason)[\w:.-]*)>\s*</\1>\s*|\[THINK\]\s*\[/THINK\]|<\|START_THINKING\|>\s*<\|END_THINKING\|>"
    r"|<\|channel>thought\s*<channel\|>",
    re.IGNORECASE,
)
_CLOSE = re.compile(r"(?:</[^<>]+>|\[/THINK\]|<\|END_THINKING\|>|<channel\|>)\s*$", re.IGNORECASE)
_MARK = re.compile(r"<[|｜/]?[\w:.▁ -]{1,40}[|｜]?>|\[/?[A-Z_]{2,30}\]")
_SPACE = re.compile(r"\s*")
# A message's data as Python or JSON writes them.
STRUCTURE = re.compile(r"""['"](?:type|blocks)['"]: """)
_WAYS = ("fields", "blocks", "thoughts", "inline")


@dataclass(frozen=True)
class AnswerForm:
    """How a template writes reasoning.

    Attributes:
        ways: how reasoning reaches the template so that it stands before the answer (see ``as_mapping``), the usual first.
        header: what the template adds to ask for an answer.
        opened: whether the prompt itself opens a thought, which the model has to close.
        close: what then stands between the thought and the answer.
        marks: what the model itself writes before and after a thought, where the template never writes one.
        written: whether a text in which both stand comes through as it is.
    """

    ways: tuple[str, ...] = ()
    header: str = ""
    opened: bool = False
    close: str = ""
    marks: tuple[str, str] | None = None
    written: bool = False

    @property
    def place(self) -> bool:
        """Whether the template has a place for reasoning."""
        return bool(self.ways) or self.opened or self.marks is not None

    def way(self, parts: Parts) -> str:
        """How the reasoning of one answer reaches the template; nothing: it has no way of its own."""
        if parts.written and "inline" in self.ways:
            return "inline"
        return self.ways[0] if self.ways else ""

    def opens(self, prompt: str) -> bool:
        """Whether this prompt opens a thought: after what a tool gave, some do not."""
        return self.opened and prompt.endswith(self.header)

    def think(self, thought: str, tail: str) -> str:
        """What the model writes where the template never writes a thought: it, in its marks, before ``tail``, or in the empty "
        "ones there."""
        assert self.marks is not None
        whole = thought.join(self.marks)
        found = _EMPTY.match(tail)
        return whole + tail[found.end() :] if found else whole + tail


def closing(prompt: str) -> str | None:
    """What closes the thought that a prompt opens, in the way of its opening; None: it opens none."""
    found = _TAG.search(prompt)
    if found is None:
        return None
    tag, bracket, _, space = found.groups()
    mark = f"</{tag}>" if tag else "[/THINK]" if bracket else "<|END_THINKING|>"
    return f"\n{mark}\n\n" if space else mark


def _halves(empty: str) -> tuple[str, str]:
    """An empty thought as what opens and what closes one."""
    found = _CLOSE.search(empty)
    assert found is not None
    opening, close = empty[: found.start()], found[0]
    line = opening.endswith("\n")
    return opening.rstrip("\n") + ("\n" if line else ""), ("\n" if line else "") + close


def find_form(text: Callable[..., str], off: Callable[..., str], source: str) -> AnswerForm:
    """The form of a template's answers, found by rendering words that it cannot know.

    Args:
        text: ``Prompting.sample``.
        off: the same with thinking switched off.
        source: the template.
    """
    asked = {"role": "user", "content": QUESTION}
    prompt, bare = text([asked], ask=True), text([asked], ask=False)
    header = prompt[len(bare) :] if prompt.startswith(bare) else ""
    ways: list[str] = []
    close = closing(prompt)
    opened = close is not None
    for way in _WAYS:
        if way == "inline" and "</think>" not in source:
            continue
        tail = _tail(text, prompt, asked, Message("assistant", ANSWER, reasoning=THOUGHT), way)
        if tail is None:
            continue
        before = tail[: tail.index(THOUGHT)]
        if re.search(r"think|thought", before, re.IGNORECASE) and (opened or "/" in before):
            continue  # it opens the thought once more, or behind one that it has closed
        ways.append(way)
        if not before:
            opened, close = True, tail[len(THOUGHT) : tail.index(ANSWER)]
    plain = f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"
    whole = _tail(text, prompt, asked, Message("assistant", plain), "written")
    written = not opened and whole is not None and plain in whole
    marks = None if ways or opened else _marks(text, off, prompt, asked)
    return AnswerForm(tuple(ways), header, opened, close or "", marks, written and marks is None)


def _marks(text: Callable[..., str], off: Callable[..., str], prompt: str, asked: Mapping[str, str]) -> tuple[str, str] | None:
    """How the model writes a thought that the template takes out of all it writes: as the empty one that stands in its place."""
    # What thinking adds may stand in the system message too.
    quiet, loud = (one[one.rfind(QUESTION) :] for one in (off([asked], ask=True), prompt))
    extra = quiet[len(loud) :] if quiet.startswith(loud) else ""
    found = _EMPTY.fullmatch(extra.strip(" ")) if extra else None
    if found is None:
        with contextlib.suppress(DataError):
            tail = follow(prompt, text([asked, {"role": "assistant", "content": ANSWER}], ask=False), QUESTION, ANSWER)
            found = _EMPTY.match(tail or "")
    return _halves(found[0]) if found else None


def _tail(text: Callable[..., str], prompt: str, asked: Mapping[str, str], message: Message, way: str) -> str | None:
    """What follows the prompt in the finished conversation, if thought and answer stand in it once and in this order."""
    try:
        full = text([asked, as_mapping(message, way)], ask=False)
    except DataError:
        return None
    once = full.count(THOUGHT) == 1 and full.count(ANSWER) == 1
    if not once or full.index(THOUGHT) > full.index(ANSWER) or STRUCTURE.search(full[full.index(QUESTION) :]):
        return None  # left out, or its data structure written as it is
    if full.startswith(prompt):
        return full[len(prompt) :]
    tail = follow(prompt, full, QUESTION, ANSWER)
    # Apriel's prompt opens the thought in words that its finished answers lack. One that is closed is none.
    words = tail is not None and tail.startswith(THOUGHT) and not _CLOSE.search(prompt)
    return tail if words else None


def place_of(text: str, answer: str, stops: Sequence[str]) -> int:
    """Where an answer stands in a finished conversation, or in its end: the last time, but not within a stop token or another mark.

    An answer may be a single letter, which stands in ``<|im_end|>`` as well. -1: nowhere.
    """
    if not answer:
        return -1
    marks = [found.span() for stop in stops if stop for found in re.finditer(re.escape(stop), text)]
    marks = sorted(marks + [found.span() for found in _MARK.finditer(text) if found[0] != answer])
    starts = [start for start, _ in marks]
    reach = list(itertools.accumulate((end for _, end in marks), max))  # how far the marks up to each one go
    last = free = -1
    place = text.rfind(answer)
    while place >= 0:  # from the end: the first that fits is it
        end = place + len(answer)
        before = bisect.bisect_left(starts, end)
        if not before or reach[before - 1] <= place:
            next_word = _SPACE.match(text, end).end()  # type: ignore[union-attr]
            if next_word == len(text) or text[next_word] in "<[" or any(stop and text.startswith(stop, next_word) for stop in stops):
                return place
            free = place if free < 0 else free
        last = place if last < 0 else last
        place = text.rfind(answer, 0, end - 1)
    return free if free >= 0 else last


def follow(prompt: str, full: str, anchor: str, answer: str, header: str = "", stops: Sequence[str] = ()) -> str | None:
    """What of a finished conversation follows the prompt; None where it is another conversation.

    Most templates write a finished answer behind the very prompt. Some leave out of it what only the prompt has: a thought that is closed
    at once, a system message that stands before the last question, a header after what a tool gave. What is served is the prompt; the
    answer follows it.

    Args:
        anchor: the last text before the answer.
        answer: the answer.
        header: what the template adds to ask for an answer.
        stops: the tokens that end an answer.
    """
    if full.startswith(prompt):
        return full[len(prompt) :]
    place = place_of(full, answer, stops) if answer else len(full)
    written_as = json.dumps(anchor, ensure_ascii=False)[1:-1]  # what a tool gave often stands in JSON
    anchor = anchor if anchor in prompt else written_as
    start = full.rfind(anchor, 0, place) if anchor else -1
    if start < 0 or anchor not in prompt:
        return None
    asked, written = prompt[prompt.rfind(anchor) + len(anchor) :], full[start + len(anchor) :]
    place -= start + len(anchor)
    if "".join(asked.split()) == "".join(written[:place].split()):
        return written[place:]
    same = commonprefix([asked, written])  # noqa: RUF071  characters are meant
    # Not in the middle of a mark: <think> and </think> share a bracket.
    cut = max((same.rfind(bracket) for bracket in "<[" if same.rfind(bracket) > same.rfind({"<": ">", "[": "]"}[bracket])), default=-1)
    same = same[:cut] if cut >= 0 and len(same) < len(asked) else same
    extra, rest = asked[len(same) :], written[len(same) :]
    if extra.strip() and not _THINKS.search(extra) and not (extra == header and answer and rest.startswith(answer)):
        return None
    lead = max(0, place - len(same)) if answer else len(rest)  # what stands before the answer
    overlap = max(n for n in range(min(len(extra), lead) + 1) if extra.endswith(rest[:n]))
    return rest[overlap:]


def ending(rest: str, stops: Sequence[str]) -> str | None:
    """What of the text after an answer belongs to it: up to the end of the first stop token; None if there is no stop token in it."""
    # The line break that follows the stop token in ChatML is the server's, not the model's.
    ends = [rest.index(stop) + len(stop) for stop in stops if stop and stop in rest]
    return rest[: min(ends)] if ends else None
