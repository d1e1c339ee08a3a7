"""A base with several named chat templates: each conversation is learned with the one that transformers takes, and exports keep them all."""

from __future__ import annotations

import json

import pytest
from builders.chat_bases import base_in, exported, prepared
from builders.tiny_text import CHATML
from loraforge_text.base_files import read_base
from loraforge_text.records import Conversation, Message

from loraforge import prompt_of

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
