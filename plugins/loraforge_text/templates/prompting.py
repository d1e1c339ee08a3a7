# SPDX-License-Identifier: Apache-2.0
"""A base's way of asking: messages to text, through the Jinja sandbox of transformers, the one that servers use."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loraforge import DataError, Span, speaker

from ..records import Conversation, Message
from .conversation import Parts, Style, as_mapping, check_calls, check_context, check_tools, merged, messages_of, parts_of, styles
from .formats import FORMATS
from .inline import fill, fits_inline
from .reasoning import ANSWER, QUESTION, STRUCTURE, SYSTEM, AnswerForm, ending, find_form, follow, place_of
from .rendering import SECONDS, render, render_ahead

say = speaker(__name__)

# Some templates print today's date, which would make every day's prompts another training set: it is pinned, and the manifest says so.
# It is the day that Llama 3's own template falls back to.
PINNED_DATE = "26 Jul 2024"
_A_TOOL = {"type": "function", "function": {"name": "look_up", "description": "-", "parameters": {"type": "object", "properties": {}}}}


@dataclass(frozen=True)
class Prompting:
    """All that decides the text of a prompt. The manifest keeps it; an opened run is rebuilt from it.

    Attributes:
        jinja: a chat template, or None when ``inline`` is used.
        inline: an inline string such as ``[INST]{instruction}[/INST]``.
        kwargs: what the chat template is called with besides the messages.
        tokens: the base's named special tokens.
        stops: the tokens that end an answer, the usual one first.
        bos: what stands before an inline prompt.
        reasoning: ``learn``: answers keep their reasoning even where the template has no place for it; ``drop``: they lose it; empty: it
            is learned where the template puts it.
        parts: texts reach the template as ``[{"type": "text", "text": ...}]``, as it takes nothing else.
    """

    jinja: str | None = None
    inline: str | None = None
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tokens: Mapping[str, str] = dataclasses.field(default_factory=dict)
    stops: tuple[str, ...] = ()
    bos: str = ""
    system: str | None = None
    reasoning: str = ""
    parts: bool = False

    @property
    def stop(self) -> str:
        """The usual stop token, or nothing if the base has none."""
        return self.stops[0] if self.stops else ""

    # --- rendering ---------------------------------------------------------------------------------------------------------

    def text(self, messages: Sequence[Mapping[str, Any]], *, ask: bool, tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The chat template's text of messages; ``ask`` adds what asks for an answer.

        Raises:
            DataError: with what the template itself complains about.
        """
        # Gemma and others know no system role; the first question carries it, as their own documentation advises.
        folded = _folded(messages)
        if folded is not None and self.folds_system:
            return self._written(folded, ask, tools)
        try:
            return self._written(messages, ask, tools)
        except DataError:
            if folded is None:
                raise
            with contextlib.suppress(DataError):
                return self._written(folded, ask, tools)
            raise

    def _written(self, messages: Sequence[Mapping[str, Any]], ask: bool, tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The chat template's text of these messages.

        Raises:
            DataError: with what the template itself complains about.
            ModelError: if the template comes to no end, or takes too much memory.
        """
        text = render(self.jinja or "", self._contents(messages), list(tools) or None, ask, self._values, PINNED_DATE, SECONDS)
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise DataError(
                say("half a character (a lone surrogate) stands in the row or in what the chat template writes; that is no text.")
            )
        return text

    def _contents(self, messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        if not self.parts:
            return messages
        texts = [one.get("content") for one in messages]
        made = [[{"type": "text", "text": text}] if isinstance(text, str) and text else text for text in texts]
        return [{**one, "content": content} for one, content in zip(messages, made, strict=True)]

    @property
    def _values(self) -> dict[str, Any]:
        return {"bos_token": "", "eos_token": self.stop, **self.tokens, "date_string": PINNED_DATE, **self.kwargs}

    def render_ahead(self, records: Sequence[Conversation]) -> None:
        """Prepares what ``render`` will need for the last answers of ordinary rows, which is most of all."""
        if self.inline is not None:
            return
        requests: list[Mapping[str, Any]] = []
        for record in records:
            if record.prompt_template or record.tools or not record.output or any(one.tool_calls for one in record.messages):
                continue
            messages = [self._mapping(one, Style()) for one in self._all(record)]
            for said, ask in ((messages[:-1], True), (messages, False)):
                folded = _folded(said) if self.folds_system else None
                requests.append(
                    {"messages": self._contents(folded or said), "tools": None, "ask": ask, "values": self._values, "day": PINNED_DATE}
                )
        render_ahead(self.jinja or "", requests, SECONDS)

    def _all(self, record: Conversation) -> list[Message]:
        content = record.system if record.system is not None else self.system
        return [*([Message("system", content)] if content else []), *messages_of(record)]

    def in_parts(self) -> Prompting:
        """This one with ``parts`` where the template shows more of a conversation then: found by rendering."""
        other = dataclasses.replace(self, parts=True)
        return other if self.jinja and len(shown := self._shown()) < 3 and shown < other._shown() else self

    def _shown(self) -> set[str]:
        """Which texts of a short conversation the template writes, as far as it takes one; none where it writes data structures."""
        said = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
        for messages in (said, said[1:], said[1:2]):
            with contextlib.suppress(DataError):
                text = self._written(messages, False)
                return {word for word in (SYSTEM, QUESTION, ANSWER) if word in text} if not STRUCTURE.search(text) else set()
        return set()

    @functools.cached_property
    def folds_system(self) -> bool:
        """Whether the template refuses a system message, or leaves it out without a word."""
        asked = {"role": "user", "content": QUESTION}
        try:
            written = self._written([{"role": "system", "content": SYSTEM}, asked], True)
        except DataError:
            with contextlib.suppress(DataError):
                return QUESTION in self._written([asked], True)
            return False
        return QUESTION in written and SYSTEM not in written

    def sample(self, messages: Sequence[Mapping[str, Any]], *, ask: bool) -> str:
        """``text`` of messages without tools, or with one where the template is made for conversations with tools only."""
        try:
            return self.text(messages, ask=ask)
        except DataError:
            with contextlib.suppress(DataError):
                return self.text(messages, ask=ask, tools=[_A_TOOL])
            raise

    @functools.cached_property
    def form(self) -> AnswerForm:
        """How the template writes reasoning."""
        off = dataclasses.replace(self, kwargs={**self.kwargs, "enable_thinking": False})
        return find_form(self.sample, off.sample, self.jinja or "")

    # --- rows --------------------------------------------------------------------------------------------------------------

    def render(self, record: Conversation) -> list[Span]:
        """The spans of one row: prompts as they will be asked, and after each the answer with its stop token.

        Earlier answers are learned where the conversation shows them, when the last one is asked for, as they were given. Where the
        template shows them otherwise (thinking models drop their thoughts), they are context.

        Raises:
            DataError: if the template cannot write the row so that it is learned as it will be asked.
        """
        if self.inline is not None:
            return self._render_inline(record, self.inline)
        messages = self._all(record)
        tools = json.loads(record.tools) if record.tools else []
        try:
            return self._styled(messages, tools)
        except DataError as error:
            raise self._in_turns(messages, tools, error) from None

    def _in_turns(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], refused: DataError) -> DataError:
        """What is said of a refused row: in our words if it would be taken with its turns merged."""
        turns, said = merged(messages)
        if not said:
            return refused
        try:
            self._styled(turns, tools)
        except DataError:
            return refused
        return DataError(
            say(
                "{said}, and this base's chat template wants questions and answers in turns. Make one message of the two. ({error})",
                said=said,
                error=refused,
            )
        )

    def _styled(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[Span]:
        """The spans, with calls of tools in the first style that the template takes."""
        if not any(message.tool_calls for message in messages):
            return self._spans(messages, tools, Style())
        first: DataError | None = None
        for style in styles():
            try:
                return self._spans(messages, tools, style)
            except DataError as error:
                first = first or error
        assert first is not None
        raise first

    def _spans(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], style: Style) -> list[Span]:
        answers = [i for i, message in enumerate(messages) if message.role == "assistant" and message.learn]
        asked = len(messages) if not answers or answers[-1] < len(messages) - 1 else answers[-1]
        prompt = self._prompt(messages[:asked], tools, style)
        if tools:
            first = next((i for i, message in enumerate(messages) if message.role == "assistant"), 0)
            check_tools(tools, self._prompt(messages[:first], tools, style) if first else prompt)
        if any(message.role != "user" for message in messages[1:asked]):
            check_context(messages[1:asked], prompt)
        spans: list[Span] = []
        place = 0
        for i in answers:
            if i == asked:
                continue
            before = self._prompt(messages[:i], tools, style)
            if len(before) < place or not prompt.startswith(before):
                continue
            learned = self._learned(before, messages[: i + 1], tools, style)
            if prompt.startswith(before + learned):
                spans += [Span(prompt[place : len(before)]), Span(learned, learn=True)]
                place = len(before + learned)
        spans.append(Span(prompt[place:]))
        if asked < len(messages):
            spans.append(Span(self._learned(prompt, messages, tools, style), learn=True))
        return spans

    def _prompt(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], style: Style) -> str:
        return self.text([self._mapping(message, style) for message in messages], ask=True, tools=tools)

    def _mapping(self, message: Message, style: Style) -> dict[str, Any]:
        if message.role != "assistant":
            return as_mapping(message, "", style)
        return as_mapping(message, self._way(parts_of(message)), style)

    def _way(self, parts: Parts) -> str:
        """How the reasoning of an answer reaches the template; nothing: not at all.

        Raises:
            DataError: if the template has no place for it, and nobody said what to do.
        """
        if not parts.thought or self.reasoning == "drop":
            return ""
        if self.form.place:
            return self.form.way(parts)
        if self.form.written and (parts.written or self.reasoning == "learn"):
            return "written"
        raise DataError(no_place(self.form.written))

    def _learned(self, prompt: str, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], style: Style) -> str:
        """The last message, an answer, and its stop token, as they follow ``prompt``.

        Raises:
            DataError: if the template writes an answered conversation otherwise than it asks for the answer.
        """
        message = messages[-1]
        parts = parts_of(message)
        way = self._way(parts)
        thought = parts.thought if self.reasoning != "drop" else ""
        full = self.text([self._mapping(one, style) for one in messages], ask=False, tools=tools)
        answer = parts.answer.strip()
        anchor = next((one.content.strip() for one in reversed(messages[:-1]) if one.role != "assistant" and one.content.strip()), "")
        tail = follow(prompt, full, anchor, answer, self.form.header, self.stops)
        if tail and self.form.header.strip() and not prompt.endswith(self.form.header):
            # After what a tool gave, some templates begin a new turn in finished conversations only.
            tail = tail.removeprefix(self.form.header)
        if self.form.opens(prompt) and not (
            tail and full.startswith(prompt) and _closes(tail[: self._place(tail, answer)], thought, self.form.close)
        ):
            # The prompt opens a thought that the template leaves out of finished answers: the model has to continue and close it itself.
            rest = full[self._place(full, answer) :] if answer else (tail or "").lstrip()
            tail = thought + self.form.close + rest
        elif thought and self.form.marks and tail is not None:
            tail = self.form.think(thought, tail)
        elif thought and way != "written" and (tail is None or thought not in tail):
            raise DataError(no_place(self.form.written))
        if tail is None:
            names = [name for name, one in FORMATS.items() if one.misfit(name, self.stops) is None]
            raise DataError(
                say(
                    "the base's chat template writes a finished answer otherwise than it asks for one, so it cannot be trained as "
                    "it will be "
                    "served. Take the base's newest chat_template.jinja, or another prompt_template that its tokens allow: {names}.",
                    names=", ".join(names),
                )
            )
        learned = self._ended(tail, answer, message)
        check_calls(message, learned)
        return learned

    def _place(self, text: str, answer: str) -> int:
        """Where the answer begins; at the end if it does not stand there."""
        place = place_of(text, answer, self.stops)
        return place if place >= 0 else len(text)

    def _ended(self, tail: str, answer: str, message: Message) -> str:
        """An answer up to the end of its stop token, or with the usual one where the template writes none."""
        place = place_of(tail, answer, self.stops)
        after = place + len(answer) if place >= 0 else 0
        if message.tool_calls:
            names = [json.dumps(call["name"])[1:-1] for call in json.loads(message.tool_calls)]
            after = max([after, *(tail.rfind(name) for name in names)])
        end = ending(tail[after:], self.stops)
        return tail[:after] + end if end is not None else tail.rstrip() + self.stop

    def _render_inline(self, record: Conversation, inline: str) -> list[Span]:
        problem = fits_inline(inline, record, None)  # what the config brings was looked at when the run was prepared
        if problem:
            raise DataError(problem)
        messages = messages_of(record)
        spans = []
        for asked, answer in zip(messages[::2], [*messages[1::2], None], strict=False):
            # The last question of an ordinary row has its material apart; those before it are one text.
            last = asked is messages[-1] or answer is messages[-1]
            own = last and not record.messages
            current = record if own else dataclasses.replace(record, instruction=asked.content, input="")
            spans.append(Span(self.bos + fill(inline, current, self.system)))
            if answer is not None:
                spans.append(Span(self._plain(answer) + self.stop, learn=answer.learn))
        return spans

    def _plain(self, message: Message) -> str:
        """An answer where there is no chat template.

        Raises:
            DataError: if it comes with reasoning, and nobody said what to do with it.
        """
        parts = parts_of(message)
        if not parts.thought:
            return message.content
        if self.reasoning == "drop":
            return parts.answer
        if not parts.written and self.reasoning != "learn":
            raise DataError(no_place(written=True))
        return str(as_mapping(message, "written")["content"])


def no_place(written: bool) -> str:
    """What is said of reasoning that the template has no place for; ``written``: whether it can be learned all the same."""
    if written:
        return say(
            "the answer comes with its reasoning, and this base's chat template has no place for reasoning. Set 'reasoning: "
            "learn' to learn "
            "it before the answer, between <think> and </think>, or 'reasoning: drop' to learn the answers alone."
        )
    return say(
        "the answer comes with its reasoning, and this base's chat template leaves reasoning out. Set 'reasoning: drop' to learn "
        "the answers "
        "alone, or take a base that shows its reasoning."
    )


def _closes(before: str, thought: str, close: str) -> bool:
    """Whether what stands between a prompt that opens a thought and the answer closes it, with the whole thought before that."""
    return thought in before and close.strip() in before and (bool(thought) or before.strip().startswith(close.strip()))


def _folded(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]] | None:
    """The messages with the system message in the first question; None where that cannot be."""
    if len(messages) < 2 or messages[0]["role"] != "system" or messages[1]["role"] != "user":
        return None
    return [{"role": "user", "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}, *messages[2:]]


def pinned_date(pattern: str) -> str:
    """``PINNED_DATE`` in the form that a template asks for."""
    from datetime import datetime

    return datetime.strptime(PINNED_DATE, "%d %b %Y").strftime(pattern)
