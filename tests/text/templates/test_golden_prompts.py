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
        ({"jinja": FORMATS["chatml"].jinja}, row("q", messages=(Message("user", "q"),)), False),
        ({"jinja": FORMATS["chatml"].jinja}, row("q", tools="[]"), False),
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
