# SPDX-License-Identifier: Apache-2.0
"""The shapes of a conversation, OpenAI's, ShareGPT's, TRL's and others, to messages, and messages to a record's fields."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loraforge import speaker

from ..records import Message
from .readers.number_formats import cell_text
from .tools import read_calls

say = speaker(__name__)

_ROLES: Mapping[str, str] = {
    "user": "user", "human": "user", "用户": "user", "question": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant", "助手": "assistant",
    "system": "system", "developer": "system", "系统": "system",
    "tool": "tool", "function": "tool", "ipython": "tool", "observation": "tool", "tool_response": "tool", "tool_result": "tool",
    "工具": "tool",
    "function_call": "call", "tool_call": "call",
}  # fmt: skip
_TEXT = ("content", "value", "text")
_REASONING = ("reasoning_content", "reasoning", "thinking", "thought", "thoughts")
_LEARN = ("weight", "loss_weight", "loss", "train", "training", "trainable", "is_trainable", "learn", "learnable", "do_train")
# Some libraries learn what these mark, others all the rest.
MASKS = ("mask", "loss_mask", "masked", "ignore", "skip", "exclude", "masking")
_USED = frozenset(("role", "from", *_TEXT, *_REASONING, *_LEARN, *MASKS, "tool_calls", "function_call", "tool_call_id"))
# One turn as an object: BELLE's {"human", "assistant"}, XTuner's {"system", "input", "output"}.
_TURN: Mapping[str, str] = {
    "system": "system",
    **dict.fromkeys(("human", "user", "question", "instruction", "prompt", "input", "query", "q", "用户", "问题", "问"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot", "model", "answer", "output", "response", "a", "助手", "答案", "回答", "答"), "assistant"),
}
_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_CODE = re.compile(r" {4,}|\t+")


@dataclass
class Remarks:
    """What was left out of the conversations of one file: told once for all its rows.

    Attributes:
        columns: columns beside messages that are not used, by the name of their count.
        keys: keys of messages that mean nothing here.
        counts: how many rows each thing happened to, by its name below.
        first: the first of these rows.
    """

    keys: dict[str, None] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)

    def beside(self, column: str, where: str) -> None:
        """A row has messages, and something in this column that is not used."""
        self.columns[f"beside {column}"] = column
        self.add(f"beside {column}", where)

    def add(self, what: str, where: str) -> None:
        self.counts[what] += 1
        self.first.setdefault(what, where)

    def tell(self, file: str, note: Callable[[str], None]) -> None:
        """One note for each kind of thing."""
        sentences: Mapping[str, Callable[[int], str]] = {
            "nothing": lambda n: say("{n} rows in which nothing is to be learned are left out", n=n),
            "bad": lambda n: say("{n} rows whose answer is marked as bad are left out", n=n),
            "zero": lambda n: say("{n} rows with weight 0 are left out", n=n),
            "weight": lambda n: say("{n} rows or messages have weights other than 0 and 1; they count as 1", n=n),
            "opening": lambda n: say("{n} conversations begin with an answer; it is left out, as nothing asks for it", n=n),
            "ending": lambda n: say("{n} conversations go on after the last message that is learned; the rest is left out", n=n),
            "question": lambda n: say("{n} rows mark messages of the user as to be learned; only answers are", n=n),
            "thought": lambda n: say("{n} rows have their reasoning in the answer and in a column; that of the answer is used", n=n),
            "system": lambda n: say("{n} rows have a system message and another in a column; the message is used", n=n),
            "output": lambda n: say("{n} rows have messages and an answer in a column of its own; the messages are used", n=n),
        }
        for what, count in self.counts.items():
            sentence = (
                say("{n} rows have messages and also something in '{column}', which is not used", n=count, column=self.columns[what])
                if what in self.columns
                else sentences[what](count)
            )
            note(say("{file}: {sentence} (the first: {where})", file=file, sentence=sentence, where=self.first[what]))
        if self.keys:
            note(
                say(
                    "{file}: of the messages, not used: {keys}. There are role, content, reasoning_content, "
                    "tool_calls, tool_call_id, name, weight.",
                    file=file,
                    keys=", ".join(list(self.keys)[:40]),
                )
            )


def clean(text: str) -> str:
    """Without white space around it, but with the indentation of code: of an answer whose first line begins with four spaces or a tab."""
    plain = text.strip()
    indent = text[: len(text) - len(text.lstrip())].rpartition("\n")[2]
    return indent + plain if plain and plain[0].isascii() and _CODE.fullmatch(indent) else plain


def loaded(value: Any, problems: list[str], what: str) -> list[Any]:
    """A list, also when a table's cell holds it as JSON, or as columns: ``{"role": [...], "content": [...]}``."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            problems.append(say("{what}: is not valid JSON.", what=what))
            return []
    if isinstance(value, dict):
        if is_message(value):
            return [value]
        columns = list(value.values())
        if columns and all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
            return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]
    if not isinstance(value, list):
        problems.append(say("{what}: expected a list.", what=what))
        return []
    return value


def is_message(value: Any) -> bool:
    """Whether this is a message: it has a role, and a text or calls."""
    return isinstance(value, dict) and isinstance(value.get("role", value.get("from")), str) and len(value) > 1


def are_messages(value: Any) -> bool:
    """Whether this is one message or a list of them."""
    return is_message(value) or (isinstance(value, list) and bool(value) and all(is_message(one) for one in value))


def read_messages(value: Any, problems: list[str], remarks: Remarks, where: str) -> list[Message]:
    """The messages of a conversation in any known shape."""
    made = []
    turns = [one for turn in loaded(value, problems, "messages") for one in _of_turn(turn)]
    for number, message in enumerate(turns, 1):
        if not isinstance(message, dict):
            problems.append(say("message {n}: expected a role and a text.", n=number))
            continue
        wrong: list[str] = []
        one = _message(message, wrong, remarks, where)
        problems += [say("message {n}: {problem}", n=number, problem=problem) for problem in wrong]
        if one is not None and not wrong:
            made.append(one)
    return made


def _of_turn(turn: Any) -> list[Any]:
    """The messages of a turn that is one object; anything else as it is."""
    if not isinstance(turn, dict) or "role" in turn or "from" in turn or len(turn) < 2:
        return [turn]
    roles = [_TURN.get(str(key).strip().lower()) for key in turn]
    said = dict(zip(roles, turn.values(), strict=True))
    if None in roles or len(said) < len(roles) or not all(isinstance(text, str | None) for text in turn.values()):
        return [turn]
    order = ("system", "user", "assistant")
    return [{"role": role, "content": said[role]} for role in order if said.get(role) or (role in said and role != "system")]


def transcript(value: Any) -> list[dict[str, str]]:
    """The turns of a text as hh-rlhf writes it, which begins with ``Human:``; empty if it is none."""
    parts = _SPEAKER.split(value.strip()) if isinstance(value, str) else []
    if len(parts) < 5 or parts[0].strip() or parts[1] != "Human":
        return []
    return [{"role": role.lower(), "content": text.strip()} for role, text in zip(parts[1::2], parts[2::2], strict=True)]


def text_of(parts: list[Any], wrong: list[str]) -> str:
    """The text of a list of parts."""
    made = _Parts()
    made.add(parts, wrong)
    return made.text


def _message(message: Mapping[str, Any], wrong: list[str], remarks: Remarks, where: str) -> Message | None:
    role = _ROLES.get(str(message.get("role", message.get("from"))).strip().lower())
    if role is None:
        wrong.append(
            say("the role '{role}' is unknown; there are system, user, assistant, tool.", role=message.get("role", message.get("from")))
        )
        return None
    used = {*_USED, *(("name",) if role == "tool" else ())}
    remarks.keys.update({str(key): None for key, value in message.items() if key not in used and value not in (None, "", [], {})})
    parts = _Parts()
    parts.add(next((message[key] for key in _TEXT if message.get(key) is not None), None), wrong, tool=role in ("tool", "call"))
    learn = _learns(message, wrong, remarks, where)
    if role == "call":
        return Message("assistant", "", tool_calls=read_calls(parts.text, wrong), learn=learn is not False)
    if role == "tool":
        return Message("tool", parts.text, name=str(message.get("name") or ""), call_id=str(message.get("tool_call_id") or ""))
    if role != "assistant":
        if learn:
            remarks.add("question", where)
        if not parts.text and not wrong:
            wrong.append(say("the text is empty."))
        return Message("user" if role == "user" else "system", parts.text.strip())
    thought = parts.thought or next((message[key] for key in _REASONING if message.get(key)), "")
    if not isinstance(thought, str):
        wrong.append(say("{field}: expected text, found a {kind}.", field="reasoning", kind=type(thought).__name__))
        thought = ""
    legacy = message.get("function_call")
    calls = message.get("tool_calls") or ([legacy] if legacy else None) or parts.calls
    tool_calls = read_calls(calls, wrong) if calls else ""
    if not parts.text and not tool_calls and not wrong:
        wrong.append(say("the text is empty."))
    return Message("assistant", clean(parts.text), thought.strip(), tool_calls, learn=learn is not False)


@dataclass
class _Parts:
    """A message's content: text, or a list of parts as OpenAI and LLaMA-Factory write them."""

    text: str = ""
    thought: str = ""
    calls: list[Any] = field(default_factory=list)

    def add(self, value: Any, wrong: list[str], *, tool: bool = False) -> None:
        """``tool``: what a tool gave, or is given, may be an object."""
        if value is None:
            return
        if isinstance(value, str):
            self.text += value
        elif isinstance(value, list):
            for part in value:
                self._part(part, wrong)
        elif tool:
            self.text += json.dumps(value, ensure_ascii=False, default=str)
        else:
            wrong.append(say("expected text, found a {kind}.", kind=type(value).__name__))
        if not self.text.strip():
            self.text = ""

    def _part(self, part: Any, wrong: list[str]) -> None:
        if isinstance(part, str):
            self.text += part
            return
        kind = str(part.get("type", "text")) if isinstance(part, dict) else ""
        inner = next((part[key] for key in ("text", "value", "content", kind) if part.get(key) is not None), "") if kind else ""
        if kind in ("text", "input_text", "output_text") and isinstance(inner, str):
            self.text += inner
        elif kind in ("reasoning", "thinking") and isinstance(inner, str):
            self.thought += inner
        elif kind in ("tool_call", "function_call"):
            self.calls.append(inner or part)
        elif any(word in kind for word in ("image", "video", "audio", "file", "document")):
            wrong.append(
                say(
                    "it holds a part that is no text ({kind}). A language model learns from text only: take such rows out.",
                    kind=kind,
                )
            )
        else:
            wrong.append(say("it holds a part of an unknown kind ('{kind}'); there is text.", kind=kind or type(part).__name__))


def _learns(message: Mapping[str, Any], wrong: list[str], remarks: Remarks, where: str) -> bool | None:
    """What the message says of whether it is learned; None if nothing."""
    decided: bool | None = None
    for key in MASKS:
        if message.get(key) not in (None, ""):
            wrong.append(
                say("'{key}' does not say what is learned. Write weight: 0 in the messages that are not to be learned instead.", key=key)
            )
    for key in _LEARN:
        if message.get(key) is None:
            continue
        weight = number_of(message[key])
        if weight is None:
            wrong.append(say("{key}: '{value}' is neither yes nor no.", key=key, value=message[key]))
        elif decided is not False:
            decided = weight > 0
            if weight not in (0, 1):
                remarks.add("weight", where)
    return decided


def number_of(value: Any) -> float | None:
    """A weight: a number, yes or no in any usual writing; None if it is none of these."""
    text = unicodedata.normalize("NFKC", cell_text(value)).strip().lower() if not isinstance(value, dict | list) else ""
    if text in ("true", "yes", "y", "是", "t", "on", "✓", "✔", "√"):
        return 1.0
    if text in ("false", "no", "n", "否", "f", "off", "✗", "✘", "×"):
        return 0.0
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return None
    return number if number == number else None


# --- messages to fields ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fields:
    """What a record says of a conversation."""

    system: str | None
    pairs: tuple[tuple[str, str], ...]
    messages: tuple[Message, ...]


def to_fields(messages: Sequence[Message], problems: list[str], remarks: Remarks, where: str, *, full: bool = False) -> Fields | None:
    """The conversation up to its last message that is learned; None if there is none, with the reason in ``problems`` or ``remarks``.

    Args:
        full: keep the messages even where questions and answers in turns hold them all.
    """
    rest = list(messages)
    system = rest.pop(0).content if rest and rest[0].role == "system" else None
    first = next((i for i, one in enumerate(rest) if one.role == "user"), len(rest))
    opening = [one for one in rest[:first] if one.role in ("assistant", "tool")]
    roles = ", ".join(one.role for one in rest) or say("none")
    rest = [one for one in rest if not any(one is gone for gone in opening)]
    if not any(one.role == "assistant" for one in rest):
        problems.append(say("messages: expected user and assistant in turns, ending with the assistant; found {roles}.", roles=roles))
        return None
    last = max((i + 1 for i, one in enumerate(rest) if one.role == "assistant" and one.learn), default=0)
    if not last:
        remarks.add("nothing", where)
        return None
    if opening:
        remarks.add("opening", where)
    if last < len(rest):
        remarks.add("ending", where)
    rest = rest[:last]
    plain = (
        [one.role for one in rest] == ["user", "assistant"] * (len(rest) // 2)
        and all(one == Message(one.role, one.content) for one in rest)
    )  # fmt: skip
    return Fields(system, tuple(_pairs(rest)), () if plain and not full else tuple(rest))


def _pairs(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Questions with the last answer to each; a call stands for an answer that has no text."""
    pairs: list[tuple[str, str]] = []
    asked: list[str] = []
    for one in messages:
        if one.role == "user":
            asked.append(one.content)
        elif one.role == "assistant":
            answer = one.content or one.tool_calls
            if asked:
                pairs.append(("\n".join(asked), answer))
                asked = []
            else:
                pairs[-1] = (pairs[-1][0], answer)
    return pairs


def from_pairs(pairs: Sequence[tuple[str, str]]) -> list[Message]:
    """Questions and answers as messages."""
    return [message for asked, answered in pairs for message in (Message("user", asked), Message("assistant", answered))]
