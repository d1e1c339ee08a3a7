# SPDX-License-Identifier: Apache-2.0
"""What happens while an answer is given: pieces in time, clients that leave, limits. Over a real socket."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import httpx
import pytest
from builders.serving import fake_server, listening, until
from loraforge_serve.server import Limits

HELLO = {"model": "legal", "messages": [{"role": "user", "content": "hello"}]}


def test_pieces_arrive_as_they_are_made_and_a_client_that_leaves_ends_the_work():
    server = fake_server(pause=0.05)
    backend = server.library.backend
    with listening(server) as url, httpx.Client(trust_env=False) as client:
        begun = time.monotonic()
        with client.stream("POST", f"{url}/v1/chat/completions", json={**HELLO, "stream": True}) as answer:
            lines = answer.iter_lines()
            first = json.loads(next(lines).removeprefix("data: "))
            assert time.monotonic() - begun < 0.05 * len("legal.1 heard: hello"), "before the answer is whole"
            assert first["choices"][0]["delta"] == {"role": "assistant", "content": "l"}
        assert until(lambda: backend.left == 1), "the work was ended"
        assert until(lambda: server.admission.inside == 0)
        assert "loraforge_cancelled_total 1.0" in server.metrics.text().decode()
        assert not server.library._asked


def test_a_client_that_leaves_before_a_whole_answer_ends_the_work_too():
    server = fake_server(pause=0.2)
    with listening(server) as url:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/chat/completions", json=HELLO, timeout=0.5, trust_env=False)
        assert until(lambda: server.library.backend.left == 1 and server.admission.inside == 0)


def test_more_than_the_queue_holds_are_told_to_come_again():
    server = fake_server(pause=0.05, limits=Limits(waiting=2))
    with listening(server) as url:

        async def all_at_once():
            async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
                return await asyncio.gather(*(client.post(f"{url}/v1/chat/completions", json=HELLO) for _ in range(5)))

        answers = asyncio.run(all_at_once())
    assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429, 429]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert (refused.json()["error"]["code"], refused.headers["retry-after"]) == ("queue_full", "2")


@pytest.mark.parametrize("stream", [False, True])
def test_the_time_of_an_answer_is_limited(stream):
    server = fake_server(pause=0.1, limits=Limits(seconds=0.35))
    with listening(server) as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json={**HELLO, "stream": stream}, trust_env=False, timeout=30)
        assert until(lambda: server.library.backend.left == 1 and server.admission.inside == 0)
    if stream:  # it had begun: the last event says why it ends
        last = json.loads(answer.text.strip().split("\n\n")[-1].removeprefix("data: "))
        assert (answer.status_code, last["error"]["code"]) == (200, "timeout")
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")


def test_what_fails_in_the_middle_ends_the_stream_and_does_not_hang():
    server = fake_server()

    async def failing(job):
        from loraforge_serve.backends import Piece

        yield Piece("a")
        raise RuntimeError("CUDA out of memory")

    server.library.backend.answer = failing
    with listening(server) as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json={**HELLO, "stream": True}, trust_env=False, timeout=10)
        last = json.loads(answer.text.strip().split("\n\n")[-1].removeprefix("data: "))
        assert last["error"]["code"] == "internal_error"
        assert httpx.post(f"{url}/v1/chat/completions", json=HELLO, trust_env=False, timeout=10).status_code == 500
        assert until(lambda: server.admission.inside == 0)


def test_an_upgrade_and_a_rollback_while_clients_ask():
    """No request fails, and each answer comes from exactly one version."""
    from builders.serving import fake_version

    server = fake_server(pause=0.002, limits=Limits(waiting=500))
    library, backend = server.library, server.library.backend
    answers, ended = [], threading.Event()
    with listening(server) as url:

        def ask():
            with httpx.Client(trust_env=False, timeout=30) as client:
                while not ended.is_set():
                    answers.append(client.post(f"{url}/v1/chat/completions", json=HELLO))

        askers = [threading.Thread(target=ask) for _ in range(6)]
        for asker in askers:
            asker.start()
        for step in (
            lambda: library.put(fake_version("legal", "legal.2")),
            lambda: library.put(fake_version("legal", "legal.3")),
            lambda: library.roll_back("legal"),
        ):
            count = len(answers)
            assert until(lambda count=count: len(answers) > count + 12)
            step()
        count = len(answers)
        assert until(lambda: len(answers) > count + 12)
        ended.set()
        for asker in askers:
            asker.join()
    assert {answer.status_code for answer in answers} == {200}
    said = [(one.json()["choices"][0]["message"]["content"], one.json()["system_fingerprint"]) for one in answers]
    assert {text for text, _ in said} == {f"legal.{number} heard: hello" for number in (1, 2, 3)}
    assert all(text.startswith(fingerprint.split("-")[0]) for text, fingerprint in said)
    assert said[-1][0].startswith("legal.2")
    assert backend.loaded == ["medical.1", "legal.2", "legal.3"], "the first is unloaded, the one before stays for a rollback"
