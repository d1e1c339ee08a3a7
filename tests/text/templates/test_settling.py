# SPDX-License-Identifier: Apache-2.0
"""What base and rows decide before anything is rendered."""

from __future__ import annotations

import dataclasses
import json

import pytest
from builders.chat_bases import base_in, prepared
from builders.mechanics import MECHANICS
from builders.published_templates import make_base
from builders.tiny_text import CHATML
from loraforge_text.records import Conversation, Message
from loraforge_text.templates.builtin import AutoTemplate
from loraforge_text.templates.formats import FORMATS
from loraforge_text.templates.prompting import Prompting
from loraforge_text.templates.settling import settle

from loraforge import ConfigError, DataError, LoraForgeError, ModelError, prompt_of

PLAIN = Conversation("Q1", "A1", where="r")
THINKS = Conversation("Q1", "<think>T1</think>A1", where="r")
FIELD = Conversation("Q1", "A1", messages=(Message("user", "Q1"), Message("assistant", "A1", reasoning="T1")), where="r")
STOPS = ("<|end|>",)


def learned(spans):
    return [span.text for span in spans if span.learn]


def test_a_template_that_ignores_what_asks_gets_it():
    """Otherwise the model would have to learn the header of its own turn, and a server that shows it would show it twice."""
    ignores = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    prompting, remark = settle(Prompting(jinja=ignores, stops=STOPS), [PLAIN])
    spans = prompting.render(dataclasses.replace(PLAIN, history=(("Q0", "A0"),)))
    assert learned(spans) == ["A0<|end|>", "A1<|end|>"] and prompt_of(spans).endswith("<|user|>\nQ1<|end|>\n<|assistant|>\n")
    assert "'<|assistant|>\\n' is added to each prompt" in remark
    again, quiet = settle(prompting, [PLAIN])
    assert again.jinja == prompting.jinja and not quiet
    for name, one in FORMATS.items():  # [INST] needs no header
        assert settle(Prompting(jinja=one.jinja, stops=(one.stop or "</s>",)), [PLAIN])[0].jinja == one.jinja, name


@pytest.mark.parametrize(
    ("jinja", "says"),
    [
        ("{% for t in tools %}{{ t }}{% endfor %}{% for m in messages %}{{ m.content }}{% endfor %}", "for conversations with tools only, and 1 row"),
        ("{{ functions.x.y }}{% for m in messages %}{{ m.content }}{% endfor %}", "'functions' is undefined"),
        ("{% for m in messages %}{{ m.words }}{% endfor %}", "leaves the question out"),
    ],
)  # fmt: skip
def test_a_template_that_cannot_ask_is_refused_with_what_to_do(jinja, says):
    with pytest.raises(LoraForgeError, match=says) as caught:
        settle(Prompting(jinja=jinja, stops=("<|im_end|>",)), [PLAIN])
    assert "set prompt_template to what suits its tokens: chatml, llama2, alpaca, vicuna, plain" in str(caught.value)


def test_a_template_for_tools_is_taken_with_rows_that_have_them():
    jinja = "{% for t in tools %}{{ t.function.name }}{% endfor %}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    row = dataclasses.replace(PLAIN, tools=json.dumps([{"type": "function", "function": {"name": "look"}}]))
    prompting, _ = settle(Prompting(jinja=jinja, stops=STOPS), [row])
    assert prompt_of(prompting.render(row)) == "look<|user|>Q1<|end|><|assistant|>"


def test_a_system_message_that_a_template_drops_stands_before_the_question():
    drops = "{% for m in messages if m.role != 'system' %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    prompting, _ = settle(Prompting(jinja=drops, stops=STOPS, system="SYS"), [PLAIN])
    assert prompt_of(prompting.render(PLAIN)) == "<|user|>SYS\n\nQ1<|end|><|assistant|>"


def test_reasoning_without_a_place_stops_all_at_once_with_both_choices():
    none = Prompting(jinja=MECHANICS["no reasoning (Llama, Qwen2.5)"].jinja, stops=STOPS)
    with pytest.raises(DataError, match="3 rows: .*'reasoning: learn'.*'reasoning: drop'"):
        settle(none, [FIELD, FIELD, THINKS, PLAIN])
    assert "; 2 answers contain their reasoning, which is learned as they have it" in settle(none, [THINKS, THINKS, PLAIN])[1]
    learns, remark = settle(dataclasses.replace(none, reasoning="learn"), [FIELD])
    assert learned(learns.render(FIELD)) == ["<think>\nT1\n</think>\n\nA1<|end|>"] and "1 answer" in remark
    drops, remark = settle(dataclasses.replace(none, reasoning="drop"), [FIELD, THINKS])
    assert learned(drops.render(FIELD)) == learned(drops.render(THINKS)) == ["A1<|end|>"] and "of 2 answers is left out" in remark
    assert "changes nothing" in settle(dataclasses.replace(none, reasoning="drop"), [PLAIN])[1]


def test_reasoning_that_a_template_takes_out_can_only_be_dropped():
    takes = MECHANICS["no reasoning (Llama, Qwen2.5)"].jinja.replace("m.content", "m.content.split('</think>')[-1]")
    for row in (FIELD, THINKS):
        with pytest.raises(DataError, match="leaves reasoning out. Set 'reasoning: drop'"):
            settle(Prompting(jinja=takes, stops=STOPS, reasoning="learn"), [row])
        assert learned(settle(Prompting(jinja=takes, stops=STOPS, reasoning="drop"), [row])[0].render(row)) == ["A1<|end|>"]


def test_empty_thoughts_are_none():
    empty = Conversation("Q1", "<think>\n\n</think>\n\nA1", where="r")
    prompting, remark = settle(Prompting(jinja=MECHANICS["a field, dropped from history (Qwen3, GLM)"].jinja, stops=STOPS), [empty])
    assert prompting.kwargs == {"enable_thinking": False} and "thinking is off" in remark
    assert learned(prompting.render(empty)) == ["A1<|end|>"]


@pytest.mark.parametrize("row", [FIELD, THINKS])
def test_inline_templates_ask_too(row):
    inline = Prompting(inline="[INST]{instruction}[/INST]", stops=("</s>",))
    if row is FIELD:
        with pytest.raises(DataError, match="1 row: .*reasoning: learn"):
            settle(inline, [row])
    else:
        assert learned(settle(inline, [row])[0].render(row)) == ["<think>T1</think>A1</s>"]
    assert learned(dataclasses.replace(inline, reasoning="drop").render(row)) == ["A1</s>"]
    assert "T1" in learned(dataclasses.replace(inline, reasoning="learn").render(row))[0]


def prepare(folder, *records, wanted="auto", system=None):
    from loraforge_text.records import TextKeys
    from loraforge_text.templates.builtin import InlineTemplate

    from loraforge import KeySet, RunConfig

    config = RunConfig(train_data_dir=".", base_model=str(folder), prompt_template=wanted)
    template = AutoTemplate() if wanted == "auto" else InlineTemplate()
    return template.prepare(config, KeySet({RunConfig: config, TextKeys: TextKeys(system_prompt=system)}), records)


def test_a_system_message_is_not_lost_by_an_inline_template(tmp_path):
    folder = make_base(tmp_path / "base", MECHANICS["no reasoning (Llama, Qwen2.5)"].jinja)
    inline = "[INST]{instruction}[/INST]"
    own = dataclasses.replace(PLAIN, system="医生")
    for rows, wanted, system in (
        ([PLAIN, PLAIN], inline, "律师"),
        ([own, own, PLAIN], inline, None),
        ([dataclasses.replace(own, prompt_template=inline)] * 2 + [PLAIN], "auto", None),
    ):
        with pytest.raises((DataError, ConfigError), match=r"2 rows: the template .* has no \{system\}, so the system message"):
            prepare(folder, *rows, wanted=wanted, system=system)
    template = prepare(folder, own, PLAIN, wanted="{system}" + inline, system="律师")
    assert prompt_of(template.render(own)).startswith("医生[INST]") and prompt_of(template.render(PLAIN)).startswith("律师[INST]")


def test_messages_that_an_inline_template_can_write():
    inline = Prompting(inline="[INST]{instruction}[/INST]", stops=("</s>",))
    said = (Message("user", "Q0"), Message("assistant", "A0", learn=False), Message("user", "Q1"), Message("assistant", "A1"))
    spans = inline.render(dataclasses.replace(PLAIN, messages=said))
    assert [(span.text, span.learn) for span in spans] == [
        ("[INST]Q0[/INST]", False), ("A0</s>", False), ("[INST]Q1[/INST]", False), ("A1</s>", True),
    ]  # fmt: skip
    for odd in (said[1:], (Message("user", "Q"), *said)):
        with pytest.raises(DataError, match="questions and answers in turns only"):
            inline.render(dataclasses.replace(PLAIN, messages=odd))


def test_a_base_without_any_stop_is_refused(tmp_path):
    folder = make_base(tmp_path / "base", "{% for m in messages %}{{ m.content }}{% endfor %}", ("<e>",), ("<a>",))
    for name in ("tokenizer_config.json", "generation_config.json"):
        (folder / name).write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="names no token that ends an answer.*Write eos_token into"):
        prepare(folder, PLAIN)


# --- reasoning in some answers only -------------------------------------------------------------------------------------------

_THINKS_ALOUD = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_OPENS = _THINKS_ALOUD.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
_NONE = "no reasoning"


@pytest.mark.parametrize(
    ("jinja", "wanted", "rows", "words"),
    [
        (_THINKS_ALOUD, "auto", [FIELD, FIELD, PLAIN], "; 1 of 3 answers has no reasoning, so the model learns to answer now with it"),
        (CHATML, "auto", [THINKS, PLAIN, PLAIN], "; 2 of 3 answers have no reasoning, so"),
        (CHATML, "[{instruction}]", [THINKS, PLAIN], "; 1 of 2 answers has no reasoning, so"),
        (_OPENS, "auto", [FIELD, PLAIN], "; 1 answer has no reasoning: with them the model learns to close its thought at once"),
        (_THINKS_ALOUD, "auto", [FIELD, FIELD], ""),
        (_THINKS_ALOUD, "auto", [PLAIN, PLAIN], ""),
    ],
)
def test_rows_with_and_without_reasoning_are_counted_in_one_remark(tmp_path, jinja, wanted, rows, words):
    reason = prepared(base_in(tmp_path / "base", chat_template=jinja), wanted, rows).reason
    assert words in reason and reason.count(_NONE) == bool(words)


# --- templates that change -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        "{{ ['Hello', 'Hi'] | random }}",
        "{{ range(99) | list | random }}",
        "{{ lipsum(n=1) }}",
        "{{ messages[0].items }}",
        "{% if messages | length > 1 %}{{ ['a', 'b'] | random }}{% endif %}",
        "{% if '问' in messages[0].content %}{{ [1, 2] | random }}{% endif %}",
    ],
)
def test_a_template_that_writes_something_else_each_time_is_refused(tmp_path, first):
    with pytest.raises(ModelError, match="writes the same conversation otherwise each time"):
        prepared(base_in(tmp_path / "base", chat_template=first + CHATML))


def test_two_texts_of_one_conversation_are_shown(monkeypatch):
    texts = iter(["", "Now 12:00:01", "Now 12:00:02"])  # once, to see whether it can ask at all
    monkeypatch.setattr(Prompting, "in_parts", lambda self: self)
    monkeypatch.setattr(Prompting, "sample", lambda self, messages, **_: f"{messages[0]['content']} {next(texts, '')}")
    monkeypatch.setattr(Prompting, "text", lambda self, *_, **__: "")
    with pytest.raises(ModelError, match=r"otherwise each time \('1', '2'\)"):
        settle(Prompting(jinja="x"), [])


def test_what_a_row_says_of_addresses_is_its_own_affair(tmp_path):
    row = Conversation("What is <object at 0x7f0012345678>?", "An object.", where="")
    assert prepared(base_in(tmp_path / "base"), records=[row])


def test_a_date_that_is_pinned_does_not_change(tmp_path):
    assert prepared(base_in(tmp_path / "base", chat_template="{{ strftime_now('%H:%M:%S %f') }}" + CHATML))
