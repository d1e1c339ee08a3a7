# SPDX-License-Identifier: Apache-2.0
"""``loraforge golden`` against the servers themselves: llama.cpp's, and, on demand, ``transformers serve``."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as made:
        return made.getsockname()[1]


@pytest.fixture(scope="module")
def llama(run, base, tmp_path_factory):
    """llama.cpp's HTTP server (in the xllamacpp package) with the base and the run's adapter, and the run's template."""
    from builders.llama_cpp import write_base, xllamacpp

    from loraforge import load_run
    from loraforge.pipeline import finish
    from loraforge.plugin_api.host import PluginHost

    folder, host = tmp_path_factory.mktemp("llama"), PluginHost(blocked=())
    opened = load_run(host, run.run.path)
    exporter = host.component("loraforge_exporters", "text", "gguf")
    finish.write_export(exporter, run.run.adapter, opened.manifest["config"], folder / "gguf")
    params = xllamacpp.CommonParams()
    params.model.path = str(write_base(base, folder / "base.gguf"))
    params.n_ctx, params.n_parallel, params.warmup, params.n_gpu_layers, params.port = 512, 1, False, 0, free_port()
    params.cpuparams.n_threads, params.fit_params, params.verbosity = 1, False, -1
    params.use_jinja, params.chat_template = True, (run.exports["peft"] / "chat_template.jinja").read_text(encoding="utf-8")
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(next((folder / "gguf").glob("*.gguf"))), 1.0)]
    server = xllamacpp.Server(params)
    yield f"http://127.0.0.1:{params.port}"
    del server


def test_llama_servers_prompts_and_answers_are_the_runs(run, llama, command):
    code, out, err = command("golden", run.run.path, llama, "--answers")
    assert code == 0, out + err
    assert "llama-server at" in out and "to the last token" in out
    found = json.loads(command("golden", run.run.path, llama, "--answers", "--json")[1])
    assert found["server"] == "llama-server" and found["answers"]["same"] == found["prompts"] and not found["problems"]
    found = json.loads(command("golden", run.exports["peft"], llama, "--json")[1])
    assert not found["differences"] and not found["problems"] and "answers" not in found


def test_a_wrong_name_and_an_adapter_that_is_switched_off(run, llama, command):
    """llama-server answers 200 to any name, with whatever is loaded."""
    code, _, err = command("golden", run.run.path, llama, "--model", "no-such-adapter")
    assert code == 2 and "answers to any name with what it has loaded" in err
    switch = urllib.request.Request(f"{llama}/lora-adapters", b'[{"id": 0, "scale": 0.0}]', {"Content-Type": "application/json"})
    urllib.request.urlopen(switch, timeout=30).read()
    code, out, _ = command("golden", run.run.path, llama, "--answers")
    assert code == 1 and "switched off (scale 0)" in out


@pytest.mark.slow
@pytest.mark.skipif("LORAFORGE_REAL_SERVERS" not in os.environ, reason="starts transformers serve: set LORAFORGE_REAL_SERVERS=1")
@pytest.mark.parametrize("side", ["merged", "base"])
def test_transformers_serve(side, run, base, command, tmp_path):
    """The base is a base with the run's template, as a merged folder has it."""
    port, model = free_port(), run.exports["merged"] if side == "merged" else base
    line = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model), "--port", str(port)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(line, stdout=log, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            except OSError:
                time.sleep(0.5)
        code, out, err = command("golden", run.run.path, f"http://127.0.0.1:{port}")
        log = (tmp_path / "log").read_text()[-2000:]
        if side == "merged":
            assert code == 0 and "compared by its answers" in out, out + err + log
        else:
            assert code == 1, out + err + log
    finally:
        process.terminate()
        process.wait(30)
