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
