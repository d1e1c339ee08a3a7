# SPDX-License-Identifier: Apache-2.0
"""Pictures over HTTP, one at a time, with several adapters at once."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from types import SimpleNamespace

import httpx
import pytest
from builders.serving import fake_server, fake_version, listening, until
from loraforge_serve.images import Painter
from loraforge_serve.server import Limits

from loraforge import File


class Drawing:
    """An inference model that draws what it was asked as text, and notes how many draw at once."""

    def __init__(self):
        self.busy, self.most, self.lock = 0, 0, threading.Lock()

    def generate(self, prompts, adapter, **settings):
        with self.lock:
            self.busy += 1
            self.most = max(self.most, self.busy)
        time.sleep(0.05)
        with self.lock:
            self.busy -= 1
        told = {name: strength for name, strength in (adapter or {}).items()}
        return [File(f"{prompt} {told} {sorted(settings.items())}".encode(), ".png") for prompt in prompts]


@pytest.fixture
def painting():
    """A server of a text adapter, and of the image runs ink and neon on one base and far on another."""
    server, drawing = fake_server(names=("legal",)), Drawing()
    runs = {}
    for name, base in (("ink", "sd"), ("neon", "sd"), ("far", "other")):
        version = fake_version(name, kind="image")
        object.__setattr__(version, "chat", None)
        opened = SimpleNamespace(
            config=SimpleNamespace(base_model=base), adapters=lambda: {"x": 1}, inference_model=lambda adapters: drawing
        )
        runs[version.key] = opened
        server.library.put(version)
    server.painter = Painter(SimpleNamespace(runs=runs), server.library)
    return server, drawing


def test_pictures_are_drawn_one_request_at_a_time_with_their_seeds(painting):
    server, drawing = painting
    with listening(server) as url:

        async def ask():
            async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
                bodies = [{"model": "ink", "prompt": f"boat {n}", "n": 2, "seed": 7, "size": "64x64"} for n in range(4)]
                return await asyncio.gather(*(client.post(f"{url}/v1/images/generations", json=body) for body in bodies))

        answers = asyncio.run(ask())
    assert {answer.status_code for answer in answers} == {200}
    pictures = [base64.b64decode(one["b64_json"]).decode() for answer in answers for one in answer.json()["data"]]
    assert len(pictures) == 8
    assert pictures[0] == "boat 0 {'ink-1': 1.0} [('seed', 7), ('size', '64x64')]"
    assert [one["seed"] for one in answers[0].json()["data"]] == [7, 8]
    assert drawing.most == 1


def test_adapters_act_together_if_they_stand_on_one_base(painting):
    server, _ = painting
    with listening(server) as url, httpx.Client(trust_env=False, timeout=30, base_url=url) as client:
        both = client.post("/v1/images/generations", json={"model": "ink", "prompt": "a", "seed": 1, "adapters": {"ink": 0.5, "neon": 0.8}})
        assert base64.b64decode(both.json()["data"][0]["b64_json"]).decode() == "a {'ink-1': 0.5, 'neon-2': 0.8} [('seed', 1)]"
        far = client.post("/v1/images/generations", json={"model": "ink", "prompt": "a", "adapters": {"far": 1}})
        assert (far.status_code, far.json()["error"]["code"]) == (404, "adapter_not_found")
        assert client.post("/v1/images/generations", json={"model": "legal", "prompt": "a"}).json()["error"]["code"] == "wrong_kind"
        assert client.post("/v1/images/generations", json={"prompt": "a"}).json()["error"]["code"] == "model_needed"
        talked = client.post("/v1/chat/completions", json={"model": "ink", "messages": [{"role": "user", "content": "x"}]})
        assert talked.json()["error"]["code"] == "wrong_kind"
        link = client.post("/v1/images/generations", json={"model": "ink", "prompt": "a", "response_format": "url"})
        assert link.json()["error"]["code"] == "unsupported_response_format"


def test_what_no_base_draws_is_refused_before_anything_is_drawn(painting):
    server, drawing = painting
    asked = {"model": "ink", "prompt": "a"}
    with listening(server) as url, httpx.Client(trust_env=False, timeout=30, base_url=url) as client:
        for wrong in ({"size": "100000x64"}, {"size": "64x4096"}, {"seed": 2**32}, {"seed": -1}, {"adapters": {"ink": 1e30}}, {"n": 9}):
            assert client.post("/v1/images/generations", json={**asked, **wrong}).status_code == 400, wrong
        text = '{"model": "ink", "prompt": "a", "adapters": {"ink": NaN}}'
        told = client.post("/v1/images/generations", content=text, headers={"Content-Type": "application/json"})
        assert (told.status_code, drawing.most) == (400, 0)
        drawn = client.post("/v1/images/generations", json={**asked, "size": "2048x64", "quality": "hd", "user": "x"})
        assert (drawn.status_code, drawn.headers["x-loraforge-unused"]) == (200, "quality")


def test_pictures_that_nobody_waits_for_are_not_begun_and_time_is_up_for_them_too(painting):
    server, drawing = painting
    server.limits = Limits(seconds=0.4)
    begun, go_on = threading.Event(), threading.Event()

    def slowly(prompts, adapter, **settings):
        drawn.append(prompts[0])
        begun.set()
        go_on.wait(20)
        return [File(b"x", ".png")]

    drawn, drawing.generate = [], slowly
    with listening(server) as url, httpx.Client(trust_env=False, timeout=30, base_url=url) as client:
        first = client.post("/v1/images/generations", json={"model": "ink", "prompt": "first"})
        assert (first.status_code, begun.is_set(), server.painter.busy) == (504, True, True)
        assert client.post("/v1/images/generations", json={"model": "ink", "prompt": "second"}).status_code == 504
        go_on.set()
        assert until(lambda: not server.painter.busy)
        assert client.post("/v1/images/generations", json={"model": "ink", "prompt": "third"}).status_code == 200
    assert drawn == ["first", "third"]
