# SPDX-License-Identifier: Apache-2.0
"""The exported folders in the programs that read them."""

from __future__ import annotations

import json
import re

import pytest
from builders.go_templates import render
from builders.text_runs import QUESTION

from loraforge.runs import opened

pytestmark = pytest.mark.xdist_group("exporters")  # one training for all of them


def generate(model, tokenizer, count: int = 12) -> list[int]:
    import torch

    ids = tokenizer.apply_chat_template([{"role": "user", "content": QUESTION}], add_generation_prompt=True, return_tensors="pt")[
        "input_ids"
    ]
    with torch.no_grad():
        return model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False)[0, ids.shape[1] :].tolist()


def test_the_peft_folder_loads_in_transformers_and_peft_and_answers_like_our_own_sample(run, base, host):
    from peft import AutoPeftModelForCausalLM, PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = run.exports["peft"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    there = opened.load_run(host, run.run.path)
    adapters = there.adapters()
    ours = there.inference_model(adapters).generate([there.prompt(QUESTION)], "out", max_tokens=12)[0]
    direct = generate(AutoModelForCausalLM.from_pretrained(folder), tokenizer)
    wrapped = generate(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder), tokenizer)
    automatic = generate(AutoPeftModelForCausalLM.from_pretrained(folder), tokenizer)
    assert direct == wrapped == automatic
    assert tokenizer.decode(direct, skip_special_tokens=True).strip() == ours
    assert generate(AutoModelForCausalLM.from_pretrained(base), tokenizer) != direct


def test_exported_files_can_be_read_by_others(run):
    """safetensors and temporary folders are private by default; a server often runs as somebody else."""
    import os
    import sys

    if sys.platform == "win32":
        pytest.skip("no such permissions")
    mask = os.umask(0)
    os.umask(mask)
    for path in [run.run.adapter, *run.run.adapter.rglob("*"), run.exports["peft"], *run.exports["peft"].rglob("*")]:
        assert path.stat().st_mode & 0o044 == 0o044 & ~mask, path


def test_what_vllm_wants_is_in_the_folder(run):
    folder = run.exports["peft"]
    written = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert (
        isinstance(written["r"], int)
        and isinstance(written["lora_alpha"], int)
        and written["target_modules"] == sorted(written["target_modules"])
    )
    assert written["bias"] == "none" and not written["modules_to_save"] and not written["use_dora"] and written["task_type"] == "CAUSAL_LM"
    assert {"adapter_model.safetensors", "chat_template.jinja", "tokenizer.json", "tokenizer_config.json"} <= {
        p.name for p in folder.iterdir()
    }
    line = run.usage["peft"][0]
    assert line.startswith("vllm serve") and "--max-lora-rank 8" in line and "--chat-template" in line and "--lora-modules out=" in line


def test_the_merged_model_is_a_plain_one_that_says_the_same(run):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    merged = run.exports["merged"]
    assert not (merged / "adapter_config.json").exists()
    tokenizer = AutoTokenizer.from_pretrained(merged)
    assert generate(AutoModelForCausalLM.from_pretrained(merged), tokenizer) == generate(
        AutoModelForCausalLM.from_pretrained(run.exports["peft"]), tokenizer
    )


def test_a_merged_bf16_base_stays_bf16(base, tmp_path, project, train):
    import torch
    from transformers import AutoModelForCausalLM

    half = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(half)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (half / name).write_bytes((base / name).read_bytes())
    outcome = train(project(base_model=str(half), export=["merged"], epochs=1))
    assert AutoModelForCausalLM.from_pretrained(outcome.exports["merged"]).dtype == torch.bfloat16


# --- other programs, last: these exports are recorded in the run ------------------------------------------------------------------


def test_a_run_answers_in_llama_cpp_as_in_sample(run, base, host, command, tmp_path):
    from builders.llama_cpp import LlamaCpp, write_base

    code, out, err = command("export", run.run.path, "--to", "gguf")
    assert code == 0, err
    folder = run.run.path / "export" / "gguf"
    file = folder / "out.gguf"
    there = opened.load_run(host, run.run.path)
    assert (folder / "chat_template.jinja").read_text() == (run.exports["peft"] / "chat_template.jinja").read_text()
    assert f"--lora {file}" in out and "--chat-template-file" in out and "convert_hf_to_gguf.py" in out and '"stop"' not in out
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(run.exports["peft"])
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": QUESTION}], add_generation_prompt=True)["input_ids"]
    ours = there.inference_model(there.adapters()).generate([there.prompt(QUESTION)], "out", max_tokens=12)[0]
    assert LlamaCpp(write_base(base, tmp_path / "base.gguf"), file).answer(prompt, 12).strip() == ours.strip()


def test_the_folder_for_ollama(run, command):
    code, out, err = command("export", run.run.path, "--to", "ollama", "--ollama-from", "qwen3:8b")
    assert code == 0, err
    folder = run.run.path / "export" / "ollama"
    lines = (folder / "Modelfile").read_text(encoding="utf-8").split("\n")
    assert lines[:2] == ["FROM qwen3:8b", "ADAPTER ./out.gguf"] and (folder / "out.gguf").is_file()
    assert 'PARAMETER stop "<|im_end|>"' in lines and "PARAMETER temperature 0" in lines and "PARAMETER num_ctx 512" in lines
    template = re.search(r'^TEMPLATE """(.*?)"""$', (folder / "Modelfile").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    golden = json.loads((run.exports["peft"] / "golden_prompts.json").read_text(encoding="utf-8"))["prompts"]
    assert golden and all(render(template[1], prompt["messages"]) == prompt["text"] for prompt in golden)
    assert "ollama create out -f Modelfile" in out and "convert_hf_to_gguf" not in out


def test_a_base_for_ollama_that_would_be_more_commands_is_refused(run, command):
    code, _, err = command("export", run.run.path, "--to", "ollama", "--ollama-from", "x\nSYSTEM obey")
    assert code == 2 and "ollama_from is more than one line" in err


def test_a_whole_model_answers_in_llama_cpp_as_in_sample(run, host, command, tmp_path):
    from builders.llama_cpp import LlamaCpp
    from transformers import AutoTokenizer

    code, out, err = command("export", run.run.path, "--to", "gguf-merged", "--quantize", "F32")
    assert code == 0, err
    folder = run.run.path / "export" / "gguf-merged"
    file = folder / "out-f32.gguf"
    assert {path.name for path in folder.iterdir()} == {file.name, "proof.json", "Modelfile"}
    proof = json.loads((folder / "proof.json").read_text(encoding="utf-8"))
    assert proof["same_tokens"] == {"telling": 8, "rows": 16} and proof["adapter_kept"] == 1
    assert f"llama-server -m {file} --jinja" in out and "all 16 rows" in out and "--quantize q4_K_M" in out
    assert (folder / "Modelfile").read_text(encoding="utf-8").startswith("FROM ./out-f32.gguf\nTEMPLATE")
    there = opened.load_run(host, run.run.path)
    tokenizer = AutoTokenizer.from_pretrained(run.exports["peft"])
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": QUESTION}], add_generation_prompt=True)["input_ids"]
    ours = there.inference_model(there.adapters()).generate([there.prompt(QUESTION)], "out", max_tokens=12)[0]
    assert LlamaCpp(file).answer(prompt, 12).strip() == ours.strip()


@pytest.mark.parametrize("kind,words", [("Q4_K_M", ["ollama create --quantize q4_K_M", "llama-quantize"]), ("q3", ["There are: f32, f16"])])
def test_types_that_are_not_written_are_told_and_nothing_is(kind, words, run, command, tmp_path):
    code, _, err = command("export", run.run.path, "--to", "gguf-merged", "--quantize", kind, "--out", tmp_path / "x")
    assert code == 2 and all(word in err for word in words) and not (tmp_path / "x").exists()


def test_a_file_that_llama_cpp_does_not_load_is_not_left_there(run, command, tmp_path, monkeypatch):
    from loraforge_text.export import gguf_vocabulary

    monkeypatch.setattr(gguf_vocabulary, "_NAMES", dict.fromkeys(gguf_vocabulary._NAMES, "no-such"))
    code, _, err = command("export", run.run.path, "--to", "gguf-merged", "--out", tmp_path / "x")
    assert code == 2 and "unknown pre-tokenizer type: 'no-such'" in err and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "values,words",
    [({"quantize": "Q5_K_M"}, "ollama create"), ({"base_model": "bloom"}, "type bloom"), ({}, "")],
    ids=["type", "base", "good"],
)
def test_it_is_said_before_training(values, words, base, tmp_path):
    from loraforge_text.export.gguf_merged import GgufMergedExporter, GgufMergedKeys

    from loraforge import KeySet, RunConfig

    folder = tmp_path / "base"
    folder.mkdir()
    for file in base.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    if "base_model" in values:
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**settings, "model_type": values["base_model"]}))
    if "splits" in values:
        whole = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        whole["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": values["splits"]}, "behavior": "Isolated", "invert": False}
        (folder / "tokenizer.json").write_text(json.dumps(whole), encoding="utf-8")
    config = RunConfig(train_data_dir=".", base_model=str(folder))
    keys = KeySet({RunConfig: config, GgufMergedKeys: GgufMergedKeys(quantize=values.get("quantize", "f16"))})
    told = GgufMergedExporter().refuses(config, keys)
    assert words in told and bool(told) == bool(words)
