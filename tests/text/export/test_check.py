# SPDX-License-Identifier: Apache-2.0
"""An export that its reader would misuse is refused: one fault at a time, in what is otherwise a right export."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
from builders.chat_bases import base_in, exported, prepared, served_by
from loraforge_text.export.check import check_folder, check_weights
from loraforge_text.families.encoding import tokenizer_of
from loraforge_text.records import Conversation, Message
from loraforge_text.templates import golden_prompts

from loraforge import ExportError


def change(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **values}), encoding="utf-8")


@pytest.fixture
def right(tmp_path):
    """A right export: how it was trained, its adapter, its folder."""
    folder = base_in(tmp_path / "base", eos="<|endoftext|>")
    template = prepared(folder, system="S")
    rows = [
        Conversation("试用期 0123456789?", "a", where=""),
        Conversation("notice period", "a2", history=(("q1", "a1"),), system="T", where=""),
    ]
    own = Conversation("问自己", "答", prompt_template="[{instruction}]", where="")
    pairs = [(row, template.render(row)) for row in [*rows, own]]
    # As older versions wrote it: with a row that has a template of its own.
    document = golden_prompts.golden_prompts(tokenizer_of(folder), pairs, "S")
    adapter = SimpleNamespace(facts={"template": template.describe()}, files={golden_prompts.NAME: document})
    out = exported(folder, template)
    assert json.loads(document)["prompts"]
    return served_by(folder, template), adapter, out


def test_what_is_right_passes(right):
    check_folder(*right)


def test_a_row_with_a_template_of_its_own_does_not_stop_an_export(right):
    of, adapter, out = right
    row = Conversation("q", "a", prompt_template="[{instruction}]", where="")
    from loraforge_text.templates.builtin import AutoTemplate

    spans = AutoTemplate(of.prompting).render(row)
    adapter.files[golden_prompts.NAME] = golden_prompts.golden_prompts(tokenizer_of(of.folder), [(row, spans)], "S")
    check_folder(of, adapter, out)


def _template(out):
    (out / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}", encoding="utf-8")


def _raising(out):
    (out / "chat_template.jinja").write_text("{{ raise_exception('no such role') }}", encoding="utf-8")


def _none(out):
    (out / "chat_template.jinja").unlink()


def _other_ids(out):
    tokenizer = json.loads((out / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:20]
    (out / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")


def _forbidden(out):
    change(out / "generation_config.json", suppress_tokens=[2])


FAULTS = {
    "another template": (_template, "the tokens part at token"),
    "a template that refuses": (_raising, "no such role"),
    "no template": (_none, "chat_template"),
    "other merges": (_other_ids, "the tokens part at token"),
    "eos of the tokenizer": (lambda out: change(out / "tokenizer_config.json", eos_token="<|endoftext|>"), "tokenizer_config.json ends"),
    "eos when generating": (lambda out: change(out / "generation_config.json", eos_token_id=0), "generation_config.json ends answers at 0"),
    "no eos when generating": (lambda out: change(out / "generation_config.json", eos_token_id=None), "generation_config.json ends"),
    "a forbidden stop": (_forbidden, "forbids <|im_end|>"),
    "no tokenizer": (lambda out: (out / "tokenizer.json").write_text("{", encoding="utf-8"), "cannot read the exported tokenizer"),
    "eos of the model": (
        lambda out: (out / "config.json").write_text(json.dumps({"model_type": "llama", "eos_token_id": 0}), encoding="utf-8"),
        "config.json ends answers at 0",
    ),
    "eos of the language part": (
        lambda out: (out / "config.json").write_text(
            json.dumps({"model_type": "gemma3", "eos_token_id": 2, "text_config": {"model_type": "gemma3_text", "eos_token_id": 0}}),
            encoding="utf-8",
        ),
        "config.json ends answers at 0",
    ),
}


@pytest.mark.parametrize("name", list(FAULTS))
def test_an_export_that_its_reader_would_misuse_is_refused(name, right):
    spoil, message = FAULTS[name]
    spoil(right[2])
    with pytest.raises(ExportError) as error:
        check_folder(*right)
    assert message in str(error.value)


def test_a_class_that_rebuilds_the_tokenizer_otherwise_is_replaced_by_the_file_itself(right):
    """transformers builds some classes anew from the vocabulary, with a pre-tokenizer of its own: other tokens than the file's."""
    from transformers import AutoTokenizer

    of, adapter, out = right
    change(out / "tokenizer_config.json", tokenizer_class="Qwen2Tokenizer")
    document = json.loads(adapter.files[golden_prompts.NAME])
    ask = {"tokenize": True, "add_generation_prompt": True, "return_dict": False}
    (messages, ids), *_ = [(p["messages"], p["ids"]) for p in document["prompts"] if "0123456789" in p["text"]]
    assert AutoTokenizer.from_pretrained(out).apply_chat_template(messages, **ask) != ids
    check_folder(of, adapter, out)
    assert AutoTokenizer.from_pretrained(out).apply_chat_template(messages, **ask) == ids


@pytest.mark.parametrize("left_out", ["", "tools", "call"])
def test_conversations_with_tools_are_asked_too(tmp_path, left_out):
    chat = (
        "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}"
        "{% for call in m.tool_calls or [] %}{{ call.function.name }}{{ call.function.arguments | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    folder = base_in(tmp_path / "base", chat_template=chat)
    template = prepared(folder)
    call = json.dumps([{"id": "1", "name": "f", "arguments": {"a": 1}}])
    said = (Message("user", "q"), Message("assistant", "", tool_calls=call), Message("tool", "3", call_id="1"), Message("assistant", "a"))
    tools = json.dumps([{"type": "function", "function": {"name": "f", "parameters": {}}}])
    row = Conversation("q", "a", messages=said, tools=tools, where="")
    document = golden_prompts.golden_prompts(tokenizer_of(folder), [(row, template.render(row))], None, template.describe())
    assert len(json.loads(document)["prompts"]) == 1
    adapter = SimpleNamespace(facts={"template": template.describe()}, files={golden_prompts.NAME: document})
    out = exported(folder, template)
    check_folder(served_by(folder, template), adapter, out)
    if left_out:
        file = out / "chat_template.jinja"
        text = file.read_text(encoding="utf-8").replace({"tools": "{{ tools | tojson }}", "call": "{{ call.function.name }}"}[left_out], "")
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ExportError, match="otherwise than it was trained"):
            check_folder(served_by(folder, template), adapter, out)


# --- weights -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(base, tmp_path):
    """A whole model in several files."""
    from transformers import AutoModelForCausalLM

    shutil.copytree(base, tmp_path / "whole")
    (tmp_path / "whole" / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(base).save_pretrained(tmp_path / "whole", max_shard_size="30KB")
    assert len(list((tmp_path / "whole").glob("*.safetensors"))) > 1
    check_weights(tmp_path / "whole")
    return tmp_path / "whole"


def test_an_index_that_leaves_a_tensor_out_is_refused(model):
    file = model / "model.safetensors.index.json"
    index = json.loads(file.read_text(encoding="utf-8"))
    del index["weight_map"]["model.norm.weight"]
    file.write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ExportError, match=r"do not agree about model\.norm\.weight"):
        check_weights(model)


def test_a_tensor_that_is_nowhere_is_missed(model):
    from safetensors.torch import load_file, save_file

    file = model / "model.safetensors.index.json"
    index = json.loads(file.read_text(encoding="utf-8"))
    shard = model / index["weight_map"].pop("model.norm.weight")
    file.write_text(json.dumps(index), encoding="utf-8")
    tensors = load_file(shard)
    del tensors["model.norm.weight"]
    save_file(tensors, shard, {"format": "pt"})
    with pytest.raises(ExportError, match=r"would not find these tensors.*model\.norm\.weight"):
        check_weights(model)
