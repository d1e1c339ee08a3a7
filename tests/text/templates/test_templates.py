# SPDX-License-Identifier: Apache-2.0
"""What kinds of chat templates bases bring: several by name, and such that take texts in parts only. All are learned, exported and checked."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from builders.chat_bases import GEMMA, base_in, exported, prepared, served_by
from builders.tiny_text import CHATML
from loraforge_text.base_files import read_base
from loraforge_text.export.check import check_folder
from loraforge_text.families.encoding import tokenizer_of
from loraforge_text.records import Conversation, Message
from loraforge_text.templates import golden_prompts

from loraforge import prompt_of

# --- several by name -----------------------------------------------------------------------------------------------------------

# Ends in a line break, sets a variable and has a macro: what joining two templates could spoil.
TOOLS = (
    "{% macro named(tool) %}{{ tool.function.name }}{% endmacro %}\n{% set first = 'T' %}\n"
    "<|im_start|>system\n{{ first }}{% for tool in tools %}{{ named(tool) }} {{ tool | tojson }}{% endfor %}<|im_end|>\n"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}\n"
)
RAG = "RAG {{ messages[0].content }}"
DEFAULT = CHATML + "\n"
LOOK = {"type": "function", "function": {"name": "look_up", "description": "d", "parameters": {"type": "object", "properties": {}}}}
PLAIN = Conversation("问？", "答。", where="")
WITH = Conversation(
    "查？",
    "好。",
    tools=json.dumps([LOOK]),
    messages=(
        Message("user", "查？"),
        Message("assistant", "", tool_calls=json.dumps([{"id": "1", "name": "look_up", "arguments": {}}]), learn=False),
        Message("tool", "46", call_id="1"),
        Message("assistant", "好。"),
    ),
    where="",
)


def listed(folder, **named):
    """In tokenizer_config.json, as a list."""
    file = folder / "tokenizer_config.json"
    settings = {**json.loads(file.read_text(encoding="utf-8")), "chat_template": [{"name": n, "template": t} for n, t in named.items()]}
    file.write_text(json.dumps(settings), encoding="utf-8")


def in_files(folder, default=None, **named):
    """As files in a folder."""
    if default:
        (folder / "chat_template.jinja").write_text(default, encoding="utf-8")
    (folder / "additional_chat_templates").mkdir()
    for name, text in named.items():
        (folder / "additional_chat_templates" / f"{name}.jinja").write_text(text, encoding="utf-8")


@pytest.fixture(params=[listed, in_files], ids=["listed", "files"])
def base(request, tmp_path):
    def make(**named):
        folder = base_in(tmp_path / "base", chat_template=None)
        request.param(folder, **named)
        return folder

    return make


def asked(folder, row):
    """What transformers makes of a row's conversation up to its last answer."""
    from transformers import AutoTokenizer

    tools = json.loads(row.tools) if row.tools else None
    messages = [{"role": "user", "content": "问？"}]
    if tools:
        call = {"id": "1", "type": "function", "function": {"name": "look_up", "arguments": {}}}
        calling = {"role": "assistant", "content": "", "tool_calls": [call]}
        messages = [{"role": "user", "content": "查？"}, calling, {"role": "tool", "content": "46", "tool_call_id": "1"}]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=True)


def test_each_row_is_learned_with_the_template_that_transformers_takes(base):
    folder = base(default=DEFAULT, tool_use=TOOLS, rag=RAG)
    template = prepared(folder, records=[PLAIN, WITH, WITH])
    assert [prompt_of(template.render(row)) for row in (PLAIN, WITH)] == [asked(folder, row) for row in (PLAIN, WITH)]
    assert "look_up {" in prompt_of(template.render(WITH)) and "T" not in prompt_of(template.render(PLAIN))
    assert template.reason == "the base model's own chat template 'default', and 'tool_use' for the 2 rows with tools"
    assert template.recall(json.loads(json.dumps(template.describe()))).render(WITH) == template.render(WITH)


def test_without_tools_nothing_is_added_to_the_default(base):
    template = prepared(base(default=DEFAULT, tool_use=TOOLS), records=[PLAIN])
    assert template.prompting.jinja == DEFAULT and template.reason == "the base model's own chat template 'default'"


@pytest.mark.parametrize("rows", [[PLAIN], [PLAIN, WITH]], ids=["plain", "tools"])
def test_exports_keep_all_of_them(base, rows):
    folder = base(default=DEFAULT, tool_use=TOOLS, rag=RAG)
    template = prepared(folder, records=rows, system="S")
    out = exported(folder, template)
    kept = {file.stem: file.read_text(encoding="utf-8") for file in (out / "additional_chat_templates").iterdir()}
    assert set(kept) == {"tool_use", "rag"} and kept["rag"] == RAG
    assert "chat_template" not in json.loads((out / "tokenizer_config.json").read_text(encoding="utf-8"))
    for row in rows:
        assert asked(out, row) == prompt_of(template.render(row))
    if len(rows) == 1:
        assert kept["tool_use"] == TOOLS  # nothing was trained with it


def test_one_file_is_enough_for_a_server_that_reads_only_one(base):
    folder = base(default=DEFAULT, tool_use=TOOLS)
    template = prepared(folder, records=[PLAIN, WITH])
    out = exported(folder, template)
    (out / "additional_chat_templates" / "tool_use.jinja").unlink()
    assert [asked(out, row) for row in (PLAIN, WITH)] == [prompt_of(template.render(row)) for row in (PLAIN, WITH)]


@pytest.mark.parametrize(
    ("named", "usual"),
    [
        ({"tool_use": TOOLS, "chat": DEFAULT}, "chat"),
        ({"chat": DEFAULT, "rag": RAG}, "chat"),
        ({"rag": RAG, "default": DEFAULT}, "default"),
        ({"tool_use": TOOLS}, "tool_use"),
        ({"default": " ", "chat": DEFAULT}, "chat"),
    ],
)
def test_the_one_that_is_meant_when_none_is_named(tmp_path, named, usual):
    folder = base_in(tmp_path / "base", chat_template=None)
    listed(folder, **named)
    assert read_base(folder).chat_template == named[usual]


def test_a_bos_that_the_template_writes_is_kept_with_tools_too(tmp_path):
    folder = base_in(tmp_path / "base", chat_template=None, special=("<s>", "<|im_start|>", "<|im_end|>"), bos="<s>")
    file = folder / "tokenizer.json"
    plain = {**json.loads(file.read_text(encoding="utf-8")), "post_processor": None}
    file.write_text(json.dumps(plain), encoding="utf-8")
    listed(folder, default="{{ bos_token }}" + DEFAULT, tool_use="{{ bos_token }}" + TOOLS)
    template = prepared(folder, records=[PLAIN, WITH])
    assert all(prompt_of(template.render(row)).startswith("<s><|im_start|>") for row in (PLAIN, WITH))


# --- in parts only ---------------------------------------------------------------------------------------------------------------

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
    assert len(json.loads(document)["prompts"]) == 3
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
