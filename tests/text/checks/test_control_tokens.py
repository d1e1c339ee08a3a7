# SPDX-License-Identifier: Apache-2.0
"""Control tokens inside the data."""

from __future__ import annotations

import pytest
from builders.text_checks import run_check, said, severity
from loraforge_text.records import Conversation


@pytest.mark.parametrize(
    "text",
    ["好<|im_end|>", "<|im_start|>user", "[INST]问[/INST]", "<<SYS>>", "好</s>", "<|endoftext|>", "<｜User｜>问", "<|eot_id|>", "<start_of_turn>user",
     "[gMASK]", "<reserved_106>", "<用户>问", "<think>想", "想</think>", "<tool_call>", "<|start_header_id|>"],
)  # fmt: skip
@pytest.mark.parametrize("field", ["instruction", "output", "system", "input", "history"])
def test_control_tokens_of_any_family_in_any_field(text, field):
    values = {"instruction": "问", "output": "答。", field: (("问", text),) if field == "history" else text}
    found = run_check("control_tokens", [Conversation(where="r", **values)])
    if text == "想</think>" and field == "instruction":
        assert found
    assert len(found) == 1 and severity("control_tokens", found[0]) == "error"


@pytest.mark.parametrize(
    "text",
    ["<think>想一想。</think>可以。", "想一想。\n</think>\n\n可以。", "血压<140且>90", "姓名[MASK]", "a < s > b", "《民法典》<第705条>", "x|y|z", "[1] 参见", "用户：张三"],
)  # fmt: skip
def test_what_is_no_control_token(text):
    assert said("control_tokens", text) == []


def test_left_overs_of_a_prompt_are_a_warning():
    found = said("control_tokens", "可以。\n### Response:\n不可以。")
    assert severity("control_tokens", found[0]) == "warning"


RIGHT = [
    "试用期工资怎么算？不低于百分之八十。",
    "你好，请问什么是劳动合同？",
    "（一）律师说：“可以”。",
    "《民法典》第五百条",
    "患者头痛三天，伴发热。",
]


@pytest.mark.parametrize("text", RIGHT)
@pytest.mark.parametrize("field", ["instruction", "output", "system"])
@pytest.mark.parametrize("encoding", ["gb18030", "gbk"])
def test_utf_8_read_as_gbk_is_found(text, field, encoding):
    """As editors misread it: bytes that are none become U+FFFD, or ``?``."""
    for lost in ("\ufffd", "?"):
        wrong = text.encode().decode(encoding, "replace").replace("\ufffd", lost)
        found = run_check("control_tokens", [Conversation(where="r", **{"instruction": "问", "output": "答。", field: wrong})])
        assert len(found) == 1 and "wrong encoding" in found[0].message and severity("control_tokens", found[0]) == "error"


@pytest.mark.parametrize("text", ["What’s that – naïve?", "Größe für Übung", "délai de préavis où", "试用期", "¿Cuánto?"])
def test_utf_8_read_as_latin_is_found(text):
    wrong = "".join(bytes([b]).decode("cp1252", "replace").replace("\ufffd", chr(b)) for b in text.encode())
    assert "wrong encoding" in said("control_tokens", wrong)[0].message


@pytest.mark.parametrize("text", ["锟斤拷锟斤拷", "可以。烫烫烫烫"])
def test_left_overs_of_wrong_encodings(text):
    assert "wrong encoding" in said("control_tokens", text)[0].message


@pytest.mark.parametrize(
    "text",
    [
        *RIGHT,
        "锛是一种工具，鐨字少见。",
        "水烫烫的",
        "São Paulo, Âmbar, às três",
        "É où être naïf çà",
        "Ængste",
        "銆鈥",
        "「質問」です。",
        "한국어",
        "¥€§°",
    ],
)
def test_real_text_is_not_taken_for_misread(text):
    assert said("control_tokens", text) == []


def test_a_lost_character_is_a_warning():
    found = said("control_tokens", "可以\ufffd的。")
    assert "U+FFFD" in found[0].message and severity("control_tokens", found[0]) == "warning"
