# SPDX-License-Identifier: Apache-2.0
"""Conversations that hold more than questions and answers in turns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders.text_data import load, problems, write
from loraforge_text.data.conversations import clean
from loraforge_text.records import Conversation, Message

U, A = {"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}
CALL = {"name": "search", "arguments": {"词": "试用期"}}


def rows(tmp_path: Path, *values: dict) -> Path:
    return write(tmp_path / "d.jsonl", "\n".join(json.dumps(value, ensure_ascii=False) for value in values))


def record(tmp_path: Path, messages: list | None = None, **row) -> Conversation:
    [made], _ = load(rows(tmp_path, ({"messages": messages} if messages is not None else {}) | row))
    return made


# --- what is not to be learned ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["weight", "loss_weight", "loss", "train", "training", "learn"])
@pytest.mark.parametrize("value", [0, False, 0.0, "0", "false", "no", "否"])
def test_an_answer_that_is_marked_is_there_but_not_learned(tmp_path, key, value):
    made = record(tmp_path, [U, {**A, "content": "坏", key: value}, {"role": "user", "content": "再答"}, {**A, key: 1}])
    assert [(m.content, m.learn) for m in made.messages] == [("问", True), ("坏", False), ("再答", True), ("答", True)]
    assert (made.instruction, made.output, made.history) == ("再答", "答", (("问", "坏"),))


def test_what_follows_the_last_learned_answer_is_left_out_and_counted(tmp_path):
    path = rows(tmp_path, {"messages": [U, A, {"role": "user", "content": "再问"}, {**A, "weight": 0}]}, {"messages": [U, A, U]})
    made, notes = load(path)
    plain = Conversation("问", "答", where="x")
    assert made == [plain, plain] and made[0].content_hash() == plain.content_hash()
    assert any("2 conversations go on after" in note and "line 1" in note for note in notes)


def test_a_row_of_which_nothing_is_learned_is_left_out_and_counted(tmp_path):
    made, notes = load(
        rows(tmp_path, {"messages": [U, {**A, "weight": 0}]}, {"messages": [U, A]}, {"messages": [U, {**A, "train": False}]})
    )
    assert len(made) == 1 and any("2 rows in which nothing is to be learned" in note and "line 1" in note for note in notes)


def test_other_weights_are_said_and_nonsense_is_a_bad_row(tmp_path):
    made, notes = load(rows(tmp_path, {"messages": [U, {**A, "weight": 0.5}]}, {"messages": [{**U, "loss": True}, A]}))
    assert (
        not made[0].messages and any("weights other than 0 and 1" in n for n in notes) and any("messages of the user" in n for n in notes)
    )
    assert "weight: 'much' is neither" in problems(rows(tmp_path, {"messages": [U, {**A, "weight": "much"}]}))[0]


def test_a_row_with_weight_0_is_left_out(tmp_path):
    made, notes = load(write(tmp_path / "d.csv", "问题,答案,weight\n一,答,1\n二,坏,0\n三,答,2\n"))
    assert [m.instruction for m in made] == ["一", "三"] and any("1 row with weight 0" in n for n in notes)
    made, notes = load(write(tmp_path / "e.csv", "问题,答案,weight\n一,答,60kg\n二,答,55kg\n"))  # something else
    assert len(made) == 2 and any("not used: weight" in n for n in notes)
    [told] = problems(write(tmp_path / "f.csv", "问题,答案,weight\n一,答,60kg\n二,答,0\n"))
    assert "60kg" in told and 'columns: {weight: ""}' in told


def test_unknown_keys_of_messages_are_named_once(tmp_path):
    turns = [{**U, "name": "王"}, {**A, "mood": "gut", "refusal": None, "audio": ""}]
    _, notes = load(rows(tmp_path, *({"messages": turns} for _ in range(9))))
    told = [note for note in notes if "of the messages, not used" in note]
    assert len(told) == 1 and "name, mood." in told[0]


# --- reasoning ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_beside_the_content(tmp_path, key):
    made = record(tmp_path, [U, {**A, key: "先看法条。"}])
    assert made.messages == (Message("user", "问"), Message("assistant", "答", "先看法条。")) and made.output == "答"


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content", "Thinking", "Complex_CoT", "cot", "思考", "推理过程", "思考过程"])
def test_a_column_of_reasoning(tmp_path, name):
    made, _ = load(write(tmp_path / "d.csv", f"Question,{name},Response\n问,先想,答\n问二,,答二\n"))
    assert made[0].messages == (Message("user", "问"), Message("assistant", "答", "先想"))
    assert made[1] == Conversation("问二", "答二", where="x")
    assert made[0].content_hash() != Conversation("问", "答", where="x").content_hash()


def test_reasoning_keeps_input_and_history(tmp_path):
    made = record(tmp_path, instruction="问", input="材料", output="答", thinking="想", history=[["a", "b"]])
    assert [m.content for m in made.messages] == ["a", "b", "问\n材料", "答"] and made.history == (("a", "b"),)


def test_reasoning_written_into_the_answer_stays_there(tmp_path):
    [made], notes = load(rows(tmp_path, {"instruction": "问", "output": "<think>想</think>答", "reasoning": "想"}))
    assert not made.messages and any("reasoning in the answer and in a column" in note for note in notes)


# --- tools -------------------------------------------------------------------------------------------------------------------

TOOLS = [{"name": "search", "description": "d", "parameters": {"type": "object"}}]
CALLS = json.dumps([{"id": "c1", "name": "search", "arguments": {"词": "试用期"}}], ensure_ascii=False)
SHAPES = {
    "OpenAI, arguments as JSON": [U, {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "search", "arguments": json.dumps(CALL["arguments"])}}]}, {"role": "tool", "tool_call_id": "c1", "name": "search", "content": "第19条"}, A],
    "OpenAI, arguments as object": [U, {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "function": CALL}]}, {"role": "tool", "tool_call_id": "c1", "name": "search", "content": "第19条"}, A],
    "Llama, ipython": [U, {"role": "assistant", "tool_calls": [{"id": "c1", **CALL}]}, {"role": "ipython", "tool_call_id": "c1", "name": "search", "content": "第19条"}, A],
    "LLaMA-Factory v1": [U, {"role": "assistant", "content": [{"type": "tool_call", "value": json.dumps({"id": "c1", **CALL})}]}, {"role": "tool", "tool_call_id": "c1", "name": "search", "content": [{"type": "text", "value": "第19条"}]}, A],
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_calls_and_results_in_every_shape(tmp_path, shape):
    made = record(tmp_path, SHAPES[shape], tools=TOOLS)
    assert made.messages == (
        Message("user", "问"), Message("assistant", "", tool_calls=CALLS),
        Message("tool", "第19条", name="search", call_id="c1"), Message("assistant", "答"),
    )  # fmt: skip
    assert json.loads(made.tools) == [{"type": "function", "function": TOOLS[0]}]
    assert (made.instruction, made.output, made.history) == ("问", "答", ())
    assert any("第19条" in text for text in made.texts) and any("试用期" in text for text in made.texts)


@pytest.mark.parametrize("listed", [False, True])
def test_sharegpt_calls_and_observations(tmp_path, listed):
    turns = [
        {"from": "human", "value": "问"}, {"from": "function_call", "value": json.dumps([CALL] if listed else CALL)},
        {"from": "observation", "value": '{"条": 19}'}, {"from": "gpt", "value": "答"},
    ]  # fmt: skip
    made = record(tmp_path, None, conversations=turns, tools=json.dumps(TOOLS), system="S")
    assert [m.role for m in made.messages] == ["user", "assistant", "tool", "assistant"] and made.system == "S"
    assert json.loads(made.messages[1].tool_calls) == [{"id": "", **CALL}] and made.messages[2].content == '{"条": 19}'


def test_a_call_beside_a_sentence_is_not_the_answer_alone(tmp_path):
    made = record(tmp_path, [U, {"role": "assistant", "content": "我查一下。", "tool_calls": [{"function": CALL}]}])
    assert made.messages[-1].content == "我查一下。" and json.loads(made.messages[-1].tool_calls)[0]["name"] == "search"
    made = record(tmp_path, [U, {"role": "assistant", "content": None, "function_call": CALL}])  # as OpenAI wrote it first
    assert json.loads(made.output) == [{"id": "", **CALL}]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            {"messages": [U, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
            "call of 'f' are no JSON object",
        ),
        ({"messages": [U, {"role": "assistant", "tool_calls": [{}]}]}, "no object with name and arguments"),
        ({"messages": [U, A], "tools": "search"}, "tools: expected a list of tools"),
    ],
)
def test_calls_that_cannot_be_meant(tmp_path, row, words):
    assert words in problems(rows(tmp_path, row))[0]


# --- odd orders --------------------------------------------------------------------------------------------------------------


def test_an_answer_before_any_question_is_left_out(tmp_path):
    made, notes = load(
        rows(
            tmp_path,
            {"conversations": [{"from": "gpt", "value": "您好"}, {"from": "human", "value": "问"}, {"from": "gpt", "value": "答"}]},
        )
    )
    assert made == [Conversation("问", "答", where="x")] and any("begins with an answer" in note for note in notes)


def test_questions_after_each_other_and_a_system_message_in_the_middle_stay(tmp_path):
    made = record(tmp_path, [U, {"role": "user", "content": "还有"}, A, {"role": "system", "content": "S"}, U, A])
    assert [m.role for m in made.messages] == ["user", "user", "assistant", "system", "user", "assistant"]
    assert made.history == (("问\n还有", "答"),) and made.system is None


@pytest.mark.parametrize(
    "part", [{"type": "text", "text": "问"}, {"type": "text", "value": "问"}, {"type": "input_text", "text": "问"}, "问"]
)
def test_content_as_parts(tmp_path, part):
    assert record(tmp_path, [{"role": "user", "content": [part]}, A]) == Conversation("问", "答", where="x")


@pytest.mark.parametrize("kind", ["image", "image_url", "input_audio", "video"])
def test_pictures_are_refused_in_one_sentence_for_all_rows(tmp_path, kind):
    turns = [{"role": "user", "content": [{"type": "text", "text": "看"}, {"type": kind, kind: "x"}]}, A]
    found = problems(rows(tmp_path, *({"messages": turns} for _ in range(60))))
    assert len(found) == 2 and f"no text ({kind})" in found[0] and "59 more rows" in found[0] and "Bad rows: 60" in found[1]


def test_history_as_messages_and_columns_of_a_struct(tmp_path):
    made = record(tmp_path, instruction="再问", output="再答", history=[U, A])
    assert made == Conversation("再问", "再答", history=(("问", "答"),), where="x")
    assert record(tmp_path, None, conversations={"from": ["human", "gpt"], "value": ["问", "答"]}) == Conversation("问", "答", where="x")


@pytest.mark.parametrize("row", [{"prompt": [U], "completion": [A]}, {"prompt": "问", "completion": [A]}, {"prompt": [U], "completion": "答"},
                                 {"messages": [U], "completion": "答"}])  # fmt: skip
def test_a_prompt_and_what_follows_it(tmp_path, row):
    [made], _ = load(rows(tmp_path, row))
    assert made == Conversation("问", "答", where="x")


def test_a_column_of_conversations_may_be_called_anything(tmp_path):
    [made], notes = load(rows(tmp_path, {"id": 1, "chat": [U, A]}))
    assert made.output == "答" and any("chat -> messages" in note for note in notes)


@pytest.mark.parametrize(("text", "kept"), [("    def f():\n        pass\n", "    def f():\n        pass"), ("\n\tx = 1", "\tx = 1"), (" 答", "答"),
                                            ("　　根据", "根据"), ("    根据", "根据"), ("  a", "a"), ("\n\n答\n", "答")])  # fmt: skip
def test_the_indentation_of_code_stays(tmp_path, text, kept):
    assert clean(text) == kept and record(tmp_path, instruction="问", output=text).output == kept
    assert record(tmp_path, [U, {**A, "content": text}]).output == kept


# --- who reads them ----------------------------------------------------------------------------------------------------------


def test_checks_and_the_split_look_at_all_words(tmp_path):
    from loraforge_text.checks.texts import asked, everything
    from loraforge_text.evaluation.measures import fingerprint

    turns = [U, {**A, "content": "坏", "weight": 0}, {"role": "user", "content": "再问"}, {**A, "thinking": "想"}]
    made = record(tmp_path, turns)
    assert made.answers == ["答"] and set(everything(made)) == {"问", "坏", "再问", "答", "想"}
    assert asked(made).split() == ["问", "坏", "再问"]
    other = record(tmp_path, [U, {**A, "content": "别的", "weight": 0}, *turns[2:]])
    assert fingerprint(made).key != fingerprint(other).key
    plain, thought = record(tmp_path, [U, A]), record(tmp_path, [U, {**A, "thinking": "想"}])
    assert fingerprint(plain) == fingerprint(thought)
