# SPDX-License-Identifier: Apache-2.0
"""llama.cpp as the backend, in the package xllamacpp: for laptops. All that is known of that package is in here; its interface changes."""

from __future__ import annotations

import contextlib
import importlib.util
import secrets
import tempfile
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import ConfigError, ModelError, open_file, require_file, speaker

from . import Job, Piece
from .remote import events

if TYPE_CHECKING:
    from ..versions import Version

say = speaker(__name__)

_CONTEXT = 4096  # tokens of one conversation, where the base can read more: each place has its own


class _Running:
    """llama.cpp with some adapters: which it has is settled when it starts."""

    def __init__(self, base: Path, keys: Sequence[str], files: Sequence[Path], parallel: int, context: int) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(base)
        params.hostnames, params.port = ["127.0.0.1"], 0
        params.n_parallel, params.n_ctx = parallel, parallel * context  # it divides one by the other
        params.warmup, params.verbosity, params.fit_params = False, -1, False
        self.token = secrets.token_urlsafe(24)
        params.api_keys = [self.token]  # other programs of this machine ask us, who say 404 to names that are not there
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(file), 0.0) for file in files]
        self.keys = list(keys)
        try:
            self._server = xllamacpp.Server(params)
        except (RuntimeError, ValueError) as error:
            raise ModelError(say("llama.cpp cannot load {file} with these adapters: {error}", file=base, error=error)) from None
        self.url = str(self._server.listening_address).rstrip("/")

    def strengths(self, key: str | None) -> list[dict[str, Any]]:
        """Every adapter is named: one that is not stays as it was."""
        return [{"id": number, "scale": 1.0 if known == key else 0.0} for number, known in enumerate(self.keys)]


class GgufBackend:
    """See ``Backend``. An adapter that comes or goes starts llama.cpp anew beside the one that answers, which ends with its last answer.

    Args:
        base: the base as a GGUF file.
        longest: what the base reads; None: not known.
        convert: writes the adapter of a folder as GGUF into an empty folder, and returns the file.
        first: the versions to begin with, so that it starts once.
    """

    name = "gguf"

    def __init__(
        self, base: Path, longest: int | None, convert: Callable[[Path, Path], Path], first: Sequence[Version] = (), parallel: int = 4
    ) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise ConfigError(say("--backend gguf needs llama.cpp as a Python package: pip install 'loraforge[gguf]'"))
        try:
            require_file(base)
            with open_file(base) as file:
                begins = file.read(4)
        except OSError as error:
            raise ConfigError(say("--gguf {file} cannot be read: {error}.", file=base, error=error)) from None
        if begins != b"GGUF":
            raise ConfigError(say("--gguf {file} is no GGUF file: it begins otherwise.", file=base))
        self._base, self._convert, self._parallel = base, convert, parallel
        self.longest: int | None = min(longest or _CONTEXT, _CONTEXT)
        self._folder = tempfile.TemporaryDirectory(prefix="loraforge-gguf-")
        self._files: dict[str, Path] = {}
        self._lock = threading.Lock()
        try:
            for version in first:
                self._files[version.key] = self._converted(version)
            self._running = self._started(self._files)
        except BaseException:
            self._folder.cleanup()
            raise

    def _converted(self, version: Version) -> Path:
        assert version.chat is not None
        if not version.chat.plain:
            raise ModelError(say("{name}: the template of this base has channels, which only the backend torch reads.", name=version.name))
        destination = Path(self._folder.name) / version.key
        destination.mkdir()
        return self._convert(version.folder, destination)

    def _started(self, files: dict[str, Path]) -> _Running:
        assert self.longest is not None
        return _Running(self._base, list(files), list(files.values()), self._parallel, self.longest)

    def add(self, version: Version) -> None:
        with self._lock:
            if version.key in self._files:
                return
            files = {**self._files, version.key: self._converted(version)}
            self._running, self._files = self._started(files), files

    def remove(self, version: Version) -> None:
        """Its memory is given back when llama.cpp starts the next time; until then it answers nothing."""
        with self._lock:
            self._files.pop(version.key, None)

    async def answer(self, job: Job) -> AsyncGenerator[Piece, None]:
        running = self._running  # kept to the end of the answer
        body = {
            "prompt": list(job.prompt),
            "n_predict": job.max_tokens,
            "temperature": job.temperature,
            "top_p": job.top_p,
            "samplers": ["temperature", "top_p"],
            "seed": job.seed,
            "stream": True,
            "cache_prompt": False,  # an answer is the same whatever was asked before
            "lora": running.strengths(job.version.key if job.version else None),
            # The trained stop need not be one that the file names: it is shown, and then it stops.
            "preserved_tokens": list(job.chat.stop_texts),
            "stop": list(job.chat.stop_texts),
        }
        made = 0
        async with contextlib.aclosing(events(f"{running.url}/completion", body, running.token)) as told:
            async for event in told:
                if not event.get("stop"):
                    made += 1
                    yield Piece(str(event.get("content") or ""), 1)
                    continue
                rest = int(event.get("tokens_predicted") or made) - made
                yield Piece(str(event.get("content") or ""), max(0, rest), "length" if event.get("stop_type") == "limit" else "stop")
                return

    def close(self) -> None:
        del self._running
        self._folder.cleanup()
