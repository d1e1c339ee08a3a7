# SPDX-License-Identifier: Apache-2.0
"""Tools: calls are learned as the base's template writes them, whatever form it wants them in; oracle: the template under transformers."""

from __future__ import annotations

import dataclasses
import json

import pytest
from builders.chat_bases import base_in, prepared
from loraforge_text.records import Conversation, Message
from loraforge_text.templates.conversation import parts_of
from loraforge_text.templates.prompting import PINNED_DATE, Prompting
from loraforge_text.templates.render_child import write

from loraforge import DataError, prompt_of

TOOLS = [{"type": "function", "function": {"name": "look_up", "description": "d", "parameters": {"type": "object", "properties": {"law": {"type": "string"}}}}}]  # fmt: skip
CALL = json.dumps([{"id": "call_0", "name": "look_up", "arguments": {"law": '合同法 "46"'}}])
SAID = (
    Message("user", "Q1"),
    Message("assistant", "", tool_calls=CALL),
    Message("tool", '{"text": "补偿"}', name="look_up", call_id="call_0"),
    Message("assistant", "A1"),
)
ROW = Conversation("Q1", "A1", messages=SAID, tools=json.dumps(TOOLS), where="r")
START = "{% for t in tools or [] %}{{ t.function.name }};{% endfor %}{% for m in messages %}<|{{ m.role }}|>"
END = "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
CALLS = (
    START
    + "{% if m.content %}{{ m.content }}{% endif %}{% for c in m.tool_calls or [] %}<call>{{ c.function.name }} ARGUMENTS</call>{% endfor %}"
    + END
)
AS_OBJECT = CALLS.replace("ARGUMENTS", "{{ c.function.arguments | tojson }}")
AS_TEXT = CALLS.replace("ARGUMENTS", "{{ '' + c.function.arguments }}")
NINE = AS_OBJECT.replace("<call>", "<call>{% if c.id | length != 9 %}{{ raise_exception('nine') }}{% endif %}{{ c.id }} ").replace(
    "<|{{ m.role }}|>", "<|{{ m.role }}|>{{ m.tool_call_id or '' }}"
)
NO_CONTENT = AS_OBJECT.replace(
    "{% if m.content %}", "{% if m.content is not none %}{% if not m.content %}{{ raise_exception('empty') }}{% endif %}"
)


def prompting(jinja: str) -> Prompting:
    return Prompting(jinja=jinja, stops=("<|end|>",))


def learned(spans) -> list[str]:
    return [span.text for span in spans if span.learn]


@pytest.mark.parametrize(
    ("jinja", "arguments", "call_id"),
    [(AS_OBJECT, "object", None), (AS_TEXT, "text", None), (NINE, "object", "nine"), (NO_CONTENT, "object", None)],
    ids=["object", "text", "nine", "no content"],
)
def test_calls_are_learned_in_the_form_that_the_template_wants(jinja, arguments, call_id):
    spans = prompting(jinja).render(ROW)
    text = json.dumps({"law": '合同法 "46"'}, ensure_ascii=False)
    call, answer = learned(spans)
    assert call.endswith(f"look_up {text}</call><|end|>") and answer == "A1<|end|>"
    number = call.removeprefix("<call>").split(" ")[0] if call_id else "call_0"
    given = {
        "id": number,
        "type": "function",
        "function": {"name": "look_up", "arguments": text if arguments == "text" else json.loads(text)},
    }
    messages = [
        {"role": "user", "content": "Q1"},
        {"role": "assistant", "content": None, "tool_calls": [given]},
        {"role": "tool", "name": "look_up", "tool_call_id": number, "content": '{"text": "补偿"}'},
    ]
    assert prompt_of(spans) == write(jinja, messages, TOOLS, True, {}, PINNED_DATE)
    assert prompt_of(spans).startswith("look_up;<|user|>Q1<|end|><|assistant|>")


@pytest.mark.parametrize(
    ("jinja", "says"),
    [
        (START + "{{ m.content }}" + END, "no place for calls of tools \\('look_up'\\)"),
        (CALLS.replace("ARGUMENTS", "{{ c.function.arguments.keys() | list }}"), "no place for calls of tools"),
        (AS_OBJECT.replace("{{ t.function.name }}", ""), "no place for tools \\('look_up'\\)"),
        (AS_OBJECT.replace("{% if m.content %}", "{% if m.content and m.role != 'tool' %}"), "no place for what a tool gave"),
        (AS_OBJECT.replace("<|{{ m.role }}|>", "{% if m.role == 'tool' %}{{ raise_exception('roles') }}{% endif %}"), "roles"),
    ],
)
def test_a_template_without_a_place_is_refused_in_one_sentence(jinja, says):
    with pytest.raises(DataError, match=says) as caught:
        prompting(jinja).render(ROW)
    assert len(caught.value.problems) == 1


def test_arguments_are_never_learned_as_python_writes_them():
    """A template that prints what it is given gets the text."""
    assert (
        '{"law": "合同法 \\"46\\""}</call>' in learned(prompting(CALLS.replace("ARGUMENTS", "{{ c.function.arguments }}")).render(ROW))[0]
    )


def test_a_call_with_words_before_it_and_one_that_is_not_learned():
    said = (SAID[0], dataclasses.replace(SAID[1], content="我查一下。"), *SAID[2:])
    assert learned(prompting(AS_OBJECT).render(dataclasses.replace(ROW, messages=said)))[0].startswith("我查一下。<call>look_up")
    said = (SAID[0], dataclasses.replace(SAID[1], learn=False), *SAID[2:])
    assert learned(prompting(AS_OBJECT).render(dataclasses.replace(ROW, messages=said))) == ["A1<|end|>"]


def test_a_call_can_be_the_last_that_is_learned():
    spans = prompting(AS_OBJECT).render(dataclasses.replace(ROW, messages=SAID[:2], output=""))
    assert len(learned(spans)) == 1 and learned(spans)[0].endswith("</call><|end|>")


def test_a_system_message_in_between_is_not_lost():
    said = (*SAID[:3], Message("system", "短些"), SAID[3])
    assert "短些" in prompt_of(prompting(AS_OBJECT).render(dataclasses.replace(ROW, messages=said)))
    drops = AS_OBJECT.replace("{% if m.content %}", "{% if m.content and (m.role != 'system' or loop.first) %}")
    with pytest.raises(DataError, match="leaves out a system message that is not the first"):
        prompting(drops).render(dataclasses.replace(ROW, messages=said))


@pytest.mark.parametrize(
    ("content", "thought", "answer"),
    [
        ("<think>\n想\n</think>\n\n答", "想", "答"),
        ("想\n</think>答", "想", "答"),
        ("<think></think>答", "", "答"),
        ("答", "", "答"),
        ("写 </think> 是什么", "写", "是什么"),
        ("<think>想", "", "<think>想"),
        ("想</think>", "", "想</think>"),
        ("<think>想</think>答<think>再想</think>", "想", "答<think>再想</think>"),
    ],
)
def test_reasoning_is_taken_off_the_beginning_of_an_answer(content, thought, answer):
    parts = parts_of(Message("assistant", content))
    assert (parts.thought, parts.answer) == (thought, answer)


# --- turns that a template wants in turn --------------------------------------------------------------------------------------

_TURN = "<{{ m.role }}>{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
# How published templates refuse: by place, by the message before, by the roles' count.
STRICT = {
    "by place": "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}" + _TURN,
    "by the one before": "{% for m in messages %}{% if not loop.first and loop.previtem.role == m.role %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}" + _TURN,
}


def said_by(roles: str) -> tuple[Message, ...]:
    """Messages of u(ser), a(ssistant), s(ystem)."""
    names = {"u": "user", "a": "assistant", "s": "system"}
    return tuple(Message(names[role], f"text {i}", learn=i == len(roles) - 1) for i, role in enumerate(roles))


@pytest.mark.parametrize("name", STRICT)
@pytest.mark.parametrize(
    ("roles", "words"),
    [
        ("uua", "its messages 1 and 2 are two questions in a row"),
        ("uauuua", "its messages 3 and 4 are two questions in a row"),
        ("uaaua", "its messages 2 and 3 are two answers in a row"),
        ("uaa", "its messages 2 and 3 are two answers in a row"),
    ],
)
def test_two_turns_of_one_speaker_are_told_in_words_where_the_template_refuses_them(tmp_path, name, roles, words):
    template = prepared(base_in(tmp_path / "base", chat_template=STRICT[name]))
    row = Conversation("q", "a", messages=said_by(roles), where="")
    with pytest.raises(DataError) as error:
        template.render(row)
    assert str(error.value).startswith(f"{words}, and this base's chat template wants questions and answers in turns. Make one message")
    assert "must alternate" in str(error.value)


def test_where_the_template_takes_them_or_refuses_something_else_nothing_of_the_kind_is_said(tmp_path):
    row = Conversation("q", "a", messages=said_by("uua"), where="")
    assert prepared(base_in(tmp_path / "free")).render(row)
    long = "{% if messages | length > 1 and messages[-1].content == 'text 2' %}{{ raise_exception('too long') }}{% endif %}"
    with pytest.raises(DataError, match="refuses this conversation: too long"):
        prepared(base_in(tmp_path / "base", chat_template=long + "{% for m in messages %}" + _TURN)).render(row)


def test_the_row_is_named_and_many_are_told_once(tmp_path, command, project, monkeypatch):
    folder = tmp_path / "alternating"
    base_in(folder, chat_template=STRICT["by place"])
    monkeypatch.setattr("loraforge_text.families.meta_model.refusals", lambda *_: {})  # a base without sizes
    asked = [{"role": role, "content": "第"} for role in ("user", "user", "assistant")]
    path = tmp_path / "rows" / "rows.jsonl"
    path.parent.mkdir()
    path.write_text(
        "\n".join(json.dumps({"messages": [*asked[:2], {"role": "assistant", "content": f"答{i}"}]}) for i in range(8)), "utf-8"
    )
    code, _, err = command("check", "text", project(base_model=str(folder), train_data_dir=str(path.parent)))
    assert code == 2 and "rows.jsonl, line 1: its messages 1 and 2 are two questions in a row" in err and "7 more rows" in err
