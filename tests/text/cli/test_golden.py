# SPDX-License-Identifier: Apache-2.0
"""``loraforge golden`` against servers of this machine that render with transformers, rightly and wrongly."""

from __future__ import annotations

import contextlib
import json
import threading

import pytest
from builders.loopback import Status, serving


@pytest.fixture(scope="module")
def run(run):
    return run.run


@pytest.fixture(scope="module")
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


# --- which server, which model, who asks ----------------------------------------------------------------------------------------


def listed(*names, **more):
    return {"object": "list", "data": [{"id": name, "object": "model", **more} for name in names]}


@pytest.fixture
def vllm(tokenizer):
    """As vLLM's OpenAI server: 404 for a model that it has not."""

    def answers(*names):
        def tokenize(asked):
            if asked.get("model") not in names:
                raise Status(
                    404, {"error": {"message": f"The model `{asked.get('model')}` does not exist.", "type": "NotFoundError", "code": 404}}
                )
            tokens = tokenizer(rendered(tokenizer, asked), add_special_tokens=False).input_ids
            return {"tokens": tokens, "count": len(tokens), "max_model_len": 512}

        return {"GET /v1/models": listed(*names, owned_by="vllm"), "/tokenize": tokenize}

    return answers


def test_the_model_of_the_runs_name_is_taken_or_the_only_one(run, vllm, command):
    for names in (("Qwen/Qwen3-8B", "out"), ("legal",)):
        with serving(vllm(*names)) as url:
            assert json.loads(command("golden", run.path, url, "--json")[1])["model"] == names[-1]
    with serving(vllm("Qwen/Qwen3-8B", "legal")) as url:
        code, _, err = command("golden", run.path, url)
        assert code == 2 and "several models; which is the adapter? --model Qwen/Qwen3-8B | legal" in err
        code, _, err = command("golden", run.path, url, "--model", "leagl")
        assert code == 2 and "has no model 'leagl'. It has: Qwen/Qwen3-8B, legal" in err


def test_who_asks_is_told_by_a_token(run, vllm, command, tmp_path):
    (tmp_path / "token").write_text("lf-secret\n")
    (tmp_path / "wrong").write_text("guess")
    (tmp_path / "two").write_text("one two")
    with serving(vllm("out"), token="lf-secret") as url:
        code, _, err = command("golden", run.path, url)
        assert code == 2 and "wants to know who asks (401)" in err and "--token-file" in err
        assert "does not know this token (401)" in command("golden", run.path, url, "--token-file", tmp_path / "wrong")[2]
        assert "one token and nothing else" in command("golden", run.path, url, "--token-file", tmp_path / "two")[2]
        assert command("golden", run.path, url, "--token-file", tmp_path / "token")[0] == 0
    assert "cannot be read" in command("golden", run.path, "http://127.0.0.1:9", "--token-file", tmp_path / "none")[2]


def test_our_own_server_tells_whose_adapter_it_has(run, vllm, command):
    seal = (run.path / "manifest.sha256").read_text().split()[0]
    for theirs, code, told in (
        (seal, 0, "LoRAForge at"),
        ("ab" * 32, 1, f"seal {'ab' * 8}, and this run's is {seal[:16]}"),
        (None, 0, "LoRAForge at"),
    ):
        models = {
            "object": "list",
            "data": [{"id": name, "owned_by": "loraforge", "loraforge": {"seal": theirs}} for name in ("base", "legal")],
        }
        with serving({**vllm("legal"), "GET /v1/models": models}) as url:
            made, out, err = command("golden", run.path, url)
            assert (made, told in out) == (code, True), out + err


def test_an_adapter_that_llama_server_has_switched_off_or_not_loaded(run, tokenizer, command):
    def tokenize(asked):
        return {"tokens": tokenizer(asked["content"], add_special_tokens=False).input_ids}

    llama = {
        "/apply-template": lambda asked: {"prompt": rendered(tokenizer, asked)},
        "/tokenize": tokenize,
        "GET /v1/models": listed("base.gguf"),
    }
    for loras, code, told in (
        ([{"id": 0, "path": "out.gguf", "scale": 1.0}], 0, "Its adapter: out.gguf."),
        ([{"id": 0, "path": "out.gguf", "scale": 0.0}], 1, "switched off (scale 0)"),
        ([], 0, "It has no adapter loaded"),
    ):
        with serving({**llama, "GET /lora-adapters": loras}) as url:
            made, out, err = command("golden", run.path, url)
            assert (made, told in out) == (code, True), out + err
    with serving(llama) as url:
        code, _, err = command("golden", run.path, url, "--model", "legal")
        assert code == 2 and "llama-server answers to any name with what it has loaded" in err


# --- by answers -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def speaks(run, tokenizer):
    """As a server of OpenAI's chat interface that has the base and the run's adapter."""
    from loraforge import load_run
    from loraforge.plugin_api.host import PluginHost

    opened = load_run(PluginHost(blocked=()), run.path)
    model = opened.inference_model(opened.adapters())

    def make(side="out", template=None, change=lambda text: text, extra=None):
        def chat(asked):
            assert asked["temperature"] == 0 and asked["stream"] is False
            text = rendered(tokenizer, asked, **({"chat_template": template} if template else {}))
            [answer] = model.generate([text], side, max_tokens=asked["max_tokens"])
            count = len(tokenizer(text, add_special_tokens=False).input_ids)
            message = {"role": "assistant", "content": change(str(answer))}
            return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": {"prompt_tokens": count}}

        return {"/v1/chat/completions": chat, "GET /v1/models": listed("out"), "GET /health": {"status": "ok"}, **(extra or {})}

    return make


OLLAMA = {"GET /api/version": {"version": "0.12.6"}}


@pytest.mark.parametrize("kind", ["OpenAI", "Ollama"])
def test_a_server_that_tells_no_tokens_is_compared_by_its_answers(kind, run, speaks, command):
    extra = {**OLLAMA, "GET /v1/models": listed("out:latest", owned_by="library")} if kind == "Ollama" else {}
    with serving(speaks(extra=extra)) as url:
        code, out, err = command("golden", run.path, url)
        assert code == 0 and "answers are letter for letter those of the adapter on this machine" in out, err
        found = json.loads(command("golden", run.path, url, "--json")[1])
        assert found["server"] == kind and found["answers"]["same"] == found["prompts"] and found["counted"] == []
        code, _, err = command("golden", run.exports / "peft", url)
        assert code == 2 and "is no run" in err


def test_the_base_answering_in_the_adapters_name_is_noticed(run, speaks, command):
    with serving(speaks(side=None)) as url:
        code, out, _ = command("golden", run.path, url)
        assert code == 1 and "answers with the base" in out and "switched off" in out


def test_another_template_is_noticed_by_the_count_of_tokens(run, speaks, command):
    other = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    with serving(speaks(template=other)) as url:
        code, out, _ = command("golden", run.path, url)
        assert code == 1 and "another template, a system prompt" in out


def test_an_answer_without_a_message_and_one_that_never_comes(run, speaks, command, monkeypatch):
    from loraforge_text.cli import server_client

    with serving({**speaks(), "/v1/chat/completions": lambda asked: {"choices": []}}) as url:
        assert "holds no message" in command("golden", run.path, url)[2]
    hang = threading.Event()
    monkeypatch.setattr(server_client, "_ANSWERING", 0.2)
    with serving({**speaks(), "/v1/chat/completions": lambda asked: hang.wait(5) or {}}) as url:
        assert "has not answered within 0.2 seconds" in command("golden", run.path, url)[2]
        hang.set()


@pytest.mark.parametrize(
    ("theirs", "fits", "told"),
    [
        (["aaaa", "bbbb", "cccc"], True, "All 3 answers"),
        (["aaaX", "bbbb", "cccc"], True, "answers with the adapter: 2 of 3"),
        (["axyz", "bxyz", "cccc"], False, "answers with the base: 2 of the 2"),
        (["zzzz", "yyyy", "xxxx"], False, "neither the adapter's nor the base's"),
        (["aaaX", "zzzz", "cccc"], False, "neither the adapter's nor the base's"),
    ],
)
def test_whose_answers_they_are(theirs, fits, told):
    from loraforge_text.cli.likeness import judge

    found = judge(theirs, ["aaaa", "bbbb", "cccc"], ["axyz", "bxyz", "cccc"])
    assert found.fits is fits and told in found.sentence and found.told == 2
    for one, fits in (("x", False), ("a", True)):
        alike = judge([one], ["a"], ["a"])
        assert alike.fits is fits and "cannot be told" in alike.sentence


def test_what_is_no_server_is_explained(run, command, tmp_path):
    assert "is no address of a server" in command("golden", run.path, "file:///etc/passwd")[2]
    assert "nothing answers" in command("golden", run.path, "http://127.0.0.1:9")[2]
    with serving({"/tokenize": lambda asked: {"hello": 1}}) as url:
        assert "holds no token numbers" in command("golden", run.path, url)[2]
    with serving({}) as url:
        assert "is no server of models that this command knows" in command("golden", run.path, url)[2]
    assert "has no golden_prompts.json" in command("golden", tmp_path, "http://127.0.0.1:9")[2]


@pytest.mark.parametrize(
    "url",
    ["http://[::1", "http://127.0.0.1:abc", "http://127.0.0.1:99999", "http://127.0.0.1:-1", "http://:80", "http://", "x", "", "ftp://a"],
)
def test_an_address_that_is_none_is_a_clear_message(url, tmp_path, command):
    (tmp_path / "golden_prompts.json").write_text('{"prompts": []}', encoding="utf-8")
    code, _, err = command("golden", tmp_path, url)
    assert code == 2 and "is no address of a server" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://a b/", "does not answer as a server"),
        ("http://" + "ü" * 80, "does not answer as a server"),
        ("http://a..b/", "does not answer as a server"),
        ("http://user:word@127.0.0.1:9", "cannot be reached"),
        ("http://127.0.0.1:9", "nothing answers at http://127.0.0.1:9. Does the server run"),
    ],
)
def test_an_address_that_leads_nowhere_is_a_clear_message(url, words, tmp_path, command):
    (tmp_path / "golden_prompts.json").write_text('{"prompts": []}', encoding="utf-8")
    code, _, err = command("golden", tmp_path, url)
    assert code == 2 and words in err and "urlopen" not in err, err


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
