# SPDX-License-Identifier: Apache-2.0
"""Which column is what."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from loraforge import REVIEW_COLUMNS, DataError, fold_name, match_columns, speaker

from .readers.rows import Row

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
    "reasoning": (
        "reasoning", "reasoningcontent", "thinking", "thought", "thoughts", "think", "cot", "complexcot", "chainofthought", "rationale",
        "思考", "思考过程", "推理", "推理过程", "思维链",
    ),
    "tools": ("tools", "functions", "工具"),
    "weight": (
        "weight", "sampleweight", "lossweight", "loss", "train", "training", "trainable", "istrainable", "learn", "learnable", "dotrain",
        "权重", "样本权重", "是否训练", "参与训练", "是否学习", "是否参与训练",
    ),
    "split": ("split", "划分", "数据划分", "数据集划分"),
    **REVIEW_COLUMNS,
}  # fmt: skip
# What a column is only if the config says so.
FIELDS = (*SYNONYMS, "label")


def listed(names: Sequence[str]) -> str:
    """Names for a message; of what is no table some are very long, or very many."""
    shown = [name if len(name) <= 60 else f"{name[:57]}..." for name in names[:40]]
    return ", ".join([*shown, "..."] if len(names) > 40 else shown)


def same_fields(names: Sequence[str], given: Mapping[str, str], rows: Sequence[Row]) -> dict[str, str]:
    """Names that rows of one file use for what others call otherwise, with the name that is kept: no row has both."""
    same: dict[str, str] = {}
    for field, called in SYNONYMS.items():
        if field in given or field in REVIEW_COLUMNS:
            continue
        candidates = [name for name in names if fold_name(name) in called and name not in given.values()]
        if len(candidates) < 2:
            continue
        filled = [[name for name in candidates if row.values.get(name) not in (None, "", [], {})] for row in rows]
        used = [name for name in candidates if any(name in there for there in filled)]
        if len(used) > 1 and all(len(there) < 2 for there in filled):
            kept = next((name for name in used if fold_name(name) == called[0]), used[0])
            same |= {name: kept for name in used if name != kept}
    return same


def is_header(names: Sequence[str], given: Mapping[str, str]) -> bool:
    """Whether these cells name a question and an answer, or messages."""
    known = {field: column for field, column in given.items() if column in names}
    found, doubtful = match_columns([name for name in names if name], SYNONYMS, known)
    fields = {*found, *doubtful}
    return "messages" in fields or ("output" in fields and bool(fields & {"instruction", "input"}))


def map_columns(
    names: Sequence[str], given: Mapping[str, str], file: str, decisions: Collection[str] = (), conversations: Collection[str] = ()
) -> dict[str, str]:
    """Our field names to the column names of one file.

    Args:
        given: the config's ``columns``: field to column; it wins. A field with an empty name has no column.
        decisions: the columns that hold decisions (``decides``); none of them names a reviewer.
        conversations: the columns that hold lists of messages, whatever they are called.

    Raises:
        DataError: if a given column is not there, two columns could be one field, or question or answer is missing.
    """
    problems = [
        say("{file}: columns: there is no column '{column}'. There are: {names}.", file=file, column=column, names=listed(names))
        for column in given.values()
        if column and column not in names
    ]
    known = {field: column for field, column in given.items() if column in names}
    wanted = {field: called for field, called in SYNONYMS.items() if given.get(field) != ""}
    found, doubtful = match_columns(names, wanted, known, decisions)
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
    if "instruction" not in found and "input" in found and "input" not in given and "messages" not in found:
        found["instruction"] = found.pop("input")  # tables of just input and output
    missing = [field for field in ("instruction", "output") if field not in found]
    spoken = [name for name in conversations if name not in found.values()]
    if missing == ["instruction"] and found["output"] in conversations:
        missing = []  # the chosen conversations of preference data hold their questions
    elif missing and "messages" not in found and len(spoken) == 1:
        found["messages"] = spoken[0]
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
