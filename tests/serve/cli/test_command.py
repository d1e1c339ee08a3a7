"""The command: all that is wrong at once, before anything is loaded; and a server that is really started."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest
from click.testing import CliRunner
from loraforge_serve.cli.command import serve

from loraforge import ConfigError


@pytest.fixture
def refused(host):
    """What the command says against its arguments."""

    def go(*arguments) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            CliRunner().invoke(serve, [str(one) for one in arguments], obj=host, catch_exceptions=False)
        return list(caught.value.problems)

    return go


def test_other_computers_need_tokens_and_all_is_said_at_once(refused, tmp_path):
    problems = refused("--host", "0.0.0.0", "--adapters", tmp_path / "no", "--tls-cert", tmp_path / "c.pem", "--log-prompts")
    assert [words for words in ("no such folder", "--tokens FILE", "belong together", "c.pem cannot be read", "--audit-log FILE")] == [
        words
        for words, problem in zip(
            ("no such folder", "--tokens FILE", "belong together", "c.pem cannot be read", "--audit-log FILE"), problems, strict=True
        )
        if words in problem
    ]
    assert refused() == ["name a run, or a folder of adapters: loraforge serve output/legal"]


def test_a_port_that_is_taken_is_said_before_anything_is_loaded(refused, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "cannot be listened at" in refused("--port", taken.getsockname()[1], tmp_path)[0]


def test_a_missing_extra_is_one_sentence(refused, monkeypatch, tmp_path):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("fastapi", "uvicorn") else find(name))
    assert refused(tmp_path) == ["loraforge serve needs fastapi, uvicorn: pip install 'loraforge[serve]'"]


def test_a_token_is_shown_once(host, tmp_path):
    file = tmp_path / "t"
    told = CliRunner().invoke(serve, ["--tokens", str(file), "--new-token", "anna", "--admin"], obj=host)
    token = told.output.split()[-1]
    assert re.fullmatch(r"lf-[\w-]{43}", token)
    assert re.fullmatch(r"anna sha256:[0-9a-f]{64} admin\n", file.read_text())


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT for another process")
def test_a_server_is_started_checked_by_golden_and_stopped(exports, tmp_path, command):
    adapters = tmp_path / "adapters"
    adapters.mkdir()
    (adapters / "law").symlink_to(exports["other"])
    code = "from loraforge_serve.cli.command import serve; from loraforge.plugin_api.host import PluginHost; serve(obj=PluginHost())"
    line = [sys.executable, "-c", code, "--adapters", str(adapters), "--port", "0", "--audit-log", str(tmp_path / "audit.jsonl")]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        url = re.search(r"^base, law at (http://\S+)$", process.stdout.readline().strip())[1]
        exit_code, out, _ = command("golden", exports["other"], url, "--model", "law")
        assert exit_code == 0, out
        asked = {"model": "law", "messages": [{"role": "user", "content": "一"}], "max_tokens": 3}
        answer = httpx.post(f"{url}/v1/chat/completions", json=asked, trust_env=False, timeout=60).json()
        assert answer["usage"]["completion_tokens"] <= 3
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    told = json.loads((tmp_path / "audit.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert (told["what"], told["model"]) == ("answer", "law")
