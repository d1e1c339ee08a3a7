# SPDX-License-Identifier: Apache-2.0
"""Raw rows to conversations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from loraforge import read_review, speaker

from ..records import Conversation, Message
from ..templates.formats import FORMATS
from ..templates.inline import check_inline
from .conversations import Remarks, are_messages, clean, from_pairs, loaded, number_of, read_messages, text_of, to_fields, transcript
from .preferences import judged
from .readers.number_formats import cell_text
from .readers.splits import TEST, split_called
from .tools import read_tools

say = speaker(__name__)


def to_conversation(
    where: str, values: Mapping[str, Any], columns: Mapping[str, str], remarks: Remarks
) -> tuple[Conversation | None, list[str]]:
    """One row as a conversation, or all that is wrong with it. Neither: nothing of it is to be learned, which ``remarks`` counts."""
    row = _RawRow(where, values, columns, remarks)
    template = row.text("prompt_template") or None
    if template and template not in FORMATS:
        problem = check_inline(template)
        if problem:
            row.problems.append(problem)
    system = row.text("system") or None
    review = read_review(row.raw, columns, row.problems)
    if row.left_out():
        return None, row.problems
    tools = read_tools(row.raw.get("tools"), row.problems, columns.get("tools", "tools"))
    side: Literal["train", "held-out"] | None = None
    split = split_called(row.text("split"))
    if split:
        side = "held-out" if split == TEST else "train"
    conversation = row.messages()
    if conversation is None and not row.problems:
        history = row.history()
        instruction, material, output, thought = row.question_and_answer()
        if not row.problems and not (tools or thought or isinstance(history, list)):
            return Conversation(
                instruction, output, material, system, template, history, where=where, review=review, side=side
            ), row.problems  # fmt: skip
        before = history if isinstance(history, list) else from_pairs(history)
        question = f"{instruction}\n{material}" if material else instruction
        conversation = [*before, Message("user", question), Message("assistant", output, thought)]
    if row.problems or conversation is None:
        return None, row.problems
    fields = to_fields(conversation, row.problems, remarks, where, full=bool(tools))
    if fields is None:
        return None, row.problems
    if system and fields.system and system != fields.system:
        remarks.add("system", where)
    question, answer = fields.pairs[-1]
    return Conversation(
        question, answer, "", fields.system or system, template, fields.pairs[:-1], fields.messages, tools,
        where=where, review=review, side=side,
    ), row.problems  # fmt: skip


class _RawRow:
    """The values of a row by our names, and what is wrong with them."""

    def __init__(self, where: str, values: Mapping[str, Any], columns: Mapping[str, str], remarks: Remarks) -> None:
        self.where = where
        self.raw = {field: values.get(column) for field, column in columns.items()}
        self.columns = columns
        self.remarks = remarks
        self.problems: list[str] = []
        self._wrong: set[str] = set()
        self._unpack()

    def _unpack(self) -> None:
        """Of OpenAI's preference data the messages and tools inside ``input``; of hh-rlhf the turns inside a text."""
        asked = self.raw.get("instruction")
        if isinstance(asked, dict) and are_messages(asked.get("messages")):
            self.raw["instruction"] = asked["messages"]
            if asked.get("tools") and not self.raw.get("tools"):
                self.raw["tools"] = asked["tools"]
            self.remarks.keys.update({str(key): None for key, value in asked.items() if key not in ("messages", "tools") and value})
        for field in ("messages", "output"):
            if "instruction" not in self.columns and (turns := transcript(self.raw.get(field))):
                self.raw[field] = turns

    def cell(self, field: str) -> str:
        value = self.raw.get(field)
        if field == "system" and isinstance(value, list):
            return text_of(value, self.problems)  # Bedrock writes parts
        if isinstance(value, dict | list):
            self._wrong.add(field)
            self.problems.append(say("{field}: expected text, found a {kind}.", field=self.columns[field], kind=type(value).__name__))
            return ""
        return cell_text(value)

    def text(self, field: str) -> str:
        return self.cell(field).strip()

    def left_out(self) -> bool:
        """Whether the row says that it is not to be learned."""
        weight = self.text("weight")
        number = number_of(weight) if weight else 1.0
        if number is None:
            self.problems.append(say("{key}: '{value}' is neither yes nor no.", key=self.columns["weight"], value=weight))
        elif number <= 0:
            self.remarks.add("zero", self.where)
            return True
        elif number != 1:
            self.remarks.add("weight", self.where)
        if "label" in self.raw:
            good = judged(self.raw["label"])
            if good is None:
                self.problems.append(
                    say("{column}: '{value}' says neither good nor bad.", column=self.columns["label"], value=cell_text(self.raw["label"]))
                )
            elif not good:
                self.remarks.add("bad", self.where)
                return True
        return False

    def messages(self) -> list[Message] | None:
        """The conversation, where the row has one in messages: whole, or as a prompt with what follows it."""
        whole, asked, answered = self.raw.get("messages"), self.raw.get("instruction"), self.raw.get("output")
        has_whole = whole not in (None, "", [], {})
        if not has_whole and not are_messages(asked) and not are_messages(answered):
            return None
        said = read_messages(answered, self.problems, self.remarks, self.where) if are_messages(answered) else []
        used: set[str] = set()
        made: list[Message] = []
        if len(said) > 1 and said[0].role != "assistant":
            made, said = said, []  # chosen holds the prompt too
        elif has_whole:
            made = read_messages(whole, self.problems, self.remarks, self.where)
        elif are_messages(asked):
            made = read_messages(asked, self.problems, self.remarks, self.where)
        elif question := self.text("instruction"):
            material = self.text("input")
            before = self.history()
            earlier = before if isinstance(before, list) else from_pairs(before)
            made = [*earlier, Message("user", f"{question}\n{material}" if material else question)]
            used = {"input", "history"}
        if made and made[-1].role in ("user", "tool"):
            if said or not isinstance(answered, str):
                made = [*made, *said]
            elif answered.strip():
                made = [*made, Message("assistant", clean(answered))]
        elif (answered and not are_messages(answered)) or said:
            self.remarks.add("output", self.where)
        return self._with_columns(made, used)

    def _with_columns(self, made: list[Message], used: set[str]) -> list[Message]:
        """The messages with the reasoning of a column. What else stands beside them and is not among them is told."""
        known = {one.content.strip() for one in made}
        for field in ("instruction", "input", "history"):
            value = self.raw.get(field)
            text = cell_text(value).strip() if not isinstance(value, dict | list) else value
            if field not in used and text and not are_messages(value) and not (isinstance(text, str) and text in known):
                self.remarks.beside(self.columns[field], self.where)
        thought = self.text("reasoning")
        last = max((i for i, one in enumerate(made) if one.role == "assistant"), default=None)
        if not thought or last is None:
            return made
        answer = made[last]
        if answer.reasoning or "</think>" in answer.content:
            if answer.reasoning != thought:
                self.remarks.add("thought", self.where)
            return made
        return [*made[:last], replace(answer, reasoning=thought), *made[last + 1 :]]

    def question_and_answer(self) -> tuple[str, str, str, str]:
        """(instruction, input, output, reasoning)."""
        instruction, material, output = self.text("instruction"), clean(self.cell("input")), clean(self.cell("output"))
        if not instruction and material:
            instruction, material = material.strip(), ""
        for field, value in (("instruction", instruction), ("output", output)):
            if not value and field not in self._wrong:
                self.problems.append(say("'{column}' is empty.", column=self.columns.get(field, field)))
        thought = self.text("reasoning")
        if thought and "</think>" in output:
            self.remarks.add("thought", self.where)
            thought = ""
        return instruction, material, output, thought

    def history(self) -> tuple[tuple[str, str], ...] | list[Message]:
        """Earlier turns as pairs; as messages where they were written so."""
        value = self.raw.get("history")
        if value in (None, "", []):
            return ()
        turns = loaded(value, self.problems, "history")
        if turns and are_messages(turns):
            return read_messages(turns, self.problems, self.remarks, self.where)
        pairs = []
        for pair in turns:
            if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(part, str) and part.strip() for part in pair)):
                self.problems.append(say("history: expected pairs of [question, answer]."))
                return ()
            pairs.append((pair[0].strip(), pair[1].strip()))
        return tuple(pairs)
