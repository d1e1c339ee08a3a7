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
