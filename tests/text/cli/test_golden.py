"""``loraforge golden`` against servers of this machine that render with transformers, rightly and wrongly."""

from __future__ import annotations

import contextlib
import json
import threading

import pytest
from builders.loopback import serving


@pytest.fixture
def run(project, train):
    return train(project(epochs=1)).run


@pytest.fixture
def tokenizer(run):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(run.exports / "peft")


def rendered(tokenizer, asked, **more) -> str:
    return tokenizer.apply_chat_template(asked["messages"], tokenize=False, add_generation_prompt=True, **more)


@pytest.mark.parametrize("kind", ["vLLM", "llama-server"])
def test_a_server_with_the_trained_template_agrees(kind, run, tokenizer, command):
    seen = []

    def tokenize(asked):
        seen.append(asked)
        text = rendered(tokenizer, asked) if kind == "vLLM" else asked["content"]
        return {"tokens": tokenizer(text, add_special_tokens=False).input_ids}

    answers = {"/tokenize": tokenize}
    if kind == "llama-server":
        answers["/apply-template"] = lambda asked: {"prompt": rendered(tokenizer, asked)}
    with serving(answers) as url:
        for folder in (run.path, run.exports / "peft"):
            code, out, err = command("golden", folder, f"{url}/v1", "--model", "mine")
            assert code == 0 and kind in out and "to the last token" in out, err
    assert kind != "vLLM" or all(asked["model"] == "mine" and asked["add_generation_prompt"] for asked in seen)


def test_another_template_or_a_second_beginning_is_found(run, tokenizer, command):
    other = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    with serving({"/apply-template": lambda asked: {"prompt": rendered(tokenizer, asked, chat_template=other)}}) as url:
        code, out, _ = command("golden", run.path, url)
        assert code == 1 and "the text parts at character 0" in out and "chat_template.jinja" in out
    twice = {"/tokenize": lambda asked: {"tokens": [7, *tokenizer(rendered(tokenizer, asked), add_special_tokens=False).input_ids]}}
    with serving(twice) as url:
        code, out, _ = command("golden", run.path, url, "--json")
        found = json.loads(out)
        assert code == 1 and len(found["differences"]) == found["prompts"] > 0 and "added twice" in found["differences"][0]["message"]


def test_what_is_no_server_is_explained(run, command, tmp_path):
    assert "is no address of a server" in command("golden", run.path, "file:///etc/passwd")[2]
    assert "does not answer" in command("golden", run.path, "http://127.0.0.1:9")[2]
    with serving({"/tokenize": lambda asked: {"hello": 1}}) as url:
        assert "holds no token numbers" in command("golden", run.path, url)[2]
    with serving({}) as url:
        assert "answers 404" in command("golden", run.path, url)[2]
    assert "has no golden_prompts.json" in command("golden", tmp_path, "http://127.0.0.1:9")[2]


@pytest.mark.parametrize(
    "url",
    ["http://[::1", "http://127.0.0.1:abc", "http://127.0.0.1:99999", "http://127.0.0.1:-1", "http://:80", "http://", "x", "", "ftp://a"],
)
def test_an_address_that_is_none_is_a_clear_message(url, tmp_path, command):
    (tmp_path / "golden_prompts.json").write_text('{"prompts": []}', encoding="utf-8")
    code, _, err = command("golden", tmp_path, url)
    assert code == 2 and "is no address of a server" in err and "Traceback" not in err


@pytest.mark.parametrize("url", ["http://a b/", "http://" + "ü" * 80, "http://a..b/", "http://user:word@127.0.0.1:9"])
def test_an_address_that_leads_nowhere_is_a_clear_message(url, tmp_path, command):
    (tmp_path / "golden_prompts.json").write_text('{"prompts": []}', encoding="utf-8")
    code, _, err = command("golden", tmp_path, url)
    assert code == 2 and "does not answer as a server" in err, err


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-\x1b[31mOpenSSH\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
        b"HTTP/1.1 x OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n\xff",
        b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 500 No\r\n\r\n\x1b[31mred",
    ],
)
def test_what_is_no_web_server_is_explained(answer, tmp_path, command):
    import socket

    (tmp_path / "golden_prompts.json").write_text('{"prompts": []}', encoding="utf-8")
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    try:
        code, _, err = command("golden", tmp_path, f"http://127.0.0.1:{listening.getsockname()[1]}")
    finally:
        listening.close()
    assert code == 2 and ("does not answer as a server" in err or "answers 500" in err) and "\x1b" not in err, err


@pytest.mark.parametrize("kind", ["vLLM", "llama-server"])
def test_tools_are_sent_beside_the_messages(kind, tmp_path, command):
    prompt = {"messages": [{"role": "user", "content": "q"}], "tools": [{"type": "function", "function": {"name": "f"}}],
              "question": "q", "text": "q", "ids": [7], "starts": [0]}  # fmt: skip
    (tmp_path / "golden_prompts.json").write_text(json.dumps({"format": 1, "prompts": [prompt]}), encoding="utf-8")
    seen = []

    def note(asked):
        seen.append(asked)
        return {"tokens": [7], "prompt": "q"}

    with serving({"/tokenize": note} | ({"/apply-template": note} if kind == "llama-server" else {})) as url:
        assert command("golden", tmp_path, url)[0] == 0
    assert any(asked.get("tools") == prompt["tools"] and asked["messages"] == prompt["messages"] for asked in seen)
