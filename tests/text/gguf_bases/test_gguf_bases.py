# SPDX-License-Identifier: Apache-2.0
"""A GGUF file is trained on, and what was learned answers on that very file in llama.cpp."""

from __future__ import annotations

import json
import re

import pytest
from builders.llama_cpp import LlamaCpp, write_base
from builders.text_runs import QUESTION
from builders.tiny_text import make_base, write_config, write_rows
from loraforge_text.base_files import locate
from loraforge_text.export.llama_cpp import GgufExporter
from loraforge_text.families.chat_format import chat_format
from loraforge_text.gguf_bases import conversion

from loraforge import ModelError
from loraforge.pipeline.run import run_training
from loraforge.plan import make_plan
from loraforge.runs import opened

pytestmark = pytest.mark.xdist_group("gguf-base")  # one training for all of them


@pytest.fixture(scope="module")
def file(tmp_path_factory, base):
    return write_base(base, tmp_path_factory.mktemp("model") / "tiny q8.gguf", "Q8_0")


@pytest.fixture(scope="module")
def run(tmp_path_factory, file):
    from loraforge.plugin_api.host import PluginHost

    folder = tmp_path_factory.mktemp("run")
    write_rows(folder / "data" / "metadata.csv", 16)
    config = write_config(
        folder / "c.yaml", train_data_dir=str(folder / "data"), base_model=str(file), output_dir=str(folder / "out"), lora_rank=4,
        epochs=4, learning_rate=0.05, save_steps=50, eval_answers=False, export=["peft", "gguf", "ollama"],
    )  # fmt: skip
    host = PluginHost(blocked=())
    return run_training(make_plan(host, "text", config), host)


def test_it_answers_in_llama_cpp_on_that_file_as_in_sample(run, file, host):
    there = opened.load_run(host, run.run.path)
    model = there.inference_model(there.adapters())
    ours, plain = (model.generate([there.prompt(QUESTION)], name, max_tokens=12)[0] for name in ("out", None))
    golden = json.loads((run.exports["peft"] / "golden_prompts.json").read_text(encoding="utf-8"))["prompts"]
    llama = LlamaCpp(file, run.run.path / "export" / "gguf" / "out.gguf")
    prompt = llama.tokens(there.prompt(QUESTION))
    assert llama.answer(prompt, 12).strip() == ours.strip() != plain.strip()
    assert golden and all(llama.tokens(one["text"]) == one["ids"] for one in golden)


def test_the_printed_lines_name_that_file(run, file):
    line = run.usage["gguf"][-1]
    assert line.startswith(f"llama-server -m '{file}' --lora ") and "--chat-template-file" in line
    assert not any("convert_hf_to_gguf" in one for one in (*run.usage["gguf"], *run.usage["ollama"]))
    modelfile = (run.run.path / "export" / "ollama" / "Modelfile").read_text(encoding="utf-8")
    assert modelfile.startswith(f"FROM {file}\nADAPTER ./out.gguf\n")
    # Programs that know no GGUF file as a base are given the folder.
    folder = conversion.base_of(file)
    assert f"vllm serve '{folder}'" in run.usage["peft"][0] or f"vllm serve {folder} " in run.usage["peft"][0]
    written = json.loads((run.exports["peft"] / "adapter_config.json").read_text(encoding="utf-8"))
    assert written["base_model_name_or_path"] == str(folder)


@pytest.fixture
def exchanged(file, tmp_path_factory):
    """Another model lies where the base was."""
    kept = file.rename(file.with_name("kept.gguf"))
    write_base(make_base(tmp_path_factory.mktemp("other") / "base", width=48), file, "Q8_0")
    locate.cache_clear()
    yield
    kept.replace(file)
    locate.cache_clear()


def test_another_file_in_its_place_is_not_taken_for_it(run, file, host, exchanged):
    there = opened.load_run(host, run.run.path)
    adapters = there.adapters()
    for use in (lambda: there.inference_model(adapters), lambda: chat_format(str(file), None, run.exports["peft"])):
        with pytest.raises(ModelError, match=r"another file than the one that the adapter was trained on: tiny q8.gguf \(sha256"):
            use()
    lines = GgufExporter().usage(adapters["out"], run.exports["peft"] / "x.gguf")
    assert not any(str(file) in line for line in lines) and "convert_hf_to_gguf" in lines[1]


def test_the_manifest_says_which_file_it_was(run, file):
    import hashlib

    manifest = json.loads((run.run.path / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["config"]["base_model"] == str(file)
    assert manifest["facts"]["gguf"] == f"tiny q8.gguf (sha256 {hashlib.sha256(file.read_bytes()).hexdigest()})"
    assert {"gguf.json", "model.safetensors", "tokenizer.json", "config.json", "chat_template.jinja"} <= set(manifest["base"]["files"])


def test_the_run_is_verified_and_merged_as_any_other(run, command):
    code, out, err = command("verify", run.run.path)
    assert code == 0, out + err
    code, _, err = command("export", run.run.path, "--to", "merged")
    assert code == 0, err
    from safetensors.torch import load_file

    merged = load_file(run.run.path / "export" / "merged" / "model.safetensors")
    assert str(merged["model.layers.0.self_attn.q_proj.weight"].dtype) == "torch.float16"


def test_check_says_what_it_does(file, project, command, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "other"))
    from loraforge_text.base_files import locate

    locate.cache_clear()
    code, out, err = command("check", "text", project(base_model=str(file)))
    locate.cache_clear()
    assert code == 0, err
    assert "tiny q8.gguf (0 MB, mostly Q8_0) is turned into a base that can be trained, once" in err and "In order" in out
    assert re.search(r"Base model: .*tiny q8\.gguf", out)
