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
