# SPDX-License-Identifier: Apache-2.0
"""vLLM as the backend: one that runs already, or one that is started with ``--enable-lora``. Adapters are added while it runs.

The prompts are made here and sent as token ids, so that each adapter has its own chat template, of which vLLM knows one.
Source: docs.vllm.ai, features/lora and serving/openai_compatible_server, of vLLM 0.33.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import ConfigError, MachineError, ModelError, read_text, speaker, why

from . import Job, Piece
from .remote import events

if TYPE_CHECKING:
    from ..versions import Version

say = speaker(__name__)

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what --max-lora-rank takes
_START = 1800.0  # seconds for a large base from a slow disk


class VllmBackend:
    """See ``Backend``.

    Args:
        url: of a vLLM that runs, started with VLLM_ALLOW_RUNTIME_LORA_UPDATING=true; its key is in VLLM_API_KEY.
        process: the one that was started here; ended with this.
    """

    name = "vllm"
    longest: int | None = None

    def __init__(self, url: str, key: str | None = None, process: subprocess.Popen[bytes] | None = None) -> None:
        self.url, self._key, self._process = url.rstrip("/").removesuffix("/v1"), key, process
        self._folder = tempfile.TemporaryDirectory(prefix="loraforge-vllm-")
        try:
            self._base = self._base_name()
        except BaseException:
            self.close()
            raise

    def _base_name(self) -> str:
        """What this vLLM calls its base, which is listed first, without a parent."""
        models = self._ask("GET", "/v1/models").get("data") or []
        found = [model for model in models if not model.get("parent")]
        if not found:
            raise ModelError(say("the vLLM at {url} lists no base.", url=self.url))
        self.longest = found[0].get("max_model_len")
        return str(found[0]["id"])

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """
        Raises:
            ModelError: with what vLLM says against it, or if it does not answer.
        """
        import httpx

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        try:
            answer = httpx.request(method, self.url + path, json=body, headers=headers, timeout=300, trust_env=False)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            text = why(error)
            raise ModelError(say("no vLLM answers at {url}: {error}.", url=self.url, error=text)) from None
        if answer.status_code == 404 and path.endswith("_lora_adapter"):
            raise ModelError(
                say(
                    "the vLLM at {url} takes no adapters while it runs. Start it with --enable-lora, and with "
                    "VLLM_ALLOW_RUNTIME_LORA_UPDATING=true in its environment.",
                    url=self.url,
                )
            )
        if answer.status_code != 200:
            raise ModelError(say("the vLLM at {url} answers {code}: {text}", url=self.url, code=answer.status_code, text=answer.text[:500]))
        with contextlib.suppress(ValueError):
            told = answer.json()
            return told if isinstance(told, dict) else {}
        return {}

    def add(self, version: Version) -> None:
        assert version.chat is not None
        if not version.chat.plain:
            raise ModelError(say("{name}: the template of this base has channels, which only the backend torch reads.", name=version.name))
        if _config(version.folder).get("use_dora"):
            raise ModelError(say("{name} was trained with DoRA, which vLLM does not read. Use --backend torch.", name=version.name))
        kind = str(_config(version.folder).get("peft_type", "LORA"))
        if kind != "LORA":
            raise ModelError(
                say("{name} is a {kind}, which vLLM does not read. Use --backend torch.", name=version.name, kind=kind.lower())
            )
        # vLLM may read the files again after it has put an adapter aside: they must be those of this version then too.
        kept = Path(self._folder.name) / version.key
        kept.mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copyfile(version.folder / name, kept / name)
        self._ask("POST", "/v1/load_lora_adapter", {"lora_name": version.key, "lora_path": str(kept)})

    def remove(self, version: Version) -> None:
        with contextlib.suppress(ModelError):  # it may have ended, or lost the adapter by being started anew
            self._ask("POST", "/v1/unload_lora_adapter", {"lora_name": version.key})
        shutil.rmtree(Path(self._folder.name) / version.key, ignore_errors=True)

    async def answer(self, job: Job) -> AsyncGenerator[Piece, None]:
        body = {
            "model": job.version.key if job.version else self._base,
            "prompt": list(job.prompt),
            "max_tokens": job.max_tokens,
            "temperature": job.temperature,
            "top_p": job.top_p,
            "seed": job.seed,
            "stop_token_ids": list(job.chat.stop_ids),
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
        told, finish = 0, None
        async with contextlib.aclosing(events(f"{self.url}/v1/completions", body, self._key)) as stream:
            async for event in stream:
                usage = event.get("usage") or {}
                made = int(usage.get("completion_tokens") or told)
                choices = event.get("choices") or [{}]
                finish = choices[0].get("finish_reason") or finish
                if made > told or choices[0].get("text"):
                    yield Piece(str(choices[0].get("text") or ""), max(0, made - told))
                    told = max(told, made)
        if finish is None:
            raise MachineError(say("the model behind this server ({url}) fails: {text}", url=self.url, text=say("the answer broke off")))
        yield Piece("", 0, "length" if finish == "length" else "stop")

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._folder.cleanup()


def _config(folder: Path) -> dict[str, Any]:
    try:
        told = json.loads(read_text(folder / "adapter_config.json"))
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def line(base: str, port: int, key: str, folders: Sequence[Path]) -> list[str]:
    """The command that starts vLLM for adapters of these folders, and room for as large ones later."""
    told = [_config(folder) for folder in folders]
    ranks = [rank for one in told for rank in (one.get("r"), *(one.get("rank_pattern") or {}).values()) if isinstance(rank, int)]
    largest = next((rank for rank in RANKS if rank >= max([16, *ranks])), RANKS[-1])
    return [
        *("vllm", "serve", base, "--host", "127.0.0.1", "--port", str(port), "--api-key", key, "--served-model-name", "base"),
        *("--enable-lora", "--max-lora-rank", str(largest), "--max-loras", str(max(4, len(folders)))),
        # The base's own sampling defaults would answer otherwise than what is asked for here.
        *("--generation-config", "vllm"),
    ]


def start(base: str, folders: Sequence[Path]) -> VllmBackend:
    """Starts vLLM on a free port of this machine and waits until it answers.

    Raises:
        ConfigError: if there is no vLLM.
        ModelError: with the end of what it said, if it does not come up.
    """
    import httpx

    program = shutil.which("vllm")
    if program is None:
        raise ConfigError(
            say("vllm is not installed here. Install it (pip install vllm; it needs a GPU), or name one that runs: --vllm-url.")
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key = secrets.token_urlsafe(24)
    configured = next((str(name) for folder in folders if (name := _config(folder).get("base_model_name_or_path"))), base)
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [program, *line(configured, port, key, folders)[1:]],
            stdout=said,
            stderr=said,
            env={**os.environ, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "true"},
        )
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + _START
        try:
            while process.poll() is None and time.monotonic() < end:
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{url}/health", timeout=5, trust_env=False).status_code == 200:
                        return VllmBackend(url, key, process)
                time.sleep(0.5)
        except BaseException:  # Ctrl-C too: what was started here ends with it
            process.kill()
            raise
        process.kill()
        process.wait()
        said.seek(0, os.SEEK_END)
        said.seek(max(0, said.tell() - 600))
        raise ModelError(say("vLLM did not start: {text}", text=said.read().decode("utf-8", "replace").strip()))
