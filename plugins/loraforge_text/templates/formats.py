# SPDX-License-Identifier: Apache-2.0
"""The well-known prompt formats as Jinja chat templates, in the dialect of Hugging Face tokenizers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loraforge import speaker

from ..base_files import BaseFiles

say = speaker(__name__)


@dataclass(frozen=True)
class Format:
    """One prompt format.

    Attributes:
        jinja: renders ``messages``; ``bos_token`` and ``eos_token`` are the base's own, or empty.
        stop: the token that ends an answer, where the format brings its own: a base without it would never stop.
    """

    help: str
    jinja: str
    stop: str | None = None

    def misfit(self, name: str, stops: Sequence[str]) -> str | None:
        """Why the format cannot be used with a base that has these stop tokens, or None."""
        if self.stop is None or self.stop in stops:
            return None
        return say(
            "the template '{name}' ends answers with {stop}, a token that this base does not have. Choose another: {names}.",
            name=name,
            stop=self.stop,
            names=", ".join(other for other, format_ in FORMATS.items() if format_.stop in (None, *stops)),
        )


def _simple(first: str, user: str, assistant: str, between: str = "\n\n") -> str:
    """A template whose turns are plain headings; ``first`` opens the conversation when there is no system message."""
    return (
        "{{ bos_token }}{% if messages[0].role != 'system' %}" + first + "{% endif %}"
        "{% for message in messages %}"
        "{% if message.role == 'system' %}{{ message.content }}" + between + "{% endif %}"
        "{% if message.role == 'user' %}" + user + "{% endif %}"
        "{% if message.role == 'assistant' %}" + assistant + "{{ message.content }}{{ eos_token }}"
        "{% if not loop.last %}" + between + "{% endif %}{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}" + assistant + "{% endif %}"
    )


FORMATS: Mapping[str, Format] = {
    "chatml": Format(
        "ChatML: Qwen, Yi, InternLM and many others.",
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "<|im_end|>",
    ),
    "llama2": Format(
        "Llama 2 and Mistral: [INST] ... [/INST].",
        "{% if messages[0].role == 'system' %}{% set system = '<<SYS>>\\n' + messages[0].content + '\\n<</SYS>>\\n\\n' %}"
        "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
        "{% for message in turns %}"
        "{% if message.role == 'user' %}{{ bos_token }}[INST] {{ system if loop.first else '' }}{{ message.content }} [/INST]"
        "{% else %} {{ message.content }} {{ eos_token }}{% endif %}{% endfor %}",
    ),
    "llama3": Format(
        "Llama 3: header tokens and <|eot_id|>.",
        "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
        "{{ message.content }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        "<|eot_id|>",
    ),
    "alpaca": Format(
        "Alpaca: ### Instruction and ### Response.",
        _simple(
            "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n",
            "### Instruction:\n{{ message.content }}\n\n",
            "### Response:\n",
        ),
    ),
    "vicuna": Format(
        "Vicuna: USER: and ASSISTANT:.",
        _simple(
            "A chat between a curious user and an artificial intelligence assistant. "
            "The assistant gives helpful, detailed, and polite answers to the user's questions. ",
            "USER: {{ message.content }} ",
            "ASSISTANT: ",
            " ",
        ),
    ),
    "plain": Format(
        "The question, a line break, the answer; for bases that were never taught a chat format.",
        _simple("", "{{ message.content }}\n", "", "\n"),
    ),
}


def format_for(base: BaseFiles) -> tuple[str, str]:
    """The name of the format that suits a base without a chat template of its own, and what it was told by."""
    name = str(base.folder.name).lower()
    if "<|im_start|>" in base.added and "<|im_end|>" in base.added:
        return "chatml", say("its tokenizer has {token}", token="<|im_start|>")
    if "<|start_header_id|>" in base.added:
        return "llama3", say("its tokenizer has {token}", token="<|start_header_id|>")
    for known in ("vicuna", "alpaca"):
        if known in name:
            return known, say("its name is {name}", name=base.folder.name)
    kind = str(base.config.get("model_type", ""))
    if kind in ("llama", "mistral", "mixtral") and base.tokens.get("bos_token") == "<s>":
        return "llama2", say("its model_type is {kind}", kind=kind)
    return "plain", ""
