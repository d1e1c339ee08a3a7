# SPDX-License-Identifier: Apache-2.0
"""What a text run reads and which keys it has: questions and answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from loraforge import Keys, Record

_THOUGHT = re.compile(r"^.*?</think>", re.DOTALL)


@dataclass(frozen=True)
class Message:
    """One message of a conversation that questions and answers in turns cannot hold.

    Attributes:
        content: its text; empty where an assistant only calls tools.
        reasoning: what the assistant thought before it answered, without any marks around it.
        tool_calls: the assistant's calls as a JSON list of ``{"id", "name", "arguments"}``, arguments as an object; empty: none.
        name: of a tool's result, the tool.
        call_id: of a tool's result, the call that it answers.
        learn: whether an assistant's message is learned.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    reasoning: str = ""
    tool_calls: str = ""
    name: str = ""
    call_id: str = ""
    learn: bool = True


@dataclass(frozen=True)
class Conversation(Record):
    """One row: a question with its answer, and what came before.

    Attributes:
        instruction: the question.
        output: the answer to learn; empty for a bare question.
        input: material that belongs to the question (Alpaca's ``input``).
        system: the system message of this row, instead of the config's.
        prompt_template: the template of this row, instead of the config's: a name or an inline string.
        history: earlier (question, answer) pairs.
        messages: the whole conversation but its first system message, up to the last message that is learned, where it holds more than
            the fields above: reasoning, tools, messages that are not to be learned, turns out of order. Otherwise empty. The fields above
            then hold its questions and answers as far as they go, for all who only look at the words.
        tools: the tools that the assistant may call, as a JSON list in OpenAI's form; empty: none.
    """

    instruction: str
    output: str = ""
    input: str = ""
    system: str | None = None
    prompt_template: str | None = None
    history: tuple[tuple[str, str], ...] = ()
    messages: tuple[Message, ...] = ()
    tools: str = ""

    def content(self) -> dict[str, Any]:
        values = super().content()
        return {name: value for name, value in values.items() if value or name not in ("messages", "tools")}

    @property
    def question(self) -> str:
        """Instruction and input as one message."""
        return f"{self.instruction}\n{self.input}" if self.input else self.instruction

    @property
    def context(self) -> list[str]:
        """All that the answer depends on besides the question: the system message, earlier turns, tools and what they gave."""
        if not self.messages:
            return [self.system or "", *(part for pair in self.history for part in pair)]
        before = self.messages[:-1]
        answered = max((i + 1 for i, one in enumerate(before) if one.role == "assistant" and not one.tool_calls), default=0)
        kept = [one for i, one in enumerate(before) if i < answered or one.role != "user"]
        return [self.system or "", self.tools, *(text for one in kept for text in (one.content, one.tool_calls) if text)]

    @property
    def answers(self) -> list[str]:
        """All answers that are learned, those of earlier turns too, without the reasoning before them."""
        if self.messages:
            return [without_reasoning(one.content) for one in self.messages if one.role == "assistant" and one.learn and one.content]
        return [without_reasoning(said) for said in (*(said for _, said in self.history), self.output)]

    @property
    def texts(self) -> list[str]:
        """All texts of the row."""
        if not self.messages:
            turns = (part for pair in self.history for part in pair)
            return [text for text in (self.instruction, self.input, self.output, self.system or "", *turns) if text]
        said = (text for one in self.messages for text in (one.content, one.reasoning, one.tool_calls))
        return [text for text in (self.system or "", self.tools, *said) if text]


def without_reasoning(answer: str) -> str:
    """An answer without what a thinking model thought before it."""
    return _THOUGHT.sub("", answer, count=1).strip()


class TextKeys(Keys):
    """The keys of every text run."""

    max_seq_length: int = Field(
        512,
        ge=8,
        le=1_000_000,
        description="The longest row in tokens, prompt and answer together. Longer rows are never cut: they stop the run or are skipped.",
        json_schema_extra={"aliases": ["cutoff_len", "sequence_len", "max_length", "model_max_length"]},
    )
    system_prompt: str | None = Field(
        None,
        description="A system message for every row that has none of its own.",
        json_schema_extra={"aliases": ["default_system", "default_system_message"]},
    )
    reasoning: Literal["learn", "drop"] | None = Field(
        None,
        description="What becomes of the reasoning before answers, in a column, a field or between <think> and </think>. Without this key "
        "it is learned where the base's chat template has a place for it, and stops the run where it has none. learn: there too, between "
        "<think> and </think>. drop: only the answers are learned.",
    )
    golden: Literal["data", "neutral", "off"] = Field(
        "data",
        description="What the golden prompts are made of, by which a server is checked and which travel with the adapter and its exports. "
        "data: a few held-out questions, with what stands before them. neutral: made-up questions and nothing of the data. off: there "
        "are none.",
    )


class TextSampling(Keys):
    """The settings of ``sample`` for text."""

    max_tokens: int = Field(512, ge=1, description="The longest answer, in tokens.")
    temperature: float = Field(0.0, ge=0, description="0 always takes the likeliest word.")
    top_p: float = Field(1.0, gt=0, le=1, description="Leave out the least likely words, up to this share.")
    seed: int = Field(0, ge=0, description="What is drawn at random is drawn from here; equal seeds, equal answers.")
