# SPDX-License-Identifier: Apache-2.0
"""The same answers from llama.cpp as from torch."""

from __future__ import annotations

import asyncio

import pytest
from builders.llama_cpp import write_base
from loraforge_serve.catalogue.source import Source
from loraforge_serve.cli.choosing import make_backend
from loraforge_serve.library import Library

from loraforge import ConfigError

from .test_batching import QUESTIONS, job, whole


@pytest.fixture(scope="module")
def gguf(exports, base, served, tmp_path_factory):
    """The three adapters without DoRA, which llama.cpp has not, on llama.cpp: a server that ``job`` takes."""
    import dataclasses

    from loraforge.plugin_api.host import PluginHost

    file = write_base(base, tmp_path_factory.mktemp("gguf") / "base.gguf")
    source = Source(PluginHost(blocked=()))
    first = [source.read(exports[name]) for name in ("legal", "medical")]
    backend = make_backend(source, {"backend": "auto", "gguf": file, "vllm_url": None}, first)
    library = Library(source.base_version(), backend)
    for version in [*first, source.read(exports["other"])]:
        library.put(version)
    yield dataclasses.replace(served, library=library, source=source)
    backend.close()


def test_llama_cpp_answers_as_torch_does(served, gguf):
    names = ("base", "legal", "medical", "other")
    wanted = {(name, question): {"max_tokens": 16} for name in names for question in QUESTIONS[:3]}

    async def ask(server):
        return await asyncio.gather(*(whole(server, job(server, *key, **settings)) for key, settings in wanted.items()))

    found, expected = asyncio.run(ask(gguf)), asyncio.run(ask(served))
    assert [job(gguf, *key).prompt for key in wanted] == [job(served, *key).prompt for key in wanted]
    # Where the longest answer ends within a character, llama.cpp tells nothing of it.
    cut = [[(text.rstrip("\ufffd"), *rest) for text, *rest in answers] for answers in (found, expected)]
    assert dict(zip(wanted, cut[0], strict=True)) == dict(zip(wanted, cut[1], strict=True))


def test_an_answer_that_nobody_waits_for_ends(gguf):
    async def leave():
        answer = gguf.library.backend.answer(job(gguf, "legal", QUESTIONS[0], max_tokens=200))
        await answer.__anext__()
        await answer.aclose()

    asyncio.run(leave())


def test_what_is_missing_is_said(gguf, served):
    with pytest.raises(ConfigError, match="--gguf base.gguf"):
        make_backend(served.source, {"backend": "gguf", "gguf": None, "vllm_url": None})
    with pytest.raises(ConfigError, match="means nothing to the backend torch"):
        make_backend(served.source, {"backend": "torch", "gguf": "x", "vllm_url": None})
