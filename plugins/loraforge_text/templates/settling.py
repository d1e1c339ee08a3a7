# SPDX-License-Identifier: Apache-2.0
"""What a base's chat template and the rows decide together before anything is rendered: whether it thinks, and what its prompt lacks."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from os.path import commonprefix
from typing import Any

from loraforge import DataError, ModelError, speaker

from ..records import Conversation
from .conversation import as_mapping, messages_of, thoughts_in
from .formats import FORMATS
from .prompting import Prompting, no_place
from .reasoning import ANSWER, QUESTION
from .rendering import changing

say = speaker(__name__)

# By which a template is told to think where enable_thinking does not do it.
_SWITCHES: Sequence[Mapping[str, Any]] = (
    {"thinking": True},
    {"enable_thinking": True, "thinking": True},
    {"reasoning_effort": "high"},
    {"thinking_mode": "enabled"},
)

_TRIED = 3  # rows that are rendered twice
_ADDRESS = re.compile(r"<[^<>\n]* at 0x[0-9a-fA-F]{6,}>")  # how Python writes an object that has no text


def settle(prompting: Prompting, records: Sequence[Conversation]) -> tuple[Prompting, str]:
    """The prompting that these rows are trained with, and what is to be said of it.

    Raises:
        ModelError: if the template cannot be used with this base.
        DataError: if the rows hold reasoning that it has no place for.
    """
    learned, thoughts, fields = (sum(counts) for counts in zip((0, 0, 0), *map(thoughts_in, records), strict=True))
    if thoughts and prompting.reasoning == "drop":
        remark = say("; the reasoning of {n} answers is left out (reasoning: drop)", n=thoughts)
        thoughts = fields = 0
    else:
        remark = (
            say("; reasoning: {value} changes nothing, as no answer has any", value=prompting.reasoning)
            if _idle(prompting, thoughts)
            else ""
        )
    if prompting.inline is not None or prompting.jinja is None:
        if fields and prompting.reasoning != "learn":
            raise DataError(_of(fields, no_place(written=True)))
        return prompting, remark + _mixed(learned, thoughts)
    prompting = prompting.in_parts()
    parts = (
        say("; it takes texts in parts only (a list of type and text), so they are given so; the exported template takes both")
        if prompting.parts
        else ""
    )
    prompting, header = _with_header(_checked(prompting, records))
    chosen, said = _thinking(prompting, learned, thoughts)
    form = chosen.form
    if thoughts and not form.place:
        if not form.written or (fields and chosen.reasoning != "learn"):
            raise DataError(_of(thoughts, no_place(form.written)))
        said += say(
            "; {n} answers contain their reasoning, which is learned as they have it, before the answer: this template has no place of its "
            "own for it",
            n=thoughts,
        )
    if not form.opened:  # otherwise it is said with what the model learns of it
        said += _mixed(learned, thoughts)
    return chosen, parts + header + said + remark


def _mixed(learned: int, thoughts: int) -> str:
    """What is said where some answers have reasoning and others none."""
    if not 0 < thoughts < learned:
        return ""
    return say(
        "; {n} of {all} answers have no reasoning, so the model learns to answer now with it and now without",
        n=learned - thoughts,
        all=learned,
    )


def _idle(prompting: Prompting, thoughts: int) -> bool:
    return bool(prompting.reasoning) and not thoughts


def _of(count: int, problem: str) -> str:
    return say("{n} rows: {problem}", n=count, problem=problem)


def _checked(prompting: Prompting, records: Sequence[Conversation]) -> Prompting:
    """The prompting, if its template asks a question with it.

    Raises:
        ModelError: if it leaves the question out.
        DataError: if it refuses a plain question, or is for conversations with tools only and the rows are not.
    """
    asked = [{"role": "user", "content": "question"}]
    names = ", ".join(name for name, one in FORMATS.items() if one.misfit(name, prompting.stops) is None)
    advice = say(
        "Put the base's ordinary template into its chat_template.jinja, or set prompt_template to what suits its tokens: {names}.",
        names=names,
    )
    try:
        text = prompting.sample(asked, ask=True)
    except DataError as error:
        raise DataError([f"{line.rstrip('.')}. {advice}" for line in error.problems]) from None
    if "question" not in text:
        raise ModelError(f"{say('the chat template leaves the question out.')} {advice}")
    plain = sum(not record.tools for record in records)
    if plain or not records:
        try:
            prompting.text(asked, ask=True)
        except DataError:
            text = say("the chat template is made for conversations with tools only, and {n} rows have none.", n=plain)
            raise DataError(f"{text} {advice}") from None
    _require_constant(prompting, records)
    return prompting


def _require_constant(prompting: Prompting, records: Sequence[Conversation]) -> None:
    """
    Raises:
        ModelError: if the template makes two texts of one conversation, or one that holds an address in memory.
    """
    asked = [{"role": "user", "content": QUESTION}]
    first, second = (prompting.sample(asked, ask=True) for _ in range(2))
    if found := _ADDRESS.search(first):
        raise ModelError(changing(repr(found[0])))
    pairs = [(first, second), *((_whole(prompting, record), _whole(prompting, record)) for record in records[:_TRIED])]
    for first, second in pairs:
        if first != second:
            start = len(commonprefix([first, second]))  # noqa: RUF071  characters are meant
            raise ModelError(changing(f"{first[start : start + 20]!r}, {second[start : start + 20]!r}"))


def _whole(prompting: Prompting, record: Conversation) -> str:
    try:
        return prompting.text([as_mapping(one) for one in messages_of(record)], ask=False)
    except DataError:
        return ""  # said of its row


def _with_header(prompting: Prompting) -> tuple[Prompting, str]:
    """A template that ignores ``add_generation_prompt`` leaves it to the model to begin its turn; it gets what it lacks.

    Then the prompt says whose turn it is, as for every other base, and the answer alone is learned.
    """
    asked: list[Mapping[str, Any]] = [{"role": "user", "content": QUESTION}]
    try:
        prompt, bare = prompting.sample(asked, ask=True), prompting.sample(asked, ask=False)
        full = prompting.sample([*asked, {"role": "assistant", "content": ANSWER}], ask=False)
    except DataError:
        return prompting, ""
    if prompt != bare or not full.startswith(prompt) or ANSWER not in full:
        return prompting, ""
    lead = full[len(prompt) : full.index(ANSWER)]
    if not lead.strip():
        return prompting, ""
    quoted = "'" + lead.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
    added = "{% if add_generation_prompt %}{{ " + quoted + " }}{% endif %}"
    return dataclasses.replace(prompting, jinja=(prompting.jinja or "") + added), say(
        "; it does not ask for an answer (it ignores add_generation_prompt), so {lead!r} is added to each prompt, also in what is "
        "exported: "
        "a server must use the exported chat template",
        lead=lead,
    )


def _thinking(prompting: Prompting, learned: int, thoughts: int) -> tuple[Prompting, str]:
    """Whether a template that can switch thinking on and off shall think: as the answers do. Found by rendering both ways."""
    sample = [{"role": "user", "content": "question"}]
    on, off = (dataclasses.replace(prompting, kwargs={**prompting.kwargs, "enable_thinking": value}) for value in (True, False))
    switched = on.sample(sample, ask=True) != off.sample(sample, ask=True)
    closes = say("; {n} answers have no reasoning: with them the model learns to close its thought at once", n=learned - thoughts)
    if not thoughts:
        if switched:
            remark = say(
                "; thinking is off (enable_thinking: false), as the answers contain no reasoning: ask the trained model the same way"
            )
            prompting = off
        else:
            remark = ""
        return prompting, remark + (closes if prompting.form.opened and learned else "")
    thinking = [on] if switched else [prompting]
    thinking += [dataclasses.replace(prompting, kwargs={**prompting.kwargs, **values}) for values in _SWITCHES]
    chosen = next((one for one in thinking if one.form.place), thinking[0])
    remark = closes if learned > thoughts and chosen.form.opened else ""
    if chosen is prompting:
        return chosen, remark
    if chosen.kwargs == on.kwargs:
        return chosen, say("; thinking is on, as {n} answers contain their reasoning", n=thoughts) + remark
    named = ", ".join(f"{name}: {str(value).lower()}" for name, value in chosen.kwargs.items())
    return chosen, say("; thinking is on ({keys}), as {n} answers contain their reasoning", keys=named, n=thoughts) + remark
