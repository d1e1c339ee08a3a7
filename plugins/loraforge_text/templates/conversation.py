# SPDX-License-Identifier: Apache-2.0
"""A row as messages, in the forms that chat templates read."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loraforge import DataError, speaker

from ..records import Conversation, Message

say = speaker(__name__)

# An answer that begins with its reasoning; the mark that opens it may have stood in the prompt.
_INLINE = re.compile(r"\s*(?:<think>)?((?:(?!</?think>).)*)</think>\s*(?=\S)(.*)", re.DOTALL)


@dataclass(frozen=True)
class Parts:
    """An assistant's message taken apart.

    Attributes:
        thought: the reasoning, without marks; empty: none.
        answer: what follows it.
        written: the whole as the row has it, where reasoning and answer stand in one text; otherwise empty.
    """

    thought: str
    answer: str
    written: str = ""


def parts_of(message: Message) -> Parts:
    """The reasoning and the answer of an assistant's message."""
    if message.reasoning.strip():
        return Parts(message.reasoning.strip(), message.content)
    found = _INLINE.fullmatch(message.content) if "</think>" in message.content else None
    return Parts(found[1].strip(), found[2].strip(), message.content) if found else Parts("", message.content)


def messages_of(record: Conversation) -> list[Message]:
    """The whole conversation of a row but its system message, ending with the answer if there is one."""
    if record.messages:
        return list(record.messages)
    turns = [*record.history, (record.question, record.output)]
    said = [message for question, answer in turns for message in (Message("user", question), Message("assistant", answer))]
    return said if record.output else said[:-1]


def merged(messages: Sequence[Message]) -> tuple[list[Message], str]:
    """Messages with every two questions, or two answers, that follow each other made one; and which these are first, for people."""
    made: list[Message] = []
    said = ""
    for number, message in enumerate(messages, 1):
        last = made[-1] if made and made[-1].role == message.role else None
        if last is None or message.role not in ("user", "assistant") or any(one.tool_calls or one.reasoning for one in (last, message)):
            made.append(message)
            continue
        if not said and message.role == "user":
            said = say("its messages {first} and {second} are two questions in a row", first=number - 1, second=number)
        elif not said:
            said = say("its messages {first} and {second} are two answers in a row", first=number - 1, second=number)
        made[-1] = dataclasses.replace(message, content=f"{last.content}\n\n{message.content}")
    return made, said


def thoughts_in(record: Conversation) -> tuple[int, int, int]:
    """How many answers of a row are learned, how many of them have reasoning, and for how many of these it has a field of its own."""
    answers = [parts_of(one) for one in messages_of(record) if one.role == "assistant" and one.learn]
    thoughts = [one for one in answers if one.thought]
    return len(answers), len(thoughts), sum(not one.written for one in thoughts)


@dataclass(frozen=True)
class Style:
    """How calls of tools reach a chat template.

    Attributes:
        text: the arguments as JSON text, not as an object.
        numbered: calls get ids of nine letters and digits, as Mistral's templates demand.
        empty: what a message that only calls tools has as its content.
    """

    text: bool = False
    numbered: bool = False
    empty: str | None = ""


def styles() -> Iterator[Style]:
    """All of them, the usual first."""
    return (Style(text, numbered, empty) for numbered, empty, text in itertools.product((False, True), ("", None), (False, True)))


def calls_of(message: Message) -> list[dict[str, Any]]:
    """The calls of an assistant's message: id, name, arguments."""
    return [dict(call) for call in json.loads(message.tool_calls)] if message.tool_calls else []


def _number(call: str) -> str:
    """An id of nine letters and digits that is always the same for the same one."""
    import hashlib

    return hashlib.sha256(call.encode("utf-8", "surrogatepass")).hexdigest()[:9]


def as_mapping(message: Message, way: str = "", style: Style = Style()) -> dict[str, Any]:
    """One message as a chat template reads it.

    Args:
        way: where an assistant's reasoning goes: ``fields`` of its own, ``blocks`` of the content (``thoughts`` in Apertus' form),
            ``inline`` before the answer; or ``written``: as the row has it, marked as most models mark it where it has a field of its own;
            empty: nowhere.
    """
    made: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.role == "tool":
        made |= {"name": message.name} if message.name else {}
        made |= {"tool_call_id": _number(message.call_id) if style.numbered else message.call_id} if message.call_id else {}
    if message.role != "assistant":
        return made
    parts = parts_of(message)
    made["content"] = parts.answer
    if parts.thought and way == "fields":
        made |= {name: parts.thought for name in ("reasoning_content", "thinking", "reasoning")}
    elif parts.thought and way == "blocks":
        made["content"] = [{"type": "thinking", "thinking": parts.thought}, {"type": "text", "text": parts.answer}]
    elif parts.thought and way == "thoughts":
        blocks = [{"type": "thoughts", "text": parts.thought}, {"type": "response", "text": parts.answer}]
        made["content"] = {"blocks": blocks}
    elif parts.thought and way in ("inline", "written"):
        made["content"] = parts.written or f"<think>\n{parts.thought}\n</think>\n\n{parts.answer}"
    if message.tool_calls:
        made["tool_calls"] = [
            {
                **({"id": _number(str(call["id"])) if style.numbered else call["id"]} if call.get("id") or style.numbered else {}),
                "type": "function",
                "function": {
                    "name": call["name"],
                    "arguments": json.dumps(call["arguments"], ensure_ascii=False) if style.text else call["arguments"],
                },
            }
            for call in ({"id": "", **one} for one in calls_of(message))
        ]
        made["content"] = made["content"] or style.empty
    return made


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, str):
        yield value


def _holds(text: str, words: str) -> bool:
    """Whether a text holds these words, as they are or inside of JSON."""
    words = words.strip()
    return words in text or json.dumps(words, ensure_ascii=False)[1:-1] in text or json.dumps(words)[1:-1] in text


def check_calls(message: Message, learned: str) -> None:
    """That all of a message's calls are learned, in one way of writing.

    Raises:
        DataError: if the template has no place for them, or writes them as Python would and no tool reads.
    """
    for call in calls_of(message):
        arguments = call["arguments"]
        complete = _holds(learned, str(call["name"])) and all(_holds(learned, leaf) for leaf in _leaves(arguments))
        as_python = isinstance(arguments, Mapping) and arguments and str(dict(arguments)) in learned
        twice = json.dumps(json.dumps(arguments, ensure_ascii=False), ensure_ascii=False)[1:-1]
        if not complete or (as_python and json.dumps(arguments) != str(arguments)) or ('"' in twice and twice in learned):
            raise DataError(
                say(
                    "the base's chat template has no place for calls of tools ('{name}'), so they cannot be learned. Take another base, "
                    "or rows without tool_calls.",
                    name=call["name"],
                )
            )


def check_tools(tools: Sequence[Mapping[str, Any]], prompt: str) -> None:
    """That a prompt names the tools.

    Args:
        prompt: one without calls, which would name them too.

    Raises:
        DataError: if the template leaves them out.
    """
    for tool in tools:
        name = str((tool.get("function") or tool).get("name", ""))
        if not _holds(prompt, name):
            raise DataError(
                say("the base's chat template has no place for tools ('{name}'). Take another base, or rows without.", name=name)
            )


def check_context(messages: Sequence[Message], prompt: str) -> None:
    """That the prompt holds all that was said before, of ``messages`` (all but the first).

    Raises:
        DataError: if the template leaves something out.
    """
    for message in messages:
        check_calls(message, prompt)
        if message.role == "tool" and not _holds(prompt, message.content) and not _json_in(message.content, prompt):
            raise DataError(
                say("the base's chat template has no place for what a tool gave. Take another base, or rows without messages of tools.")
            )
        if message.role == "system" and not _holds(prompt, message.content):
            raise DataError(say("the base's chat template leaves out a system message that is not the first. Move it to the beginning."))


def _json_in(content: str, prompt: str) -> bool:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict | list) and all(_holds(prompt, leaf) for leaf in _leaves(value))
