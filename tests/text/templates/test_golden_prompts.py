# SPDX-License-Identifier: Apache-2.0
"""Which rows become golden prompts: those that a server can be asked."""

from __future__ import annotations

import dataclasses
import json

import pytest
from loraforge_text.families.encoding import tokenizer_of
from loraforge_text.records import Conversation, Message
from loraforge_text.templates import golden_prompts
from loraforge_text.templates.formats import FORMATS
from loraforge_text.templates.prompting import Prompting


def row(question: str, **values) -> Conversation:
    return Conversation(question, "答", where="d.csv, row 2", **values)


@pytest.mark.parametrize(
    ("prompting", "record", "asked"),
    [
        ({"jinja": FORMATS["chatml"].jinja}, row("q"), True),
        ({"jinja": FORMATS["chatml"].jinja}, row("q", input="m", system="S", history=(("a", "b"),)), True),
        ({"jinja": FORMATS["chatml"].jinja}, row("q", prompt_template="chatml"), True),
        ({"jinja": FORMATS["chatml"].jinja}, row("q", prompt_template="alpaca"), False),
        ({"jinja": FORMATS["chatml"].jinja}, row("q", prompt_template="[{instruction}]"), False),
        ({"jinja": FORMATS["chatml"].jinja}, row("q", messages=(Message("user", "q"), Message("assistant", "答"))), True),
        ({"jinja": FORMATS["chatml"].jinja}, row("q", tools="[]"), True),
        (
            {"jinja": FORMATS["chatml"].jinja},
            row("q", messages=(Message("user", "p"), Message("assistant", "a", "想"), Message("user", "q"), Message("assistant", "答"))),
            False,
        ),
        ({"jinja": FORMATS["chatml"].jinja}, row("q", system=""), True),
        ({"jinja": FORMATS["chatml"].jinja, "system": "S"}, row("q", system=""), False),
        ({"inline": "[{instruction}]"}, row("q", prompt_template="[{instruction}]"), True),
        ({"inline": "[{instruction}]"}, row("q", prompt_template="chatml"), False),
        ({"inline": "[{instruction}]"}, row("q", input="m"), True),
        ({"inline": "[{instruction}{input}]"}, row("q", input="m"), False),
        ({"inline": "[{instruction}{input}]"}, row("q"), True),
    ],
)
def test_a_row_that_messages_alone_cannot_ask_for_is_left_out(prompting, record, asked, base):
    template = {"name": "auto", **dataclasses.asdict(Prompting(**prompting, stops=("<|im_end|>",)))}
    spans = Prompting(**prompting, stops=("<|im_end|>",)).render(row("q"))
    made = json.loads(golden_prompts.golden_prompts(tokenizer_of(base), [(record, spans)], template.get("system"), template))
    assert len(made["prompts"]) == asked


TOOL = {"type": "function", "function": {"name": "clock", "description": "时间", "parameters": {"type": "object", "properties": {}}}}
TALK = (
    Message("user", "几点？"),
    Message("assistant", "", tool_calls=json.dumps([{"id": "c1", "name": "clock", "arguments": {"zone": "上海"}}])),
    Message("tool", "九点", name="clock", call_id="c1"),
    Message("assistant", "不知道。", learn=False),
    Message("user", "再看。"),
    Message("assistant", "九点。"),
)
# A template that writes tools and calls as most do.
CALLING = (
    "{% if tools %}{% for t in tools %}[{{ t | tojson }}]{% endfor %}{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}<call>{{ c.function.name }} {{ c.function.arguments | tojson }}</call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_conversations_with_tools_are_golden_prompts_in_openais_form(base):
    """What a server makes of it: arguments come as text and reach the template as objects (vLLM and llama.cpp parse them)."""
    from loraforge_text.templates.rendering import render

    record = row("再看。", messages=TALK, tools=json.dumps([TOOL]), system="S")
    prompting = Prompting(jinja=CALLING, stops=("<|im_end|>",))
    template = {"name": "auto", **dataclasses.asdict(prompting)}
    spans = prompting.render(record)
    [made] = json.loads(golden_prompts.golden_prompts(tokenizer_of(base), [(record, spans)], None, template))["prompts"]
    assert [one["role"] for one in made["messages"]] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert made["tools"] == [TOOL] and made["messages"][2]["tool_calls"][0]["function"]["arguments"] == '{"zone": "上海"}'
    assert made["messages"][3] == {"role": "tool", "content": "九点", "name": "clock", "tool_call_id": "c1"}
    messages = json.loads(json.dumps(made["messages"]))
    messages[2]["tool_calls"][0]["function"]["arguments"] = {"zone": "上海"}
    assert render(CALLING, messages, [TOOL], True, {}, "26 Jul 2024", 5.0) == made["text"]
    assert made["ids"] == tokenizer_of(base).encode(made["text"], add_special_tokens=False).ids


def test_rows_with_tools_and_messages_come_first_and_others_stay(base):
    prompting = Prompting(jinja=CALLING, stops=("<|im_end|>",))
    template = {"name": "auto", **dataclasses.asdict(prompting)}
    plain = [row(f"q{i}") for i in range(8)]
    special = [
        row("再看。", messages=TALK, tools=json.dumps([TOOL])),
        row("r", messages=(Message("user", "q"), Message("assistant", "a", learn=False), Message("user", "r"), Message("assistant", "b"))),
    ]

    def made(rows):
        document = golden_prompts.golden_prompts(tokenizer_of(base), [(one, prompting.render(one)) for one in rows], None, template)
        return [prompt["question"] for prompt in json.loads(document)["prompts"]]

    assert made([*plain, *special])[:2] == ["再看。", "r"] and made([*plain, *special])[2:] == made(plain)[:3]


def test_neutral_prompts_hold_nothing_of_the_data_and_can_be_checked(base):
    prompting = Prompting(jinja=FORMATS["chatml"].jinja, stops=("<|im_end|>",), system="Of the config.")
    document = golden_prompts.neutral_prompts(tokenizer_of(base), prompting, {"name": "auto"})
    known = json.loads(document)
    assert [prompt["question"] for prompt in known["prompts"]] == ["Second?"] * 4 and known["neutral"] is True
    assert "none of the run's data" in known["about"]["en"][0] and len(known["about"]["zh"]) > 3
    assert golden_prompts.check_golden(document, lambda prompt: prompt["text"]) == () and "template_sha256" in known
    assert golden_prompts.questions_of_data(document) == 0
    assert golden_prompts.neutral_prompts(tokenizer_of(base), Prompting(stops=())) is None
    record = row("secret")
    own = golden_prompts.golden_prompts(tokenizer_of(base), [(record, prompting.render(record))])
    assert golden_prompts.questions_of_data(own) == 1 and "neutral" not in json.loads(own)
    for broken in (b"", b"[]", b"{}", b"\xff"):
        assert golden_prompts.questions_of_data(broken) == 0


@pytest.mark.parametrize("source", ["data", "neutral", "off"])
def test_the_key_decides_what_travels(base, source):
    from types import SimpleNamespace

    from loraforge_text.families.causal_lm import CausalLM, TrainableCausalLM
    from loraforge_text.records import TextKeys
    from loraforge_text.templates.builtin import AutoTemplate

    from loraforge import KeySet, RunConfig

    template = AutoTemplate(Prompting(jinja=FORMATS["chatml"].jinja, stops=("<|im_end|>",)))
    trained = TrainableCausalLM(SimpleNamespace(), tokenizer_of(base), None, 99)
    trained.golden_source = source
    found = trained.golden([(row("secret"), template.render(row("secret")))], template.describe())
    assert (golden_prompts.NAME in found) == (source != "off")
    assert any(b"secret" in content for content in found.values()) == (source == "data")
    config = RunConfig(train_data_dir="d", base_model="b")
    assert bool(CausalLM().cautions(config, KeySet({TextKeys: TextKeys(golden=source)}))) == (source == "data")
