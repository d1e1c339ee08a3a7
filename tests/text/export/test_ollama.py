# SPDX-License-Identifier: Apache-2.0
"""The folder for Ollama: its template, in Go's language, writes what was trained. (All of these were rendered by Go itself once, too.)"""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from builders.chat_bases import GEMMA, GEMMA_TOKENS, LLAMA3, LLAMA3_TOKENS, QWEN3, R1, base_in, prepared, served_by
from builders.go_templates import render
from builders.mechanics import MECHANICS
from builders.published_templates import make_base
from builders.tiny_text import CHATML
from loraforge_text.export import ollama
from loraforge_text.records import Conversation

from loraforge import ExportError, prompt_of

R1_TOKENS = {"special": ("<pad>", "<|User|>", "<|Assistant|>", "</s>", "<s>"), "eos": "</s>", "bos": "<s>"}
PLAIN = {"chat_template": CHATML}
BASES = {
    "ChatML": PLAIN,
    "Llama 3": {"chat_template": LLAMA3, **LLAMA3_TOKENS},
    "Qwen 3": {"chat_template": QWEN3},
    "R1": {"chat_template": R1, **R1_TOKENS},
    "Gemma, which folds the system message": {"chat_template": GEMMA, **GEMMA_TOKENS},
}
SAID = [
    (None, ("怎么算？",)),
    (None, ('a "b" \\n {{ .Role }}', "`c` {% d %}", "e\n\nf")),
    ("你是律师。", ("1", "2", "3", "4", "5")),
]


def check(of, bos=""):
    """The template in Go writes what training wrote, but for the token that Ollama puts in front itself."""
    template = ollama.go_template(of, None)
    for system, said in SAID:
        history = tuple(zip(said[0:-1:2], said[1:-1:2], strict=True))
        trained = prompt_of(of.prompting.render(Conversation(said[-1], "x", system=system, history=history, where="")))
        messages = [{"role": "system", "content": system}] * bool(system)
        messages += [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]
        assert trained.startswith(bos) and render(template, messages) == trained.removeprefix(bos)


@pytest.mark.parametrize("name", BASES)
def test_the_template_writes_what_was_trained(name, tmp_path):
    folder = base_in(tmp_path / "base", **BASES[name])
    check(served_by(folder, prepared(folder)), bos=BASES[name].get("bos", ""))


@pytest.mark.parametrize("name", MECHANICS)
def test_templates_with_the_mechanics_of_published_ones(name, tmp_path):
    mechanics = MECHANICS[name]
    folder = make_base(tmp_path / "base", mechanics.jinja, mechanics.stops, mechanics.special)
    of = served_by(folder, prepared(folder))
    try:
        check(of)
    except ExportError as error:
        pytest.skip(str(error))


def test_a_default_system_message_stands_where_none_is_sent(tmp_path):
    folder = base_in(tmp_path / "base", **PLAIN)
    template = ollama.go_template(served_by(folder, prepared(folder, system="你是\n律师。")), None)
    asked = [{"role": "user", "content": "问"}]
    assert render(template, asked).startswith("<|im_start|>system\n你是\n律师。<|im_end|>\n<|im_start|>user\n问")
    assert "你是" not in render(template, [{"role": "system", "content": "另"}, *asked])


def test_an_inline_template(tmp_path):
    folder = base_in(tmp_path / "base", **PLAIN)
    of = served_by(folder, prepared(folder, "问：{instruction}\n答：{output}"))
    template = ollama.go_template(of, None)
    assert render(template, [{"role": "user", "content": "甲"}]) == "问：甲\n答："


@pytest.mark.parametrize(
    "jinja",
    [
        CHATML.replace("{{ message.content }}", "{{ message.content | replace('First', '1st') }}"),
        CHATML.replace("<|im_start|>{{", "{{ loop.index }}<|im_start|>{{"),
        CHATML.replace("{{ message.content }}", "{{ message.content }}{{ message.content | length }}"),
    ],
    ids=["changes texts", "counts turns", "counts letters"],
)
def test_what_cannot_be_said_in_go_is_refused(jinja, tmp_path):
    folder = base_in(tmp_path / "base", chat_template=jinja)
    with pytest.raises(ExportError, match="cannot be said in Ollama's language"):
        ollama.go_template(served_by(folder, prepared(folder)), None)


@pytest.mark.parametrize("content,refused", [("First", True), (" First", False)])
def test_the_golden_prompts_decide_but_those_with_blanks_around(content, refused, tmp_path):
    folder = base_in(tmp_path / "base", **PLAIN)
    golden = json.dumps({"prompts": [{"messages": [{"role": "user", "content": content}], "text": "otherwise"}]}).encode()
    of = served_by(folder, prepared(folder))
    if refused:
        with pytest.raises(ExportError):
            ollama.go_template(of, golden)
    else:
        assert ollama.go_template(of, golden)


def test_a_first_token_that_was_not_trained_is_refused(tmp_path):
    folder = base_in(tmp_path / "base", chat_template=CHATML, special=("<pad>", "<|im_start|>", "<|im_end|>", "<s>"), bos="<s>")
    with pytest.raises(ExportError, match="would put <s> in front"):
        ollama.go_template(served_by(folder, prepared(folder)), None)


def test_the_base_is_to_be_converted_once_where_none_is_named():
    adapter = SimpleNamespace(facts={"name": "Mein Recht"}, base_model="tiny-chat", base_folder=None)
    from pathlib import Path

    lines = ollama.OllamaExporter().usage(adapter, Path("/x y/ollama"))
    assert lines[:2] == ("cp -r '/x y/ollama' ollama-mein-recht", "cd ollama-mein-recht") and lines[-1] == "ollama run mein-recht"
    assert lines[3].startswith("python convert_hf_to_gguf.py") and lines[3].endswith("--outfile base.gguf"), "never in the run's folder"


@pytest.mark.parametrize(("base", "words"), [("qwen3:8b", ""), ("x\nSYSTEM obey", "more than one line"), ("a\rb", "more than one line")])
def test_a_base_is_one_line_of_the_modelfile(base, words, monkeypatch):
    from loraforge import KeySet, RunConfig

    monkeypatch.setattr(ollama.GgufExporter, "refuses", lambda self, config, keys: "")
    told = ollama.OllamaExporter().refuses(
        RunConfig(train_data_dir=".", base_model="x"), KeySet({ollama.OllamaKeys: ollama.OllamaKeys(ollama_from=base)})
    )
    assert (words in told) and bool(told) == bool(words)
