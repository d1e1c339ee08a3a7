"""Templates that take a message's text in parts only: learned, exported and checked like any other."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from builders.chat_bases import GEMMA, base_in, exported, prepared, served_by
from builders.tiny_text import CHATML
from loraforge_text.export.check import check_folder
from loraforge_text.families.encoding import tokenizer_of
from loraforge_text.records import Conversation, Message
from loraforge_text.templates import golden_prompts

from loraforge import prompt_of

_TURN = "<|im_start|>{{ m.role }}\n{% BODY %}<|im_end|>\n"
_FRAME = "{% for m in messages %}" + _TURN + "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
# What they make of a plain string: nothing, an error, letters one by one.
PARTS = {
    "by type": "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% elif p.type == 'image' %}<image>{% endif %}{% endfor %}",
    "refuses": "{% if m.content is string %}{{ raise_exception('content must be a list') }}{% endif %}{{ m.content[0].text }}",
    "the first": "{{ m.content[0]['text'] }}",
    "by filter": "{{ m.content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join('') }}",
    "answers are plain": "{% if m.content is string and m.role != 'assistant' %}{{ m.content }}{% else %}{{ m.content[0].text }}{% endif %}",
}
BOTH = "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}"
ROWS = [
    Conversation("问？", "答。", where=""),
    Conversation("再问？", "再答。", history=(("一", "二"),), system="律师", where=""),
    Conversation("查", "好", messages=(Message("user", "查"), Message("assistant", "不", learn=False), Message("user", "查"), Message("assistant", "好")), where=""),
]  # fmt: skip


def framed(body: str) -> str:
    return _FRAME.replace("{% BODY %}", body)


@pytest.mark.parametrize("name", PARTS)
def test_parts_are_given_where_nothing_else_is_taken(tmp_path, name):
    plain = prepared(base_in(tmp_path / "plain"))
    template = prepared(base_in(tmp_path / "base", chat_template=framed(PARTS[name])))
    assert [template.render(row) for row in ROWS] == [plain.render(row) for row in ROWS]
    assert "it takes texts in parts only" in template.reason and template.prompting.parts
    again = template.recall(json.loads(json.dumps(template.describe())))
    assert [again.render(row) for row in ROWS] == [plain.render(row) for row in ROWS]


@pytest.mark.parametrize("jinja", [CHATML, framed(BOTH), framed("{{ m.content }}"), framed("{{ m.content | trim }}"), GEMMA])
def test_other_templates_get_plain_texts(tmp_path, jinja):
    tokens = ("<bos>", "<start_of_turn>", "<end_of_turn>", "<|im_start|>", "<|im_end|>")
    template = prepared(base_in(tmp_path / "base", chat_template=jinja, special=tokens, bos="<bos>"))
    assert not template.prompting.parts and "parts" not in template.describe() and "parts" not in template.reason


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("system", [None, "律师"])
def test_exports_take_texts_and_parts_and_pass_their_check(tmp_path, name, system):
    from transformers import AutoTokenizer

    folder = base_in(tmp_path / "base", chat_template=framed(PARTS[name]))
    template = prepared(folder, system=system)
    pairs = [(row, template.render(row)) for row in ROWS]
    document = golden_prompts.golden_prompts(tokenizer_of(folder), pairs, system)
    adapter = SimpleNamespace(facts={"template": template.describe()}, files={golden_prompts.NAME: document})
    out = exported(folder, template)
    check_folder(served_by(folder, template), adapter, out)
    assert len(json.loads(document)["prompts"]) == 2
    reader = AutoTokenizer.from_pretrained(out)
    for content in ("问？", [{"type": "text", "text": "问？"}]):
        asked = reader.apply_chat_template([{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True)
        assert asked == prompt_of(template.render(ROWS[0]))


def test_a_row_with_a_format_of_its_own_gets_plain_text(tmp_path):
    template = prepared(base_in(tmp_path / "base", chat_template=framed(PARTS["the first"])))
    own = Conversation("问？", "答。", prompt_template="chatml", where="")
    assert template.render(own) == prepared(base_in(tmp_path / "plain")).render(ROWS[0])


def test_a_system_message_that_is_refused_either_way_stands_in_the_question(tmp_path):
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + framed(PARTS["the first"])
    template = prepared(base_in(tmp_path / "base", chat_template=refusing))
    row = Conversation("问？", "答。", system="律师", where="")
    assert template.prompting.parts and "user\n律师\n\n问？<|im_end|>" in prompt_of(template.render(row))


def test_calls_of_tools_keep_what_is_beside_the_text(tmp_path):
    from transformers import AutoTokenizer

    call = "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}"
    tools = "{% for tool in tools or [] %}{{ tool.function.name }}{% endfor %}"
    folder = base_in(tmp_path / "base", chat_template=tools + framed(PARTS["by type"] + call))
    look = {"type": "function", "function": {"name": "look_up", "description": "-", "parameters": {"type": "object", "properties": {}}}}
    calls = json.dumps([{"id": "1", "name": "look_up", "arguments": {}}])
    said = (
        Message("user", "查"),
        Message("assistant", "", tool_calls=calls),
        Message("tool", "46", call_id="1"),
        Message("assistant", "好"),
    )
    row = Conversation("查", "好", messages=said, tools=json.dumps([look]), where="")
    template = prepared(folder, records=[row])
    mine = "".join(span.text for span in template.render(row))
    assert "46<|im_end|>" in mine and "look_up" in mine
    calling = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "look_up", "arguments": {}}}],
    }
    messages = [{"role": "user", "content": "查"}, calling, {"role": "tool", "content": "46", "tool_call_id": "1"}]
    reader = AutoTokenizer.from_pretrained(exported(folder, template))
    assert mine.startswith(reader.apply_chat_template(messages, tools=[look], tokenize=False, add_generation_prompt=True))
