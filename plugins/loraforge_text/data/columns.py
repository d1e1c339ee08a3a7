"""Which column is what, and raw rows to conversations."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from loraforge import REVIEW_COLUMNS, DataError, match_columns, read_review, speaker

from ..records import Conversation, Message
from ..templates.formats import FORMATS
from ..templates.inline import check_inline
from .conversations import Remarks, are_messages, clean, from_pairs, loaded, number_of, read_messages, to_fields
from .readers.number_formats import cell_text
from .readers.splits import TEST, split_called
from .tools import read_tools

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
    "weight": ("weight", "sampleweight", "lossweight", "权重"),
    "split": ("split", "划分", "数据划分", "数据集划分"),
    **REVIEW_COLUMNS,
}  # fmt: skip
# What a column is only if the config says so.
FIELDS = (*SYNONYMS, "label")
_OUR_NAMES = {"prompt_template": "prompttemplate"}


def listed(names: Sequence[str]) -> str:
    """Names for a message; of what is no table some are very long, or very many."""
    shown = [name if len(name) <= 60 else f"{name[:57]}..." for name in names[:40]]
    return ", ".join([*shown, "..."] if len(names) > 40 else shown)


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
    if "instruction" not in found and "input" in found and "input" not in given:
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

    def cell(self, field: str) -> str:
        value = self.raw.get(field)
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
        if number is not None and number <= 0:
            self.remarks.add("zero", self.where)
            return True
        if number != 1:
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
        if len(said) > 1 and said[0].role != "assistant":
            return said  # chosen holds the prompt too
        made: list[Message] = []
        if has_whole:
            made = read_messages(whole, self.problems, self.remarks, self.where)
        elif are_messages(asked):
            made = read_messages(asked, self.problems, self.remarks, self.where)
        elif question := self.text("instruction"):
            material = self.text("input")
            made = [Message("user", f"{question}\n{material}" if material else question)]
        if made and made[-1].role in ("user", "tool"):
            if said or not isinstance(answered, str):
                return [*made, *said]
            return [*made, Message("assistant", clean(answered), self.text("reasoning"))] if answered.strip() else made
        if answered:
            self.remarks.add("output", self.where)
        return made

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


_GOOD = frozenset(
    (
        "true",
        "1",
        "yes",
        "y",
        "good",
        "chosen",
        "desirable",
        "positive",
        "thumbs_up",
        "like",
        "是",
        "好",
        "对",
        "正确",
        "好评",
        "赞",
        "✓",
        "√",
    )
)
_BAD = frozenset(
    ("false", "0", "-1", "no", "n", "bad", "rejected", "undesirable", "negative", "thumbs_down", "dislike", "否", "坏", "差", "错", "错误",
     "差评", "踩", "✗", "×")
)  # fmt: skip


def judged(value: Any) -> bool | None:
    """Whether a cell calls the row's answer good or bad; None if it says neither."""
    text = cell_text(value).strip().lower() if not isinstance(value, dict | list) else ""
    return True if text in _GOOD else False if text in _BAD else None
