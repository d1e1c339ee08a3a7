# SPDX-License-Identifier: Apache-2.0
"""Chat templates written for the tests, each with the mechanics of published ones, and what a row becomes with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_PLAIN = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
_TURN = "{% for m in messages %}{% if m.role != 'assistant' %}<|{{ m.role }}|>{{ m.content }}{% else %}"
_ASK = "{% if add_generation_prompt %}"


@dataclass(frozen=True)
class Mechanics:
    """A template and what it must come to for the question Q1, the thought T1 and the answer A1.

    Attributes:
        plain: the end of the prompt, and what is learned, of a row without reasoning.
        thinking: the same of a row with reasoning; None: it has no place for it.
        read: how many of the two earlier answers of three are only read.
    """

    jinja: str
    plain: tuple[str, str]
    thinking: tuple[str, str] | None
    stops: tuple[str, ...] = ("<|end|>",)
    special: tuple[str, ...] = ("<|system|>", "<|user|>", "<|assistant|>")
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    read: int = 0


MECHANICS: Mapping[str, Mechanics] = {
    "no reasoning (Llama, Qwen2.5)": Mechanics(
        _PLAIN + "<|end|>{% endfor %}" + _ASK + "<|assistant|>{% endif %}", ("<|assistant|>", "A1<|end|>"), None
    ),
    "a field, dropped from history (Qwen3, GLM)": Mechanics(
        _TURN + "<|assistant|>{% if loop.last %}<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}{{ m.content }}{% endif %}"
        "<|end|>{% endfor %}" + _ASK + "<|assistant|>{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
        ("<|assistant|><think>\n\n</think>\n\n", "A1<|end|>"),
        ("<|assistant|>", "<think>\nT1\n</think>\n\nA1<|end|>"),
        read=2,
    ),
    "the prompt opens it, finished answers lack it (R1)": Mechanics(
        _TURN
        + "<|assistant|>{{ m.content.split('</think>')[-1] }}<|end|>{% endif %}{% endfor %}"
        + _ASK
        + "<|assistant|><think>\n{% endif %}",
        ("<|assistant|><think>\n", "\n</think>\n\nA1<|end|>"),
        ("<|assistant|><think>\n", "T1\n</think>\n\nA1<|end|>"),
        read=2,
    ),
    "the prompt opens it, finished answers do not close it (Nemotron Nano)": Mechanics(
        _TURN
        + "<|assistant|>{% if loop.last %}<think>\n{% endif %}{{ m.content.split('</think>')[-1].strip() }}<|end|>{% endif %}{% endfor %}"
        + _ASK
        + "<|assistant|><think>\n{% endif %}",
        ("<|assistant|><think>\n", "\n</think>\n\nA1<|end|>"),
        ("<|assistant|><think>\n", "T1\n</think>\n\nA1<|end|>"),
        read=2,
    ),
    "a mark of its own (Seed-OSS)": Mechanics(
        _TURN + "<|assistant|>{% if m.reasoning_content %}<seed:think>{{ m.reasoning_content }}</seed:think>\n{% endif %}{{ m.content }}"
        "{% endif %}<|end|>{% endfor %}" + _ASK + "<|assistant|>{% endif %}",
        ("<|assistant|>", "A1<|end|>"),
        ("<|assistant|>", "<seed:think>T1</seed:think>\nA1<|end|>"),
    ),
    "blocks of content (Magistral)": Mechanics(
        _TURN + "<|assistant|>{% if m.content is string %}{{ m.content }}{% else %}{% for b in m.content %}"
        "{% if b.type == 'thinking' %}[THINK]{{ b.thinking }}[/THINK]{% else %}{{ b.text }}{% endif %}{% endfor %}{% endif %}{% endif %}"
        "<|end|>{% endfor %}" + _ASK + "<|assistant|>{% endif %}",
        ("<|assistant|>", "A1<|end|>"),
        ("<|assistant|>", "[THINK]T1[/THINK]A1<|end|>"),
    ),
    "channels (gpt-oss)": Mechanics(
        "<|start|>system<|message|>{{ strftime_now('%Y-%m-%d') }}<|end|>{% for m in messages %}<|start|>{{ m.role }}"
        "{% if m.role == 'assistant' %}{% if m.thinking and loop.last %}<|channel|>analysis<|message|>{{ m.thinking }}<|end|><|start|>assistant"
        "{% endif %}<|channel|>final<|message|>{{ m.content }}{{ '<|return|>' if loop.last else '<|end|>' }}"
        "{% else %}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}" + _ASK + "<|start|>assistant{% endif %}",
        ("<|start|>assistant", "<|channel|>final<|message|>A1<|return|>"),
        ("<|start|>assistant", "<|channel|>analysis<|message|>T1<|end|><|start|>assistant<|channel|>final<|message|>A1<|return|>"),
        ("<|return|>",),
        ("<|start|>", "<|channel|>", "<|message|>", "<|end|>"),
        read=2,
    ),
    "only the prompt has an empty thought (Gemma 4, MiniCPM)": Mechanics(
        _PLAIN
        + "<|end|>\n{% endfor %}"
        + _ASK
        + "<|assistant|>{% if not enable_thinking %}<|channel>thought\n<channel|>{% endif %}{% endif %}",
        ("<|assistant|><|channel>thought\n<channel|>", "A1<|end|>"),
        ("<|assistant|>", "<|channel>thought\nT1\n<channel|>A1<|end|>"),
        read=2,
    ),
    "finished answers have an empty thought (Kimi)": Mechanics(
        _TURN + "<|assistant|><think></think>{{ m.content }}{% endif %}<|end|>{% endfor %}" + _ASK + "<|assistant|>{% endif %}",
        ("<|assistant|>", "<think></think>A1<|end|>"),
        ("<|assistant|>", "<think>T1</think>A1<|end|>"),
    ),
    "the prompt closes what finished answers never open (DeepSeek V3.2)": Mechanics(
        _TURN
        + "<|assistant|></think>{{ m.content.split('</think>')[-1] }}<|end|>{% endif %}{% endfor %}"
        + _ASK
        + "<|assistant|>{% if thinking %}<think>{% else %}<think></think>{% endif %}{% endif %}",
        ("<|assistant|><think></think>", "A1<|end|>"),
        ("<|assistant|><think>", "T1</think>A1<|end|>"),
        kwargs={"thinking": True},
        read=2,
    ),
    "other marks for thought and answer (Command)": Mechanics(
        _TURN + "<|assistant|>{% if m.reasoning %}<|START_THINKING|>{{ m.reasoning }}<|END_THINKING|>{% endif %}"
        "<|START_TEXT|>{{ m.content }}<|END_TEXT|>{% endif %}<|end|>{% endfor %}" + _ASK + "<|assistant|><|START_THINKING|>{% endif %}",
        ("<|assistant|><|START_THINKING|>", "<|END_THINKING|><|START_TEXT|>A1<|END_TEXT|><|end|>"),
        ("<|assistant|><|START_THINKING|>", "T1<|END_THINKING|><|START_TEXT|>A1<|END_TEXT|><|end|>"),
        read=2,
    ),
    "words open it (Apriel)": Mechanics(
        _TURN + "<|assistant|>{% if m.reasoning_content %}{{ m.reasoning_content }}\n[FINAL]\n{% endif %}{{ m.content }}"
        "{% if not loop.last %}<|end|>{% endif %}{% endif %}{% endfor %}" + _ASK + "<|assistant|>My reasoning:\n{% endif %}",
        ("<|assistant|>My reasoning:\n", "\n[FINAL]\nA1<|end|>"),
        ("<|assistant|>My reasoning:\n", "T1\n[FINAL]\nA1<|end|>"),
        read=2,
    ),
    "the system message stands before the last question (Mistral Nemo)": Mechanics(
        "{% if messages[0].role == 'system' %}{% set s, messages = messages[0].content, messages[1:] %}{% endif %}"
        "{% for m in messages %}{% if m.role == 'user' %}[INST]{% if loop.last and s is defined %}{{ s }}\n\n{% endif %}{{ m.content }}[/INST]"
        "{% else %}{{ m.content }}<|end|>{% endif %}{% endfor %}",
        ("[/INST]", "A1<|end|>"),
        None,
    ),
    "finished conversations end in another token (Phi)": Mechanics(
        _PLAIN + "<|end|>\n{% endfor %}" + _ASK + "<|assistant|>\n{% else %}<|endoftext|>{% endif %}".replace("\n", ""),
        ("<|assistant|>", "A1<|end|>"),
        None,
        ("<|endoftext|>", "<|end|>"),
    ),
    "no stop in finished conversations (GLM)": Mechanics(
        _TURN + "<|assistant|>\n{{ m.content }}{% endif %}{% endfor %}" + _ASK + "<|assistant|>{% endif %}",
        ("<|assistant|>", "\nA1<|endoftext|>"),
        None,
        ("<|endoftext|>",),
        read=2,
    ),
}
