# SPDX-License-Identifier: Apache-2.0
"""Bases of several families as far as a chat template goes: tokenizer and config.json, no weights; and what an export has beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from loraforge_text.base_files import read_base
from loraforge_text.export.folder import Served, write_beside
from loraforge_text.records import Conversation, TextKeys
from loraforge_text.templates.builtin import TextTemplate, templates
from loraforge_text.templates.stops import stop_ids, trained_stop

from builders.tiny_text import make_tokenizer
from loraforge import KeySet, RunConfig

LLAMA3 = (
    "{{- bos_token }}{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}"
    "<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ date_string }}<|eot_id|>"
    "{%- for message in messages %}{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
# The shape of Qwen3's: answers always carry a think block; the prompt does only when thinking is switched off.
QWEN3 = (
    "{%- for message in messages %}{%- if message.role == 'assistant' and loop.last %}{%- set content = message.content %}"
    "{%- if '</think>' in content %}{%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\n') %}{%- else %}{%- set thought = '' %}{%- endif %}"
    "{{- '<|im_start|>assistant\n<think>\n' + thought + '\n</think>\n\n' + content + '<|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>' + message.role + '\n' + message.content.split('</think>')[-1].lstrip('\n') + '<|im_end|>\n' }}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}{%- endif %}"
)
R1 = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}<|User|>{{ message.content }}"
    "{% elif message.role == 'assistant' %}<|Assistant|>{{ message.content.split('</think>')[-1] }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' "
    "+ message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
GEMMA_TOKENS = {"special": ("<pad>", "<start_of_turn>", "<end_of_turn>", "<eos>", "<bos>"), "eos": "<eos>", "bos": "<bos>"}
LLAMA3_TOKENS = {
    "special": ("<pad>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|begin_of_text|>"),
    "eos": "<|eot_id|>",
    "bos": "<|begin_of_text|>",
}


def base_in(folder: Path, **options) -> Path:
    """A base without weights; the options are ``make_tokenizer``'s."""
    folder.mkdir()
    make_tokenizer(folder, **options)
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}), encoding="utf-8")
    return folder


def prepared(folder: Path, wanted: str = "auto", records: Sequence[Conversation] | None = None, system: str | None = None) -> TextTemplate:
    """The template that a run with this base would use for these rows, or for an ordinary one."""
    config = RunConfig(train_data_dir=".", base_model=str(folder), prompt_template=wanted)
    known = {t.name: t for t in templates()}
    template = known.get(wanted) or next(t for t in known.values() if t.matches(wanted))
    rows = records or [Conversation("问？", "答。", where="d.csv, row 2")]
    return template.prepare(config, KeySet({RunConfig: config, TextKeys: TextKeys(system_prompt=system)}), rows)


def served_by(folder: Path, template: TextTemplate) -> Served:
    """What the exporters know of a run with this base and template."""
    base, stop = read_base(folder), trained_stop(template.prompting)
    return Served(folder, base, template.prompting, stop, stop_ids(base, stop))


def exported(folder: Path, template: TextTemplate) -> Path:
    """A folder with what an export has beside the weights."""
    out = folder.parent / "export"
    out.mkdir()
    write_beside(served_by(folder, template), SimpleNamespace(facts={"template": template.describe()}), out)
    return out
