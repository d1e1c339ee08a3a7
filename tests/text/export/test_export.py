# SPDX-License-Identifier: Apache-2.0
"""What was trained is what is served: the exported folders in transformers alone, asked as a server asks, stop where training stopped."""

from __future__ import annotations

import json
import shutil

import pytest
from builders import everyday
from builders.chat_bases import GEMMA, LLAMA3, QWEN3
from builders.tiny_text import CHATML, write_config
from loraforge_text.base_files import EMBEDDED

from loraforge.evaluation.compare import evaluate
from loraforge.pipeline.run import run_training
from loraforge.plan import make_plan
from loraforge.runs import opened

QA = {"试用期最长多久？": "六个月。", "加班费怎么算？": "按一点五倍。", "离婚冷静期多久？": "三十日。"}
# name: (chat template, config, the base's eos_token); answers end in <|im_end|> in all of them
BASES = {
    "chatml": (CHATML, {}, "<|endoftext|>"),
    "thinking switched off": (QWEN3, {"system_prompt": "你是律师。"}, "<|endoftext|>"),
    "no system role": (GEMMA, {"system_prompt": "你是'律师'。"}, "<|endoftext|>"),
    "dated": (LLAMA3, {"system_prompt": "你是律师。"}, "<|endoftext|>"),
    "inline": (None, {"prompt_template": "{system}【{instruction}】", "system_prompt": "你是律师。"}, "<|im_end|>"),
}
STOP = "<|im_end|>"


def base_model(folder, template, eos):
    """tiny-chat with another eos_token, as Qwen's base models have, and with the marks of other templates as its own."""
    shutil.copytree(EMBEDDED["tiny-chat"], folder)
    number = {"<|endoftext|>": 0, "<|im_end|>": 2}[eos]
    changes = {"tokenizer_config": {"eos_token": eos}, "config": {"eos_token_id": number}, "generation_config": {"eos_token_id": number}}
    for name, values in changes.items():
        file = folder / f"{name}.json"
        file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **values}), encoding="utf-8")
    (folder / "chat_template.jinja").unlink()
    if template:
        for mark in ("<end_of_turn>", "<|eot_id|>"):
            template = template.replace(mark, "<|im_end|>")
        for mark in ("<start_of_turn>", "<|start_header_id|>"):
            template = template.replace(mark, "<|im_start|>")
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


@pytest.fixture(scope="module", params=everyday(list(BASES), 1, 3, 4))
def served(request, tmp_path_factory):
    """A run that knows its answers by heart, with both exports."""
    from loraforge.plugin_api.host import PluginHost

    template, config, eos = BASES[request.param]
    folder = tmp_path_factory.mktemp("served")
    base = base_model(folder / "base", template, eos)
    (folder / "data").mkdir()
    lines = [f"{question},{answer}" for question, answer in QA.items()]
    (folder / "data" / "a.csv").write_text("\n".join(["instruction,output", *lines]) + "\n", encoding="utf-8")
    values = {"train_data_dir": str(folder / "data"), "base_model": str(base), "output_dir": str(folder / "out"), "save_steps": 0}
    values |= {"lora_rank": 8, "epochs": 12, "learning_rate": 0.004, "eval_ratio": 0, "eval_answers": False, "export": ["peft", "merged"]}
    host = PluginHost(blocked=())
    return run_training(make_plan(host, "text", write_config(folder / "c.yaml", **{**values, **config})), host)


def generated(folder, question: str, **more) -> str:
    """The raw answer, as transformers alone gives it: nothing is passed but what the folder says."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt")
    with torch.no_grad():
        out = model.generate(
            **prompt, generation_config=GenerationConfig.from_pretrained(folder), max_new_tokens=200, do_sample=False, **more
        )
    return tokenizer.decode(out[0, prompt["input_ids"].shape[1] :])


@pytest.mark.parametrize("kind", ["peft", "merged"])
def test_transformers_alone_answers_and_stops_as_trained(served, kind):
    for question, answer in QA.items():
        assert generated(served.exports[kind], question) == answer + STOP


def test_a_merged_model_stops_without_any_setting(served):
    from transformers import pipeline

    asked = [{"role": "user", "content": "试用期最长多久？"}]
    made = pipeline("text-generation", model=str(served.exports["merged"]), max_new_tokens=200, do_sample=False)(asked)
    assert made[0]["generated_text"][-1] == {"role": "assistant", "content": "六个月。"}


def test_sample_chat_and_transformers_say_the_same(served, host):
    from loraforge_text.cli.chat import Session

    there = opened.load_run(host, served.run.path)
    model = there.inference_model(there.adapters())
    for question in QA:
        (sampled,) = model.generate([there.prompt(question)], "out", max_tokens=200)
        ((_, said),) = Session(there, ["out"], False).ask(question, model, {"max_tokens": 200})
        assert sampled == said == generated(served.exports["merged"], question).removesuffix(STOP) and sampled.stopped


@pytest.mark.slow
def test_eval_asks_as_a_server_is_asked(tmp_path, host, train, project):
    base = base_model(tmp_path / "plain", CHATML, "<|endoftext|>")
    outcome = train(project(base_model=str(base), export=["merged"], epochs=6, eval_ratio=0.25, learning_rate=0.004))
    result = evaluate(host, opened.load_run(host, outcome.run.path), None, lambda done, total: None)
    golden = json.loads((outcome.run.adapter / "golden_prompts.json").read_text(encoding="utf-8"))["prompts"]
    rows = {row["question"]: row for row in result["rows"]}
    assert golden and {prompt["question"] for prompt in golden} <= set(rows)
    for prompt in golden:
        said = generated(outcome.exports["merged"], prompt["question"])
        assert said.removesuffix("<|im_end|>").strip() == rows[prompt["question"]]["adapter"] != ""
