# SPDX-License-Identifier: Apache-2.0
"""What stands beside the weights: each file that some reader takes the stop from, and nothing of the base lost."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from builders.chat_bases import base_in, exported, prepared, served_by
from loraforge_text.export.exporters import MergedExporter, PeftExporter
from loraforge_text.export.folder import answers_otherwise, served, write_beside, write_stop_in_config

from loraforge import ExportError


def read(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def write(file: Path, **values) -> None:
    file.write_text(json.dumps({**(read(file) if file.is_file() else {}), **values}), encoding="utf-8")


@pytest.fixture
def base(tmp_path):
    return base_in(tmp_path / "base", eos="<|endoftext|>")


@pytest.fixture
def adapter(base):
    """As an exporter sees it, without weights."""
    facts = {"template": prepared(base).describe(), "name": "legal"}
    return SimpleNamespace(base_model=str(base), base_folder=str(base), facts=facts, files={}, dora=False, rank=8, ranks={}, kind="lora")


def test_every_reader_finds_the_stop_and_the_base_keeps_its_other_defaults(base, adapter, tmp_path):
    write(base / "generation_config.json", eos_token_id=0, temperature=0.7, repetition_penalty=1.05, do_sample=True, pad_token_id=0)
    write(base / "special_tokens_map.json", eos_token={"content": "<|endoftext|>", "lstrip": False}, pad_token="<|endoftext|>")
    write(base / "tokenizer_config.json", model_max_length=512, chat_template="x")
    before = {file.name: file.read_bytes() for file in base.iterdir()}
    out = tmp_path / "out"
    out.mkdir()
    write(out / "config.json", eos_token_id=0, text_config={"eos_token_id": 0, "hidden_size": 8}, hidden_size=8)
    of = served(adapter)
    write_beside(of, adapter, out)
    write_stop_in_config(of, out)
    assert (of.stop, of.stop_ids) == ("<|im_end|>", (2, 0))
    assert read(out / "generation_config.json") == {
        "eos_token_id": [2, 0], "temperature": 0.7, "repetition_penalty": 1.05, "do_sample": True, "pad_token_id": 0,
    }  # fmt: skip
    assert read(out / "tokenizer_config.json") == {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "model_max_length": 512,
    }  # fmt: skip
    assert read(out / "special_tokens_map.json") == {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    assert read(out / "config.json") == {
        "eos_token_id": [2, 0],
        "hidden_size": 8,
        "text_config": {"eos_token_id": [2, 0], "hidden_size": 8},
    }
    assert {file.name: file.read_bytes() for file in base.iterdir()} == before


def test_a_base_without_generation_config_gets_one(base, adapter, tmp_path):
    assert not (base / "generation_config.json").exists()
    assert read(exported(base, prepared(base)) / "generation_config.json") == {"eos_token_id": [2, 0]}


def test_a_stop_that_is_no_token_is_refused(adapter):
    template = {**adapter.facts["template"], "jinja": "{% for m in messages %}{{ m.content }}</s>{% endfor %}", "stops": ["</s>"]}
    adapter.facts["template"] = template
    with pytest.raises(ExportError, match="'</s>', which is no token of the base"):
        served(adapter)


@pytest.mark.parametrize(
    "settings", [{}, {"tokenizer_class": None}, {"auto_map": {"AutoTokenizer": ["t.MyTokenizer", None]}, "tokenizer_class": "MyTokenizer"}]
)
def test_an_adapter_folder_brings_a_tokenizer_that_needs_no_model_and_no_code(settings, base, tmp_path):
    from transformers import AutoTokenizer

    values = {k: v for k, v in {**read(base / "tokenizer_config.json"), "tokenizer_class": None, **settings}.items() if v is not None}
    (base / "tokenizer_config.json").write_text(json.dumps(values), encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(exported(base, prepared(base)), trust_remote_code=False)
    assert tokenizer("试用期").input_ids == AutoTokenizer.from_pretrained(base_in(tmp_path / "plain"))("试用期").input_ids
    assert tokenizer.eos_token == "<|im_end|>"


# --- the lines that use it ---------------------------------------------------------------------------------------------------


def test_the_printed_lines_can_be_pasted_and_say_what_each_program_takes(base, adapter, tmp_path):
    path = tmp_path / "my run; $(x)" / "export" / "peft"
    path.parent.mkdir(parents=True)
    exported(base, prepared(base)).rename(path)
    vllm, other, colleagues = PeftExporter().usage(adapter, path)
    words = shlex.split(vllm)
    assert words[:3] == ["vllm", "serve", str(base)]
    options = dict(itertools.pairwise(words[3:]))
    assert options["--generation-config"] == str(path) and options["--chat-template"] == str(path / "chat_template.jinja")
    assert options["--lora-modules"] == f"legal={path}"
    assert other.startswith("# llama.cpp and Ollama") and "--to gguf" in other and "--to merged" in other
    assert shlex.split(colleagues.split("`")[1]) == ["loraforge", "serve", str(path.parents[1])]
    lines = MergedExporter().usage(adapter, path)
    assert [shlex.split(line, comments=True)[-1:] for line in lines[:2]] == [[str(path)]] * 2
    # What the converter writes lies outside the run's folder, whose files are sealed.
    assert shlex.split(lines[2], comments=True) == ["python", "convert_hf_to_gguf.py", str(path), "--outfile", "legal.gguf"]
    assert lines[3] == '# Ollama, in the Modelfile beside FROM: PARAMETER stop "<|im_end|>"' and len(lines) == 4


def test_what_changes_answers_even_at_temperature_0_is_named(base, adapter, tmp_path):
    neutral = {"repetition_penalty": 1.0, "num_beams": 1, "no_repeat_ngram_size": 0, "temperature": 0.6, "top_p": 0.9, "do_sample": True}
    write(base / "generation_config.json", **neutral)
    path = exported(base, prepared(base))
    assert answers_otherwise(path) == []
    write(path / "generation_config.json", repetition_penalty=1.05, min_new_tokens=3)
    assert answers_otherwise(path) == ["repetition_penalty 1.05", "min_new_tokens 3"]
    for exporter in (PeftExporter(), MergedExporter()):
        assert "repetition_penalty 1.05, min_new_tokens 3" in exporter.usage(adapter, path)[-1]


def test_the_keys_that_are_named_are_keys_of_transformers_and_their_neutral_values_its_own():
    from loraforge_text.export.folder import _CHANGES_GREEDY
    from transformers import GenerationConfig

    known = GenerationConfig()
    for key, neutral in _CHANGES_GREEDY.items():
        assert getattr(known, key) in (None, neutral, 0), key


def test_an_adapter_of_an_older_version_without_facts_is_exported_as_it_is(base, adapter, tmp_path):
    bare = SimpleNamespace(**{**vars(adapter), "facts": {}})
    out = tmp_path / "out"
    out.mkdir()
    of = served(bare)
    write_beside(of, bare, out)
    assert of.stop == "" and not (out / "chat_template.jinja").exists()
    assert dataclasses.asdict(of)["stop_ids"][0] == 0 and read(out / "tokenizer_config.json")["eos_token"] == "<|endoftext|>"
    assert served_by(base, prepared(base)).stop == "<|im_end|>"


@pytest.mark.parametrize("neutral", [False, True])
def test_what_is_handed_on_says_that_it_holds_questions_of_the_data(base, adapter, neutral):
    path = exported(base, prepared(base))
    (path / "golden_prompts.json").write_text(json.dumps({"prompts": [{}, {}], **({"neutral": True} if neutral else {})}), encoding="utf-8")
    said = [line for line in PeftExporter().usage(adapter, path) if "golden_prompts.json" in line]
    assert said == [] if neutral else "holds 2 questions of your data" in said[0] and said[0].startswith("# ") and "\n" not in said[0]
