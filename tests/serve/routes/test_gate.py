# SPDX-License-Identifier: Apache-2.0
"""Who is let in."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from builders.serving import fake_server
from fastapi.testclient import TestClient
from loraforge_serve.access.tokens import RateLimit, Tokens, new_token
from loraforge_serve.app import create_app
from loraforge_serve.catalogue.source import Source
from loraforge_serve.routes.gate import Gate
from loraforge_serve.server import Limits

HELLO = {"model": "legal", "messages": [{"role": "user", "content": "hello"}]}


def http(server, **headers) -> httpx.Client:
    return TestClient(create_app(server), base_url="http://127.0.0.1:8000", headers=headers, raise_server_exceptions=False)


@pytest.fixture
def guarded(tmp_path):
    """A server with a token for anna and one for an administrator."""
    file = tmp_path / "tokens.txt"
    tokens = {name: new_token(file, name, admin) for name, admin in (("anna", False), ("it", True))}
    return fake_server(tokens=Tokens(file)), tokens, file


def test_nothing_is_told_without_a_token(guarded):
    server, tokens, _ = guarded
    for path in ("/v1/models", "/metrics", "/admin/adapters", "/v1/models/legal"):
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {tokens['anna']}"}, {"Authorization": "Bearer "}):
            answer = http(server, **header).get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key"), (path, header)
    assert http(server).post("/v1/chat/completions", json=HELLO).status_code == 401
    assert http(server).get("/health").status_code == 200
    assert http(server, Authorization=f"Bearer {tokens['anna']}").post("/v1/chat/completions", json=HELLO).status_code == 200


def test_a_token_may_ask_and_only_an_administrators_changes_what_is_served(guarded):
    server, tokens, _ = guarded
    anna, it = (http(server, Authorization=f"Bearer {tokens[name]}") for name in ("anna", "it"))
    assert anna.delete("/admin/adapters/legal").json()["error"]["code"] == "not_admin"
    assert it.delete("/admin/adapters/legal").json() == {"id": "legal", "object": "model", "deleted": True}
    assert anna.post("/v1/chat/completions", json=HELLO).status_code == 404


def test_a_token_that_is_struck_out_counts_no_more(guarded):
    server, tokens, file = guarded
    anna = http(server, Authorization=f"Bearer {tokens['anna']}")
    assert anna.get("/v1/models").status_code == 200
    file.write_text("".join(line for line in file.read_text().splitlines(keepends=True) if not line.startswith("anna")))
    assert anna.get("/v1/models").status_code == 401


def test_pages_of_strangers_reach_nothing():
    """DNS rebinding (a strange name in Host), posts from other pages, posts that need no permission of the browser."""
    server = fake_server(hosts=("localhost", "127.0.0.1"))
    assert http(server, Host="evil.example").get("/v1/models").json()["error"]["code"] == "unknown_host"
    for host in ("localhost:8000", "127.0.0.1:8000", "[::1]:8000", "192.168.1.4"):
        assert http(server, Host=host).get("/v1/models").status_code == 200, host
    assert http(server, Origin="https://evil.example").post("/v1/chat/completions", json=HELLO).json()["error"]["code"] == "unknown_origin"
    assert http(server, Origin="null").post("/v1/chat/completions", json=HELLO).status_code == 403
    assert http(server, Origin="http://127.0.0.1:8000").post("/v1/chat/completions", json=HELLO).status_code == 200
    plain = http(server).post("/v1/chat/completions", content='{"model": "legal"}', headers={"Content-Type": "text/plain"})
    assert plain.json()["error"]["code"] == "unsupported_media_type"
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in http(server).options("/v1/chat/completions", headers=asked).headers
    allowed = fake_server(origins=("https://intranet.example",))
    answer = http(allowed, Origin="https://intranet.example").post("/v1/chat/completions", json=HELLO)
    assert answer.headers["access-control-allow-origin"] == "https://intranet.example"


def test_size_and_rate_are_limited():
    server = fake_server(limits=Limits(body=5000), rate=RateLimit(3))
    client = http(server)
    large = {**HELLO, "messages": [{"role": "user", "content": "x" * 6000}]}
    assert client.post("/v1/chat/completions", json=large).json()["error"]["code"] == "request_too_large"

    def without_length():
        yield b'{"model": "legal", "x": "' + b"x" * 6000
        yield b'"}'

    answer = client.post("/v1/chat/completions", content=without_length(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    codes = [client.post("/v1/chat/completions", json=HELLO).status_code for _ in range(4)]
    assert codes == [200, 200, 429, 429], "the one without a length has counted too"


def test_what_is_not_there_is_said_in_openais_shape():
    client = http(fake_server())
    answer = client.get("/v1/embeddings")
    assert (answer.status_code, set(answer.json()["error"])) == (404, {"message", "type", "param", "code"})
    assert client.get("/docs").status_code == 404
    assert client.get("/openapi.json").status_code == 404
    assert (
        client.post("/v1/chat/completions", content="{", headers={"Content-Type": "application/json"}).json()["error"]["code"]
        == "invalid_json"
    )


def test_what_an_administrator_cannot_have_served_is_no_fault_of_the_server(guarded, host, tmp_path):
    server, tokens, _ = guarded
    server.source = Source(host)
    it = http(server, Authorization=f"Bearer {tokens['it']}")
    for path in (tmp_path, "x" * 5000, "a\0b"):
        told = it.post("/admin/adapters", json={"path": str(path), "name": "law"})
        assert (told.status_code, told.json()["error"]["code"]) == (400, "not_servable"), path


def test_whoever_waits_when_the_server_ends_is_told_so(caplog):
    async def ends(scope, receive, send):
        raise asyncio.CancelledError

    told = TestClient(Gate(ends, fake_server()), base_url="http://127.0.0.1:8000").get("/v1/models")
    assert (told.status_code, told.json()["error"]["code"]) == (503, "server_ends")
