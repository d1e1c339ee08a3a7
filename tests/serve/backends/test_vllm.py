# SPDX-License-Identifier: Apache-2.0
"""vLLM's interface, as its documentation has it, in a small server of our own: there is no vLLM without a GPU."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
from builders.serving import listening_app, until
from fastapi import FastAPI
from loraforge_serve.backends import Job
from loraforge_serve.backends.vllm import VllmBackend, line, start
from loraforge_serve.catalogue.source import Source
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse

from loraforge import ModelError


def make_vllm(seen: dict) -> FastAPI:
    """Answers ``<model>:<prompt ids>``, two letters at a time; knows the adapters that were loaded."""
    app = FastAPI()
    seen |= {"loaded": {}, "asked": [], "left": 0}

    @app.middleware("http")
    async def guarded(request: Request, go_on):
        if request.url.path.startswith("/v1") and request.headers.get("authorization") != "Bearer secret":
            return JSONResponse({"error": "Unauthorized"}, 401)
        return await go_on(request)

    @app.get("/v1/models")
    async def models():
        base = {"id": "org/base", "parent": None, "max_model_len": 512}
        return {"data": [base, *({"id": name, "parent": "org/base"} for name in seen["loaded"])]}

    @app.post("/v1/load_lora_adapter")
    async def load(request: Request):
        asked = await request.json()
        folder = Path(asked["lora_path"])
        if not (folder / "adapter_model.safetensors").is_file() or json.loads((folder / "adapter_config.json").read_text())["r"] > 16:
            return JSONResponse({"object": "error", "message": "LoRA rank 32 is greater than max_lora_rank 16."}, 400)
        seen["loaded"][asked["lora_name"]] = folder
        return PlainTextResponse(f"Success: LoRA adapter '{asked['lora_name']}' added successfully.")

    @app.post("/v1/unload_lora_adapter")
    async def unload(request: Request):
        del seen["loaded"][(await request.json())["lora_name"]]
        return PlainTextResponse("Success")

    @app.post("/v1/completions")
    async def completions(request: Request):
        asked = await request.json()
        seen["asked"].append(asked)
        text = f"{asked['model']}:{asked['prompt']}"[: 2 * asked["max_tokens"]]

        async def stream():
            try:
                for number, place in enumerate(range(0, len(text), 2), 1):
                    await asyncio.sleep(0.01)
                    choice = {"index": 0, "text": text[place : place + 2], "finish_reason": None}
                    yield f"data: {json.dumps({'choices': [choice], 'usage': {'completion_tokens': number}})}\n\n"
                last = {"index": 0, "text": "", "finish_reason": "length"}
                yield f"data: {json.dumps({'choices': [last], 'usage': {'completion_tokens': number}})}\n\n"
                yield f"data: {json.dumps({'choices': [], 'usage': {'completion_tokens': number}})}\n\ndata: [DONE]\n\n"
            except asyncio.CancelledError:
                seen["left"] += 1
                raise

        return StreamingResponse(stream(), media_type="text/event-stream")

    return app


@pytest.fixture
def vllm():
    seen: dict = {}
    with listening_app(make_vllm(seen)) as url:
        backend = VllmBackend(url, "secret")
        yield backend, seen
        backend.close()


def test_adapters_are_added_and_asked_by_token_ids(vllm, exports, host):
    backend, seen = vllm
    version = Source(host).read(exports["other"])
    backend.add(version)
    assert list(seen["loaded"]) == [version.key]
    assert seen["loaded"][version.key] != exports["other"], "a copy: the folder may be exchanged while it is served"
    job = Job((5, 6, 7), version, version.chat, 8, seed=3)

    async def whole(one):
        return [piece async for piece in backend.answer(one)]

    pieces = asyncio.run(whole(job))
    assert "".join(piece.text for piece in pieces) == f"{version.key}:[5, 6, 7]"[:16]
    assert (sum(piece.tokens for piece in pieces), pieces[-1].finish) == (8, "length")
    sent = seen["asked"][0]
    assert (sent["stop_token_ids"], sent["seed"], sent["temperature"], sent["max_tokens"]) == ([2, 0], 3, 0.0, 8)
    asyncio.run(whole(Job((1,), None, version.chat, 2)))
    assert seen["asked"][1]["model"] == "org/base"
    backend.remove(version)
    assert not seen["loaded"]
    assert backend.longest == 512


def test_a_client_that_leaves_is_told_to_vllm(vllm, exports, host):
    backend, seen = vllm
    version = Source(host).read(exports["legal"])
    backend.add(version)

    async def leave():
        answer = backend.answer(Job(tuple(range(300)), version, version.chat, 400))
        await answer.__anext__()
        await answer.aclose()

    asyncio.run(leave())
    assert until(lambda: seen["left"] == 1)


def test_what_vllm_refuses_is_said(vllm, exports, host):
    backend, _ = vllm
    with pytest.raises(ModelError, match="DoRA"):
        backend.add(Source(host).read(exports["dora"]))
    with pytest.raises(ModelError, match="no vLLM answers"):
        VllmBackend("http://127.0.0.1:9")
    with pytest.raises(ModelError, match="401"):
        VllmBackend(backend.url, "wrong")


def test_the_command_that_starts_vllm(exports, tmp_path, monkeypatch):
    told = line("org/base", 8001, "key", [exports["legal"]])
    assert told[:3] == ["vllm", "serve", "org/base"]
    assert told[told.index("--max-lora-rank") + 1] == "16"
    assert "--enable-lora" in told
    if os.name == "nt":
        return
    program = tmp_path / "vllm"
    program.write_text(
        f"#!{sys.executable}\nimport os, sys\nprint('no GPU;', os.environ['VLLM_ALLOW_RUNTIME_LORA_UPDATING'])\nsys.exit(1)\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelError, match="did not start: no GPU; true"):
        start("org/base", [exports["legal"]])
