# SPDX-License-Identifier: Apache-2.0
"""The command: all that is wrong at once, before anything is loaded; and a server that is really started."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket

import httpx
import pytest
from builders.serving import fake_server
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
    words = ("no such folder", "--tokens FILE", "belong together", "c.pem cannot be read", "--audit-log FILE")
    assert all(word in problem for word, problem in zip(words, problems, strict=True)), problems
    (tmp_path / "c.pem").write_text("garbage")
    assert "PEM" in refused(tmp_path, "--tls-cert", tmp_path / "c.pem", "--tls-key", tmp_path / "c.pem")[0]
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


def test_a_server_is_put_together_and_checked_by_golden(exports, tmp_path, command, host):
    from builders.serving import listening
    from loraforge_serve.cli.starting import assemble

    adapters = tmp_path / "adapters"
    shutil.copytree(exports["other"], adapters / "law")
    given = ["--adapters", str(adapters), "--audit-log", str(tmp_path / "audit.jsonl"), "--rate", "1000", "--allow-host", "law.example"]
    params = serve.make_context("serve", given).params
    server = assemble(host, list(params.pop("runs")), params)
    try:
        with listening(server) as url:
            code, out, _ = command("golden", exports["other"], url, "--model", "law")
            assert code == 0, out
            asked = {"model": "law", "messages": [{"role": "user", "content": "一"}], "max_tokens": 3}
            answer = httpx.post(f"{url}/v1/chat/completions", json=asked, trust_env=False, timeout=60, headers={"Host": "law.example"})
            assert answer.json()["usage"]["completion_tokens"] <= 3
            assert httpx.get(f"{url}/v1/models", headers={"Host": "evil.example"}, trust_env=False).status_code == 421
    finally:
        server.watcher.close()
        server.library.backend.close()
    told = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(one["what"], one["model"]) for one in told] == [("added", "law"), ("answer", "law")]


def test_a_place_that_cannot_keep_feedback_is_said_before_anything_is_loaded(refused, tmp_path):
    assert "end in .jsonl" in refused("--feedback", tmp_path / "feedback.csv", tmp_path)[0]


def test_a_server_that_ends_waits_for_no_picture(host, monkeypatch, tmp_path):
    """The thread that draws cannot be stopped, and Python would wait for it."""
    from types import SimpleNamespace

    from loraforge_serve.cli import starting

    ends = []
    painter = SimpleNamespace(busy=True)
    monkeypatch.setattr(starting, "assemble", lambda *given: fake_server(painter=painter))
    monkeypatch.setattr(starting, "_run", lambda *given: signal.raise_signal(signal.SIGTERM))
    monkeypatch.setattr(starting.os, "_exit", ends.append)
    before = signal.getsignal(signal.SIGTERM)
    try:
        for busy in (True, False):
            painter.busy = busy
            CliRunner().invoke(serve, ["--port", "0", str(tmp_path)], obj=host, catch_exceptions=False)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ends == [0]


def test_on_a_base_that_is_a_gguf_file_llama_cpp_takes_that_very_file(monkeypatch):
    from types import SimpleNamespace

    from loraforge_serve.backends import gguf
    from loraforge_serve.cli.choosing import make_backend

    monkeypatch.setattr(gguf, "GgufBackend", lambda file, *_: file)
    family = SimpleNamespace(chat_format=lambda *_: SimpleNamespace(longest=64))
    options = {"backend": "gguf", "gguf": None, "vllm_url": None}

    def chosen(name):
        base = SimpleNamespace(name=name, revision=None, family=family)
        return make_backend(SimpleNamespace(base=base, converter=lambda _: None), options)

    assert str(chosen("models/qwen.gguf")) == "models/qwen.gguf"
    with pytest.raises(ConfigError, match="--gguf base.gguf"):
        chosen("models/qwen")


@pytest.mark.parametrize("option", ["--watch", "--timeout"])
def test_a_number_that_is_none_is_refused(option, host, tmp_path):
    said = CliRunner().invoke(serve, [str(tmp_path), option, "nan"], obj=host)
    assert said.exit_code == 2 and "nan is not a finite number" in said.output


def test_an_export_of_another_kind_leads_to_its_run(tmp_path):
    from types import SimpleNamespace

    from loraforge_serve.catalogue.source import _no_adapter

    said = _no_adapter(tmp_path / "export" / "gguf", tmp_path / "export" / "gguf", SimpleNamespace(path=tmp_path))
    assert said.endswith(f"loraforge serve {tmp_path}")


def test_what_is_no_gguf_file_is_told_before_llama_cpp_gets_it(tmp_path):
    from loraforge_serve.backends.gguf import GgufBackend

    pytest.importorskip("xllamacpp")
    (tmp_path / "a.gguf").write_text("<html>", encoding="utf-8")
    with pytest.raises(ConfigError, match="is no GGUF file"):
        GgufBackend(tmp_path / "a.gguf", None, lambda *_: tmp_path)
