# SPDX-License-Identifier: Apache-2.0
"""Texts of ordinary rows as they were recorded: what a person trained yesterday is trained today, to the character."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from builders.chat_bases import GEMMA, LLAMA3, QWEN3
from loraforge_text.records import Conversation
from loraforge_text.templates.formats import FORMATS
from loraforge_text.templates.prompting import Prompting

RECORDED = Path(__file__).with_name("recorded.json")
TINY_CHAT = Path(__file__).parents[3] / "plugins" / "loraforge_text" / "tiny_chat" / "model" / "chat_template.jinja"
PROMPTINGS = {
    **{name: Prompting(jinja=kind.jinja, stops=(kind.stop or "</s>",), tokens={"bos_token": "<s>"}) for name, kind in FORMATS.items()},
    "tiny-chat": Prompting(jinja=TINY_CHAT.read_text(encoding="utf-8"), stops=("<|im_end|>",)),
    "qwen3": Prompting(jinja=QWEN3, stops=("<|im_end|>", "<|endoftext|>"), kwargs={"enable_thinking": False}),
    "qwen3-thinking": Prompting(jinja=QWEN3, stops=("<|im_end|>",), kwargs={"enable_thinking": True}),
    "llama3.1": Prompting(jinja=LLAMA3, stops=("<|eot_id|>",), tokens={"bos_token": "<|begin_of_text|>"}, system="律师"),
    "gemma": Prompting(jinja=GEMMA, stops=("<eos>", "<end_of_turn>"), tokens={"bos_token": "<bos>"}, system="律师"),
    "inline": Prompting(inline="{system}[INST]{instruction}[/INST]", stops=("</s>",), bos="<s>", system="律师"),
    "inline-input": Prompting(inline="{system}问：{instruction}\n{input}\n答：{output}", stops=("</s>",)),
}
ROWS = {
    "one": Conversation("问？", "答。", where="a"),
    "input": Conversation("问？", "答。", "材料", where="a"),
    "system": Conversation("问？", "答。", system="医生", where="a"),
    "turns": Conversation("问三", "答三", history=(("问一", "答一"), ("问二", "答二")), system="医生", where="a"),
    "asked": Conversation("问二", "", history=(("问一", "答一"),), where="a"),
    "bare": Conversation("问？", where="a"),
    "spaces": Conversation("问？ ", "答 一\n\n二。", where="a"),
}


def spans(prompting: str, row: str) -> list[list[object]]:
    """What is read and what is learned, in turns."""
    made = itertools.groupby(PROMPTINGS[prompting].render(ROWS[row]), key=lambda span: span.learn)
    return [["".join(span.text for span in spans), learn] for learn, spans in made]


@pytest.mark.parametrize("prompting", list(PROMPTINGS))
def test_ordinary_rows_are_written_as_ever(prompting):
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    assert {row: spans(prompting, row) for row in ROWS} == recorded[prompting]
