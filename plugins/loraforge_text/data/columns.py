"""Raw rows to conversations: which column is what, and the shapes that other trainers use."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from loraforge import REVIEW_COLUMNS, DataError, match_columns, read_review, speaker

from ..records import Conversation
from ..templates.formats import FORMATS
from ..templates.inline import check_inline
from .tables import cell_text

say = speaker(__name__)

# What a column may be called, in the order of preference; the first of each is our own name.
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "instruction": (
        "instruction", "question", "prompt", "query", "problem", "user", "human", "q",
        "问题", "提问", "问", "指令", "咨询", "咨询问题", "用户", "用户问题", "题目",
    ),
    "input": ("input", "context", "输入", "背景", "上下文", "补充", "补充说明", "材料"),
    "output": (
        "output", "answer", "response", "completion", "reply", "target", "assistant", "chosen", "a",
        "答案", "回答", "回复", "答", "答复", "解答", "输出", "标准答案",
    ),
    "system": ("system", "systemprompt", "系统", "系统提示", "系统提示词"),
    "prompt_template": ("prompttemplate", "template", "提示词模板", "提示模板", "模板"),
    "history": ("history", "历史", "历史对话"),
    "messages": ("messages", "conversations", "conversation", "dialogue", "dialog", "对话", "多轮对话"),
    **REVIEW_COLUMNS,
}  # fmt: skip
_ROLES: Mapping[str, str] = {
    "user": "user", "human": "user", "用户": "user", "question": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant", "助手": "assistant",
    "system": "system", "developer": "system", "系统": "system",
}  # fmt: skip


def listed(names: Sequence[str]) -> str:
    """Names for a message; of what is no table some are very long, or very many."""
    shown = [name if len(name) <= 60 else f"{name[:57]}..." for name in names[:40]]
    return ", ".join([*shown, "..."] if len(names) > 40 else shown)


def map_columns(names: Sequence[str], given: Mapping[str, str], file: str, decisions: Collection[str] = ()) -> dict[str, str]:
    """Our field names to the column names of one file.

    Args:
        given: the config's ``columns``: field to column; it wins.
        decisions: the columns that hold decisions (``decides``); none of them names a reviewer.

    Raises:
        DataError: if a given column is not there, two columns could be one field, or question or answer is missing.
    """
    problems = [
        say("{file}: columns: there is no column '{column}'. There are: {names}.", file=file, column=column, names=listed(names))
        for column in given.values()
        if column not in names
    ]
    known = {field: column for field, column in given.items() if column in names}
    found, doubtful = match_columns(names, SYNONYMS, known, decisions)
    problems += [
        say(
            "{file}: the columns {names} could all be '{field}'. Say which: columns: {{{field}: {first}}}",
            file=file,
            names=listed([f"'{c}'" for c in candidates]),
            field=field,
            first=candidates[0],
        )
        for field, candidates in doubtful.items()
    ]
    if "instruction" not in found and "input" in found and "input" not in given:
        found["instruction"] = found.pop("input")  # tables of just input and output
    missing = [field for field in ("instruction", "output") if field not in found]
    if "messages" not in found and missing and not problems:
        problems.append(
            say(
                "{file}: no column is the {what} (there are: {names}). Name it: columns: {{instruction: ..., output: ...}}",
                file=file,
                what=" / ".join(say(m) for m in missing),
                names=listed(names) or say("none"),
            )
        )
    if problems:
        raise DataError(problems)
    return found


def to_conversation(where: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[Conversation | None, list[str]]:
    """One row as a conversation, or all that is wrong with it."""
    raw = {field: values.get(column) for field, column in columns.items()}
    problems: list[str] = []
    wrong: set[str] = set()

    def text(field: str) -> str:
        value = raw.get(field)
        if isinstance(value, dict | list):
            wrong.add(field)
            problems.append(say("{field}: expected text, found a {kind}.", field=columns[field], kind=type(value).__name__))
            return ""
        return cell_text(value).strip()

    template = text("prompt_template") or None
    if template and template not in FORMATS:
        problem = check_inline(template)
        if problem:
            problems.append(problem)
    system = text("system") or None
    review = read_review(raw, columns, problems)
    if raw.get("messages") not in (None, "", []):
        turns, own_system = _turns(raw["messages"], problems)
        if problems or not turns:
            return None, problems
        question, answer = turns[-1]
        return Conversation(question, answer, "", own_system or system, template, tuple(turns[:-1]), where=where, review=review), problems
    instruction, material, output = text("instruction"), text("input"), text("output")
    if not instruction and material:
        instruction, material = material, ""
    for field, value in (("instruction", instruction), ("output", output)):
        if not value and field not in wrong:
            problems.append(say("'{column}' is empty.", column=columns.get(field, field)))
    history = _history(raw.get("history"), problems)
    if problems:
        return None, problems
    return Conversation(instruction, output, material, system, template, history, where=where, review=review), problems


def _loaded(value: Any, problems: list[str], what: str) -> Any:
    """A list, also when a table's cell holds it as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            problems.append(say("{what}: is not valid JSON.", what=what))
            return []
    if not isinstance(value, list):
        problems.append(say("{what}: expected a list.", what=what))
        return []
    return value


def _history(value: Any, problems: list[str]) -> tuple[tuple[str, str], ...]:
    if value in (None, "", []):
        return ()
    pairs = []
    for pair in _loaded(value, problems, "history"):
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(part, str) and part.strip() for part in pair)):
            problems.append(say("history: expected pairs of [question, answer]."))
            return ()
        pairs.append((pair[0].strip(), pair[1].strip()))
    return tuple(pairs)


def _turns(value: Any, problems: list[str]) -> tuple[list[tuple[str, str]], str | None]:
    """OpenAI's ``messages`` and ShareGPT's ``conversations`` as (question, answer) pairs, and the system message."""
    messages = _loaded(value, problems, "messages")
    parsed: list[tuple[str, str]] = []
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            problems.append(say("message {n}: expected a role and a text.", n=number))
            continue
        role = _ROLES.get(str(message.get("role", message.get("from", ""))).strip().lower())
        content = _content(message.get("content", message.get("value", message.get("text"))))
        if role is None:
            problems.append(
                say(
                    "message {n}: the role '{role}' is unknown; there are system, user, assistant.",
                    n=number,
                    role=message.get("role", message.get("from")),
                )
            )
        elif not content:
            problems.append(say("message {n}: the text is empty.", n=number))
        else:
            parsed.append((role, content))
    system = parsed.pop(0)[1] if parsed and parsed[0][0] == "system" else None
    if not problems and ([role for role, _ in parsed] != ["user", "assistant"] * (len(parsed) // 2) or not parsed):
        problems.append(
            say(
                "messages: expected user and assistant in turns, ending with the assistant; found {roles}.",
                roles=", ".join(role for role, _ in parsed) or say("none"),
            )
        )
    if problems:
        return [], system
    return [(parsed[i][1], parsed[i + 1][1]) for i in range(0, len(parsed), 2)], system


def _content(value: Any) -> str:
    """Text, also as OpenAI's list of parts; parts that are no text cannot be learned."""
    if isinstance(value, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in value):
        value = "".join(str(part.get("text", "")) for part in value)
    return value.strip() if isinstance(value, str) else ""
