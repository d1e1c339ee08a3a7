# SPDX-License-Identifier: Apache-2.0
"""A server without a model: a backend that answers by a rule, and how to reach an application without a network."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import socket
import threading
import time
from pathlib import Path

from loraforge_serve.admission import Admission
from loraforge_serve.backends import Piece
from loraforge_serve.library import Library
from loraforge_serve.metrics import Metrics
from loraforge_serve.server import Limits, Server
from loraforge_serve.versions import BASE, Version


class FakeDecoder:
    def step(self, token):
        return chr(token)

    def rest(self):
        return ""


@dataclasses.dataclass
class FakeChat:
    """A character is a token; a question ends in a line break."""

    stop_ids: tuple = (0,)
    stop_texts: tuple = ("\0",)
    longest: int | None = 200
    plain: bool = True

    def prompt(self, messages, tools=()):
        return self.encode("".join(f"{one['role']}: {one['content']}\n" for one in messages))

    def encode(self, text):
        return [ord(letter) for letter in text]

    def checked(self, ids):
        return list(ids)

    def decoder(self):
        return FakeDecoder()


class NumberDecoder:
    def step(self, token):
        return f"{token} "

    def rest(self):
        return ""


class NumberChat(FakeChat):
    """Tells the numbers of the tokens; nothing ends an answer."""

    stop_ids = ()

    def __init__(self):
        super().__init__(stop_ids=(), stop_texts=())

    def encode(self, text):
        return list(range(5, 11))

    def decoder(self):
        return NumberDecoder()


class FakeBackend:
    """Answers ``<name> heard: <question>``, one letter at a time.

    Attributes:
        pause: seconds before each letter.
        loaded: the keys of the adapters that are loaded.
        ended: how many answers came to their end, and how many were left before.
    """

    name = "fake"
    longest = None

    def __init__(self, pause: float = 0.0) -> None:
        self.pause, self.loaded, self.ended, self.left, self.jobs = pause, [], 0, 0, []

    def add(self, version):
        self.loaded.append(version.key)

    def remove(self, version):
        self.loaded.remove(version.key)

    async def answer(self, job):
        self.jobs.append(job)
        said = "".join(map(chr, job.prompt)).strip().rpartition("\n")[2].partition(": ")[2]
        text = f"{job.version.key if job.version else 'base'} heard: {said}"
        done = False
        try:
            for number, letter in enumerate(text[: job.max_tokens], 1):
                await asyncio.sleep(self.pause)
                done = number == min(len(text), job.max_tokens)
                cut = len(text) > job.max_tokens
                yield Piece(letter, 1, ("length" if cut else "stop") if done else None)
        finally:
            self.ended, self.left = self.ended + done, self.left + (not done)

    def close(self):
        pass


def fake_version(name: str, key: str | None = None, **told) -> Version:
    told = {"kind": "text", "title": name, "base": "tiny", "lineage": {}, "facts": {"verdict": "", "lines": [], "caution": []}, **told}
    told = {"example": None, "citations": [], **told}
    return Version(name, key or f"{name}.1", Path(f"/runs/{name}"), Path(f"/runs/{name}/export/peft"), FakeChat(), told, seal="ab" * 32)


def fake_server(names=("legal", "medical"), pause: float = 0.0, limits: Limits | None = None, **settings) -> Server:
    """A server of adapters that answer by a rule. ``server.library.backend`` is the FakeBackend."""
    limits = limits or Limits()
    base = dataclasses.replace(fake_version(BASE, BASE), seal=None)
    library = Library(base, FakeBackend(pause))
    for name in names:
        library.put(fake_version(name))
    return Server(library, Admission(limits.waiting), Metrics(), limits, **settings)


def client_of(server: Server, **settings):
    """The openai client of an application, without a network. Streams come whole: for what comes when, see ``listening``."""
    import openai
    from fastapi.testclient import TestClient
    from loraforge_serve.app import create_app

    http = TestClient(create_app(server), base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
    return openai.OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="x", http_client=http, max_retries=0, **settings)


def listening(server: Server):
    """The server on a free port of the loopback; gives its address."""
    from loraforge_serve.app import create_app

    return listening_app(create_app(server))


@contextlib.contextmanager
def listening_app(app):
    """An ASGI application on a free port of the loopback, with uvicorn; gives its address."""
    import uvicorn

    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    made.listen(64)
    running = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [made]}, daemon=True)
    thread.start()
    try:
        while not running.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{made.getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join(timeout=20)
        made.close()


def until(true, seconds: float = 10.0) -> bool:
    """Whether something becomes true in time."""
    end = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < end:
        time.sleep(0.02)
    return bool(found)


MODULES = {
    f"model.layers.{layer}.{name}": shape
    for layer in (0, 1)
    for name, shape in (("self_attn.q_proj", (32, 32)), ("self_attn.v_proj", (16, 32)), ("mlp.gate_proj", (48, 32)))
}
OTHER_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}"
)


def export_adapter(folder: Path, base: Path, seed: int, jinja: str | None = None, dora: bool = False) -> Path:
    """A random adapter of a tiny base, as the PEFT exporter writes it, with golden prompts of no data."""
    from loraforge_text.export.exporters import PeftExporter
    from loraforge_text.families.encoding import tokenizer_of
    from loraforge_text.templates.builtin import AutoTemplate
    from loraforge_text.templates.golden_prompts import NAME, neutral_prompts

    from builders.tiny_text import CHATML
    from loraforge.testing.adapters import make_adapter

    template = {"name": "auto", "jinja": jinja or CHATML, "tokens": {"eos_token": "<|im_end|>"}, "stops": ["<|im_end|>", "<|endoftext|>"]}
    golden = neutral_prompts(tokenizer_of(base), AutoTemplate().recall(template).prompting, template)
    hashes = {name: hashlib.sha256((base / name).read_bytes()).hexdigest() for name in ("config.json", "model.safetensors")}
    facts = {"name": folder.name, "template": template, "base_files": hashes}
    adapter = make_adapter(modules=MODULES, base_model=str(base), seed=seed, dora=dora, facts=facts, files={NAME: golden})
    folder.mkdir(parents=True)
    return PeftExporter().export(adapter, folder)
