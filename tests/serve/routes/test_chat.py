# SPDX-License-Identifier: Apache-2.0
"""The completions, asked with OpenAI's own client."""

from __future__ import annotations

import openai
import pytest
from builders.serving import client_of, fake_server


def asked(text):
    return [{"role": "user", "content": text}]


def test_openai_client_lists_asks_and_streams():
    server = fake_server()
    client = client_of(server)
    assert [model.id for model in client.models.list().data] == ["base", "legal", "medical"]
    whole = client.chat.completions.create(model="legal", messages=asked("hello"))
    assert whole.choices[0].message.content == "legal.1 heard: hello"
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (len("user: hello\n"), len("legal.1 heard: hello"))
    parts = list(client.chat.completions.create(model="base", messages=asked("hello"), stream=True, stream_options={"include_usage": True}))
    assert "".join(part.choices[0].delta.content or "" for part in parts[:-1]) == "base heard: hello"
    assert len(parts) > 10, "the answer comes in pieces"
    assert parts[-2].choices[0].finish_reason == "stop"
    assert parts[-1].usage.completion_tokens == len("base heard: hello")


def test_stop_texts_end_an_answer_before_them():
    client = client_of(fake_server())
    told = client.chat.completions.create(model="base", messages=asked("hello"), stop=["zz", "hel"])
    assert (told.choices[0].message.content, told.choices[0].finish_reason) == ("base heard:", "stop")


def test_unknown_model_is_a_404_that_names_those_that_are_there():
    with pytest.raises(openai.NotFoundError, match="'x'.*base, legal, medical") as caught:
        client_of(fake_server()).chat.completions.create(model="x", messages=asked("hello"))
    assert caught.value.body["code"] == "model_not_found"


def test_what_clients_send_besides_is_named_and_what_cannot_be_done_is_refused():
    client = client_of(fake_server())
    parts = [{"role": "user", "content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]}]
    raw = client.chat.completions.with_raw_response.create(
        model="legal", messages=parts, frequency_penalty=0.5, presence_penalty=0, user="x", max_completion_tokens=7
    )
    assert raw.headers["x-loraforge-unused"] == "frequency_penalty"
    told = raw.parse()
    assert (told.choices[0].message.content, told.choices[0].finish_reason, told.usage.completion_tokens) == ("legal.1", "length", 7)
    assert told.system_fingerprint == f"legal.1-{'ab' * 8}"
    more = {"top_k": 5, "min_p": 0, "chat_template_kwargs": {"x": 1}, "bad\n": 1, "metadata": {"a": "b"}}
    raw = client.chat.completions.with_raw_response.create(model="legal", messages=asked("x"), extra_body=more)
    assert raw.headers["x-loraforge-unused"] == "top_k, chat_template_kwargs"
    for wrong, words in (
        ({"n": 2}, "one answer"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "text only"),
        ({"messages": [{"role": "user", "content": "x" * 300}]}, "at most 200"),
        ({"temperature": -1}, "temperature"),
        ({"messages": []}, "messages"),
    ):
        with pytest.raises(openai.BadRequestError, match=words):
            client.chat.completions.create(**{"model": "legal", "messages": asked("x"), **wrong})


def test_completions_continue_texts_and_token_ids_as_they_are():
    client = client_of(fake_server())
    assert client.completions.create(model="legal", prompt="a: hello").choices[0].text == "legal.1 heard: hello"
    assert client.completions.create(model="base", prompt=[ord(letter) for letter in "a: b"]).choices[0].text == "base heard: b"
    with pytest.raises(openai.BadRequestError, match="one prompt"):
        client.completions.create(model="legal", prompt=["a", "b"])


def test_seeds_reach_the_backend_and_questions_without_one_get_different_ones():
    server = fake_server()
    client = client_of(server)
    for seed in (3, 3, None, None):
        client.chat.completions.create(model="legal", messages=asked("x"), temperature=1, **({"seed": seed} if seed else {}))
    seeds = [job.seed for job in server.library.backend.jobs]
    assert seeds[:2] == [3, 3] and len(set(seeds)) == 3


def test_every_whole_number_is_a_seed_and_the_coldest_answer_is_the_likeliest():
    server = fake_server()
    for seed in (-1, 2**32 - 1, 2**70):
        for temperature in (1.0, 1e-45):
            client_of(server).chat.completions.create(model="legal", messages=asked("x"), seed=seed, temperature=temperature)
    jobs = server.library.backend.jobs
    assert [job.temperature for job in jobs] == [1.0, 0.0] * 3
    assert all(0 <= job.seed < 2**32 - 1 for job in jobs), "llama.cpp would draw anew at 2**32 - 1, and vLLM at -1"
    assert len({job.seed for job in jobs}) == 3
