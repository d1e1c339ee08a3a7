# SPDX-License-Identifier: Apache-2.0
"""The stop that a run trains, found in what it renders; and the same list for `sample` and for servers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from builders.chat_bases import GEMMA, GEMMA_TOKENS, LLAMA3, LLAMA3_TOKENS, QWEN3, base_in, prepared
from builders.tiny_text import CHATML
from loraforge_text.base_files import read_base
from loraforge_text.families.causal_lm import CausalInferenceModel
from loraforge_text.families.encoding import tokenizer_of
from loraforge_text.templates.stops import opening, stop_ids, trained_stop

BASE = {"eos": "<|endoftext|>"}
WANTS_TWO = "{% if messages | length == 2 %}{{ raise_exception('more') }}{% endif %}" + CHATML


@pytest.mark.parametrize(
    ("jinja", "options", "wanted", "stop"),
    [
        (CHATML, {}, "auto", "<|im_end|>"),
        (CHATML, BASE, "auto", "<|im_end|>"),
        (QWEN3, BASE, "auto", "<|im_end|>"),
        (None, BASE, "chatml", "<|im_end|>"),
        (None, BASE, "plain", "<|endoftext|>"),
        (None, BASE, "Q {instruction} A ", "<|endoftext|>"),
        (CHATML, {}, "Q {instruction} A ", "<|im_end|>"),
        (GEMMA, GEMMA_TOKENS, "auto", "<end_of_turn>"),
        (
            LLAMA3,
            {**LLAMA3_TOKENS, "special": (*LLAMA3_TOKENS["special"], "<|end_of_text|>"), "eos": "<|end_of_text|>"},
            "auto",
            "<|eot_id|>",
        ),
        (WANTS_TWO, {}, "auto", "<|im_end|>"),
    ],
)
def test_the_stop_is_the_one_that_ends_what_is_learned(jinja, options, wanted, stop, tmp_path):
    folder = base_in(tmp_path / "base", chat_template=jinja, **options)
    base = read_base(folder)
    assert trained_stop(prepared(folder, wanted).prompting) == stop
    assert stop_ids(base, stop)[0] == base.added[stop]
    assert sorted(stop_ids(base, stop)) == sorted(stop_ids(base)) and base.added[base.tokens["eos_token"]] in stop_ids(base, stop)


def test_a_channels_end_is_no_end_where_the_answer_has_its_own(tmp_path):
    """gpt-oss: <|end|> closes the analysis, after which the answer begins."""
    folder = base_in(tmp_path / "base", special=("<|endoftext|>", "<|end|>", "<|return|>"), eos="<|return|>")
    added = read_base(folder).added
    assert stop_ids(read_base(folder)) == (added["<|return|>"], added["<|endoftext|>"])
    other = base_in(tmp_path / "other", special=("<|endoftext|>", "<|end|>"), eos="<|endoftext|>")
    assert read_base(other).added["<|end|>"] in stop_ids(read_base(other))


def test_a_token_that_ends_thoughts_ends_no_answer(tmp_path):
    """A channel for thoughts that ends in the token that ends turns: to stop there would lose the answer."""
    jinja = (
        "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n"
        "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}<|im_end|><|im_start|>assistant\n</think>{% endif %}{{ m.content }}</s>"
        "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    base = read_base(base_in(tmp_path / "base", chat_template=jinja, special=("<pad>", "<|im_start|>", "<|im_end|>", "</s>"), eos="</s>"))
    assert {"</s>", "<|im_end|>"} <= {*base.stops}
    assert stop_ids(base) == (base.added["</s>"],)


CHANNELS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant"
    "{% if m.thinking %}<pad>analysis<pad>{{ m.thinking }}<|im_end|><|im_start|>assistant{% endif %}<pad>final<pad>{{ m.content }}</s>"
    "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
)


@pytest.mark.parametrize(
    ("jinja", "wanted"), [(CHANNELS, "<pad>final<pad>"), (CHATML, ""), (QWEN3, ""), (None, "")], ids=["channels", "chatml", "qwen3", "none"]
)
def test_what_a_channel_is_called_is_no_part_of_an_answer(jinja, wanted, tmp_path):
    base = read_base(base_in(tmp_path / "base", chat_template=jinja, special=("<pad>", "<|im_start|>", "<|im_end|>", "</s>"), eos="</s>"))
    assert opening(base) == wanted
    model = CausalInferenceModel(SimpleNamespace(), tokenizer_of(base.folder), base)
    written = "<pad>analysis<pad>先想<|im_end|><|im_start|>assistant<pad>final<pad>答案</s>" if wanted else "答案</s>"
    assert model._text(tokenizer_of(base.folder).encode(written, add_special_tokens=False).ids) == "答案"
