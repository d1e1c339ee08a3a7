# SPDX-License-Identifier: Apache-2.0
"""The exported chat template in transformers: what a server is asked becomes what was trained, without being told anything else."""

from __future__ import annotations

import dataclasses
import datetime
import json
from types import SimpleNamespace

import pytest
from builders.chat_bases import GEMMA, GEMMA_TOKENS, LLAMA3, LLAMA3_TOKENS, QWEN3, R1, base_in, exported, prepared
from builders.tiny_text import CHATML
from loraforge_text.base_files import read_base
from loraforge_text.templates.builtin import AutoTemplate
from loraforge_text.templates.prompting import Prompting
from loraforge_text.templates.served import export_jinja

USER, MORE, SYSTEM = (
    {"role": "user", "content": "问一？"},
    {"role": "user", "content": "问二？"},
    {"role": "system", "content": "你是'律师'\n\\。"},
)
ANSWER = {"role": "assistant", "content": "答一。"}
DAY = datetime.datetime(2024, 7, 26)
BARE_S = {"special": ("<unk>", "<s>", "</s>"), "eos": "</s>", "bos": "<s>"}

NOW = "{%- set today = strftime_now({}) %}Today: {{ today }}\n"
DATED = {
    "mistral": NOW.replace("{}", "'%Y-%m-%d'") + CHATML,
    "granite": NOW.replace("{}", '"%B %d, %Y"') + CHATML,
    "a variable": "{% set pattern = '%d/%b/%y %A' %}" + NOW.replace("{}", "pattern") + CHATML,
    "without zeros": NOW.replace("{}", "'%-d %B'") + CHATML,
    "other fields": NOW.replace("{}", "'%F %e %j %u'") + CHATML,
    "in pieces": NOW.replace("{}", "'%' ~ 'd' ~ ' %' ~ 'B'") + CHATML,
    "if there is one": "{% if strftime_now is defined %}{% set d = strftime_now(format='%d %b %Y') %}{% endif %}{{ d }}" + CHATML,
}
# The finished turn ends otherwise than eos_token; a later turn prints it.
PHI = (
    "{% for message in messages %}{{'<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
ODD = {
    "a line break first": "\n" + CHATML,
    "two line breaks first": "\n\n" + CHATML,
    "an indented block first": "  {% set x = 1 %}  {{ x }}" + CHATML,
    "eos and bos inside": "{{ bos_token }}{% for m in messages %}{{ m.role }}:{{ m.content }}<|im_end|>{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}",
}
# A system role is refused in several ways: by a message, by roles that must alternate, by an unknown role.
REFUSING = {
    "gemma 2": GEMMA,
    "alternating": "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}"
    "{% endif %}<{{ m.role }}>{{ m.content }}<eos>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
    "unknown role": "{% for m in messages %}{% if m.role not in ['user', 'assistant'] %}{{ raise_exception('unknown role') }}{% endif %}"
    "<{{ m.role }}>{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}"
    "<eos>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
}


@pytest.fixture
def today(monkeypatch):
    """transformers' clock shows the day that is pinned."""
    from transformers.utils import chat_template_utils

    monkeypatch.setattr(chat_template_utils, "datetime", SimpleNamespace(now=lambda: DAY))
    yield
    monkeypatch.undo()


def asked(folder, messages, **kwargs) -> str:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder).apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **kwargs)


def folded(messages):
    return [{"role": "user", "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}, *messages[2:]]


def cases():
    talks = {"one": [USER], "system": [SYSTEM, USER], "turns": [USER, ANSWER, MORE], "all": [SYSTEM, USER, ANSWER, MORE]}
    date = {"date_string": "26 Jul 2024"}
    off = {"enable_thinking": False}
    r1 = {"special": ("<pad>", "<|User|>", "<|Assistant|>", "</s>"), "eos": "</s>"}
    base = {"eos": "<|endoftext|>"}
    phi = {"special": ("<|endoftext|>", "<|end|>", "<|user|>", "<|assistant|>"), "eos": "<|endoftext|>"}
    rows = [
        ("chatml", CHATML, {}, {}), ("chatml base", CHATML, base, {}), ("qwen3", QWEN3, {}, off), ("llama3", LLAMA3, LLAMA3_TOKENS, date),
        ("phi", PHI, phi, {}),
        ("eos inside", ODD["eos and bos inside"], base, {}), *((name, jinja, {}, {}) for name, jinja in DATED.items()), *((name, jinja, BARE_S, {}) for name, jinja in ODD.items()),
    ]  # fmt: skip
    for name, jinja, tokens, kwargs in rows:
        for talk, messages in talks.items():
            for prompt in (None, "全局"):
                whole = messages if messages[0] is SYSTEM or not prompt else [{"role": "system", "content": prompt}, *messages]
                yield pytest.param(jinja, tokens, kwargs, prompt, messages, whole, id=f"{name}-{talk}-{prompt}")
    # R1's leaves a system message out without a word: that, too, stands in the first question.
    for name, jinja, tokens in [*((name, jinja, GEMMA_TOKENS) for name, jinja in REFUSING.items()), ("r1", R1, r1)]:
        for talk, messages in talks.items():
            for prompt in (None, "全局"):
                whole = messages if messages[0] is SYSTEM or not prompt else [{"role": "system", "content": prompt}, *messages]
                whole = folded(whole) if whole[0]["role"] == "system" else whole
                yield pytest.param(jinja, tokens, {}, prompt, messages, whole, id=f"{name}-{talk}-{prompt}")


@pytest.mark.parametrize(("jinja", "tokens", "kwargs", "system", "messages", "whole"), cases())
def test_a_server_that_is_told_nothing_asks_as_the_base_is_asked_when_told_all(
    jinja, tokens, kwargs, system, messages, whole, tmp_path, today
):
    folder = base_in(tmp_path / "base", chat_template=jinja, **tokens)
    wanted = asked(folder, whole, **kwargs)
    if jinja in DATED.values():
        base = read_base(folder)
        template = AutoTemplate(Prompting(jinja=jinja, tokens=base.tokens, stops=base.stops, system=system))
    else:
        template = prepared(folder, system=system)
    out = exported(folder, template)
    assert asked(out, messages) == wanted
    assert asked(out, messages, enable_thinking=True, date_string="x") == wanted  # nor can a request change it


@pytest.mark.parametrize("name", list(REFUSING))
@pytest.mark.parametrize("system", [SYSTEM["content"], [{"type": "text", "text": "S1"}, {"type": "text", "text": "S2"}]])
def test_a_system_message_in_parts_is_folded_too(name, system, tmp_path):
    folder = base_in(tmp_path / "base", chat_template=REFUSING[name], **GEMMA_TOKENS)
    out = exported(folder, prepared(folder))
    text = system if isinstance(system, str) else "S1S2"
    made = asked(out, [{"role": "system", "content": system}, USER])
    assert made == asked(folder, [{"role": "user", "content": f"{text}\n\n问一？"}])
    if name == "unknown role":  # the one that reads parts
        parts = [{"role": "system", "content": system}, {"role": "user", "content": [{"type": "text", "text": "问一？"}]}]
        assert asked(out, parts) == made


def test_a_template_that_takes_system_messages_is_left_as_it_is(tmp_path):
    template = prepared(base_in(tmp_path / "base"))
    assert export_jinja(template.describe()) == CHATML


@pytest.mark.parametrize("wanted", ["llama2", "alpaca", "vicuna", "plain"])
def test_a_format_of_ours_adds_no_bos_that_training_did_not_add(wanted, tmp_path):
    folder = base_in(tmp_path / "base", chat_template=None, special=("<unk>", "<s>", "</s>"), eos="</s>")
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "bos_token": "<s>"}), encoding="utf-8")
    template = prepared(folder, wanted)
    made = asked(exported(folder, template), [USER, ANSWER, MORE])
    assert "<s>" not in made and made.count("</s>") == 1
    assert made == template.prompting.text([USER, ANSWER, MORE], ask=True)


@pytest.mark.parametrize(
    "inline", ["[INST]{instruction}[/INST]", "{system}|it's {instruction}\\\nA:{output}", "{% x %}{{ y }}{instruction}"]
)
@pytest.mark.parametrize("tokens", [{}, BARE_S], ids=["chatml", "bos"])
def test_an_inline_string_wraps_every_question(inline, tokens, tmp_path):
    folder = base_in(tmp_path / "base", chat_template=None, **tokens)
    system = "全局" if "{system}" in inline else None  # it would be lost otherwise, which stops a run
    out = exported(folder, prepared(folder, inline, system=system))
    bos, eos = tokens.get("bos", ""), tokens.get("eos", "<|im_end|>")
    around = inline.removesuffix("{output}")

    def turn(question, system=system or ""):
        return bos + around.replace("{system}", system).replace("{instruction}", question)

    assert asked(out, [USER]) == turn("问一？")
    assert asked(out, [SYSTEM, USER]) == turn("问一？", SYSTEM["content"])
    assert asked(out, [USER, ANSWER, MORE]) == turn("问一？") + "答一。" + eos + turn("问二？")
    assert asked(out, [{"role": "user", "content": [{"type": "text", "text": "问一？"}]}]) == turn("问一？")


def test_what_a_template_is_called_with_may_be_any_plain_value(tmp_path):
    template = prepared(base_in(tmp_path / "base"))
    values = {"a": None, "b": True, "c": 1.5, "d": ["x'\\", {"y": "z\r\n"}]}
    prompting = dataclasses.replace(template.prompting, jinja="{{ [a, b, c, d] | tojson }}", kwargs=values)
    from transformers.utils.chat_template_utils import render_jinja_template

    made, _ = render_jinja_template(conversations=[[USER]], chat_template=export_jinja(dataclasses.asdict(prompting)))
    assert json.loads(made[0]) == list(values.values())
