# SPDX-License-Identifier: Apache-2.0
"""Golden prompts: what a server must make of some held-out questions. They travel with the adapter, so that a server can be checked.

A server that renders the chat template otherwise than training did, or adds a second BOS token, answers worse and says nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loraforge import LoraForgeError, RunError, Span, prompt_of, speaker

from ..records import Conversation, Message
from .conversation import Style, as_mapping, messages_of, parts_of
from .formats import FORMATS

if TYPE_CHECKING:
    from .prompting import Prompting

say = speaker(__name__)

NAME = "golden_prompts.json"
_FORMAT = 1
# Read in the file by whoever runs the server, in whichever language: so both, whatever language the trainer spoke.
_ABOUT = {
    "en": [
        "These are questions from the run's data (held out of training if it held any out), with the exact text and token ids that the "
        "model must be given for each.",
        "Ask your server what it makes of 'messages' and compare. It must be the same to the last character and token.",
        "vLLM: POST /tokenize with {model, messages, add_generation_prompt: true}; compare 'tokens' with 'ids'.",
        "llama.cpp: POST /apply-template with {messages}; compare 'prompt' with 'text'. Then POST /tokenize with {content: text, "
        "add_special: false, parse_special: true}; compare 'tokens' with 'ids'.",
        "Where a prompt has 'tools', send them beside its messages.",
        "If they differ, the server uses another chat template than training did, or adds a beginning-of-text token of its own.",
        "'starts' says at which character of 'text' each token begins.",
    ],
    "zh": [
        "这里是本次训练数据中的一些问题（有留出数据时取自留出部分），以及每个问题实际应当交给模型的文本（text）和词元编号（ids）。",
        "请让您的服务器处理 messages，再与此处对照：文本和词元必须完全一致。",
        "vLLM：向 /tokenize 发送 {model, messages, add_generation_prompt: true}，用返回的 tokens 与 ids 对照。",
        "llama.cpp：向 /apply-template 发送 {messages}，用返回的 prompt 与 text 对照；再向 /tokenize 发送 {content: text, "
        "add_special: false, parse_special: true}，用返回的 tokens 与 ids 对照。",
        "带有 tools 的问题，请把 tools 与 messages 一起发送。",
        "如果不一致，说明服务器所用的聊天模板与训练时不同，或者服务器自行添加了文本起始词元。",
        "starts 是每个词元在 text 中的起始字符位置。",
    ],
}

_NEUTRAL = {
    "en": "These are made-up questions, none of the run's data, with the exact text and token ids that the model must be given for each.",
    "zh": "这里是一些虚构的问题（不含本次训练数据），以及每个问题实际应当交给模型的文本（text）和词元编号（ids）。",
}


def golden_prompts(
    tokenizer: Any,
    rows: Sequence[tuple[Conversation, Sequence[Span]]],
    system: str | None = None,
    template: Mapping[str, Any] | None = None,
    count: int = 5,
) -> bytes:
    """A JSON document with the prompts of ``count`` of the rows: the same bytes for the same rows in any order.

    Args:
        tokenizer: a ``tokenizers.Tokenizer``.
        rows: held-out records with their rendered text.
        system: the system message of records that have none of their own.
        template: what the template's ``describe`` returned.
    """
    document: dict[str, Any] = {"format": _FORMAT, "about": _ABOUT}
    if template is not None:
        # The template's own text decides; why it was chosen is said in the user's language.
        described = {key: value for key, value in template.items() if key != "reason"}
        text = json.dumps(described, sort_keys=True, ensure_ascii=False, default=str)
        document["template_sha256"] = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    document["prompts"] = [_prompt(tokenizer, record, prompt_of(spans), system) for record, spans in _chosen(rows, template, count)]
    return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "backslashreplace")


def neutral_prompts(tokenizer: Any, prompting: Prompting, template: Mapping[str, Any] | None = None) -> bytes | None:
    """The same document of no data: made-up questions with and without a system message and an earlier turn, as far as the template takes
    them; None where messages alone cannot ask."""
    if not (prompting.jinja or prompting.inline):
        return None
    rows = []
    for system in (None, "Be brief."):
        for history in ((), (("First?", "Yes."),)):
            if system and prompting.inline and "{system}" not in prompting.inline:
                continue
            record = Conversation("Second?", "answer", system=system, history=history, where="")
            with contextlib.suppress(LoraForgeError):
                rows.append((record, prompting.render(record)))
    if not rows:
        return None
    document = json.loads(golden_prompts(tokenizer, rows, prompting.system, template, len(rows)))
    document["neutral"] = True
    document["about"] = {code: [_NEUTRAL[code], *lines[1:]] for code, lines in _ABOUT.items()}
    return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "backslashreplace")


def questions_of_data(document: bytes | str) -> int:
    """How many questions of the data such a document holds; 0 for one that is none."""
    try:
        known = json.loads(document)
        return 0 if known.get("neutral") else len(known["prompts"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return 0


def _chosen(
    rows: Sequence[tuple[Conversation, Sequence[Span]]], template: Mapping[str, Any] | None, count: int
) -> list[tuple[Conversation, Sequence[Span]]]:
    """Rows that a server can render. First one of each kind (tools, messages, earlier turns and so on): there servers differ."""
    plain = [row for row in rows if _reaches_server(row[0], template or {})]
    if template is None:
        plain = plain or list(rows)
    different = {row[0].content_hash(): row for row in plain}
    kinds: dict[tuple[bool, ...], str] = {}
    for key in sorted(different):
        record = different[key][0]
        kind = (bool(record.tools), bool(record.messages), bool(record.history), record.system is not None, bool(record.input))
        kinds.setdefault(kind, key)
    first = [kinds[kind] for kind in sorted(kinds, reverse=True)]
    return [different[key] for key in [*first, *(key for key in sorted(different) if key not in first)][:count]]


def _reaches_server(record: Conversation, template: Mapping[str, Any]) -> bool:
    """Whether messages alone can say what was trained: a server has one template and knows no material apart from the question."""
    own, inline = record.prompt_template, template.get("inline")
    if own and own != inline and (inline or own not in FORMATS or FORMATS[own].jinja != template.get("jinja")):
        return False
    apart = record.input and "{input}" in (inline or "")
    unsaid = record.system == "" and template.get("system")  # an empty system message is sent as none, and gets the run's
    # How earlier thoughts reach the template is not the same for every server.
    thought = any(parts_of(one).thought for one in record.messages[:-1] if one.role == "assistant")
    return not (apart or unsaid or thought)


def _prompt(tokenizer: Any, record: Conversation, text: str, default: str | None) -> dict[str, Any]:
    encoding = tokenizer.encode(text, add_special_tokens=False)
    system = record.system if record.system is not None else default
    said = messages_of(record)
    before = [*([Message("system", system)] if system else []), *(said[:-1] if said[-1].role == "assistant" else said)]
    return {
        "row_sha256": record.content_hash(),
        "question": record.question,
        "messages": [as_mapping(one, "", Style(text=True)) | ({"content": one.content} if one.content else {}) for one in before],
        **({"tools": json.loads(record.tools)} if record.tools else {}),
        "text": text,
        "ids": list(encoding.ids),
        "starts": [start for start, _ in encoding.offsets],
    }


@dataclass(frozen=True)
class Difference:
    """A prompt of which somebody makes something else than training did.

    Attributes:
        prompt: its number in the file, from 0.
        token: the first token that differs, from 0.
        message: what differs, for people.
    """

    prompt: int
    token: int
    message: str


def check_golden(document: bytes | str, made: Callable[[Mapping[str, Any]], str | Sequence[int]]) -> tuple[Difference, ...]:
    """Compares what somebody else makes of the prompts with the file.

    Args:
        document: what ``golden_prompts`` returned.
        made: called with each prompt (``messages``, ``question``, ``text``): the text or the token ids that the model would be given.

    Returns:
        The prompts that differ; none if all are the same.

    Raises:
        RunError: if the document is none of ours.
    """
    try:
        known = json.loads(document)
        prompts = [(dict(p), str(p["text"]), [int(i) for i in p["ids"]], [int(s) for s in p["starts"]]) for p in known["prompts"]]
        readable = known["format"] == _FORMAT and all("messages" in p and len(ids) == len(starts) for p, _, ids, starts in prompts)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise RunError(say("{name} cannot be read: {error}.", name=NAME, error=repr(error))) from None
    if not readable:
        raise RunError(say("{name} is of a format that this version does not know.", name=NAME))
    differences = []
    for number, (prompt, text, ids, starts) in enumerate(prompts):
        got = made(prompt)
        found = _text_parts(text, got, starts) if isinstance(got, str) else _ids_part(text, ids, list(got), starts)
        if found is not None:
            differences.append(Difference(number, *found))
    return tuple(differences)


def _text_parts(text: str, got: str, starts: Sequence[int]) -> tuple[int, str] | None:
    if got == text:
        return None
    at = _first_difference(text, got)
    token = max((i for i, start in enumerate(starts) if start <= at), default=0) if at < len(text) else len(starts)
    return token, say(
        "the text parts at character {at} (token {token}): {wanted!r} was trained, {got!r} is given.",
        at=at,
        token=token,
        wanted=text[at : at + 20],
        got=got[at : at + 20],
    )


def _ids_part(text: str, ids: Sequence[int], got: Sequence[int], starts: Sequence[int]) -> tuple[int, str] | None:
    if list(got) == list(ids):
        return None
    if list(got[1:]) == list(ids):
        return 0, say("there is one more token at the beginning, {token}: a beginning-of-text token is added twice.", token=got[0])
    at = _first_difference(ids, got)
    return at, say(
        "the tokens part at token {at}, before {text!r}: {wanted} was trained, {got} is given.",
        at=at,
        text=text[starts[at] : starts[at] + 20] if at < len(starts) else "",
        wanted=ids[at] if at < len(ids) else say("the end"),
        got=got[at] if at < len(got) else say("the end"),
    )


def _first_difference(one: Sequence[Any], other: Sequence[Any]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
