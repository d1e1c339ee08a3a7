# SPDX-License-Identifier: Apache-2.0
"""The servers that ``loraforge golden`` knows, by what each answers: vLLM, llama-server, LoRAForge's own, Ollama, and all others of
OpenAI's interface, such as ``transformers serve``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loraforge import RunError, speaker

from .server_client import Refused, ServerClient

say = speaker(__name__)

LLAMA, VLLM, OWN, OLLAMA, OTHER = "llama-server", "vLLM", "LoRAForge", "Ollama", "OpenAI"
_QUESTION = {"messages": [{"role": "user", "content": "x"}]}


@dataclass(frozen=True)
class Reply:
    """An answer that a server gave.

    Attributes:
        text: without white space around it.
        counted: of how many tokens the server says that the prompt was; None if it does not say.
    """

    text: str
    counted: int | None


class ModelServer:
    """A running server, and the model on it that is meant.

    Args:
        wanted: the model's name, if one was given.
        likely: the name that the run suggests, taken if the server knows it.

    Raises:
        RunError: if nothing answers, it is no server of models, or the model that is meant is not clear.
    """

    def __init__(self, client: ServerClient, wanted: str | None, likely: str) -> None:
        self._client = client
        self._listed = self._list()
        self.names = [str(one["id"]) for one in self._listed]
        self.kind = self._recognised(wanted)
        self.model = wanted or self._only(likely)
        if wanted and self.names and wanted not in self._known() and self.kind in (OWN, OLLAMA, VLLM, LLAMA):
            raise RunError(self._no_such(wanted))

    @property
    def tells_tokens(self) -> bool:
        """Whether it tells what it makes of a prompt."""
        return self.kind in (LLAMA, VLLM, OWN)

    def tokens(self, prompt: Mapping[str, Any]) -> str | Sequence[int]:
        """What it makes of one golden prompt: token numbers, or the text where that parts already."""
        if self.kind == LLAMA:
            text = str(self._client.post("/apply-template", _asking(prompt)).get("prompt"))
            if text != prompt["text"]:
                return text  # where the text parts says more than where the tokens do
            return _tokens(self._client.post("/tokenize", {"content": text, "add_special": False, "parse_special": True}))
        wanted = {**_asking(prompt), "add_generation_prompt": True, **({"model": self.model} if self.model else {})}
        return _tokens(self._asked("/tokenize", wanted))

    def answer(self, prompt: Mapping[str, Any], most: int) -> Reply:
        """Its likeliest answer to one golden prompt, of at most so many tokens."""
        asked = {**_asking(prompt), "max_tokens": most, "temperature": 0, "seed": 0, "stream": False}
        told = self._asked("/v1/chat/completions", {**asked, **({"model": self.model} if self.model else {})}, answering=True)
        try:
            text = told["choices"][0]["message"]["content"] or ""
            usage = told.get("usage") or {}
            return Reply(str(text).strip(), usage.get("prompt_tokens") if isinstance(usage.get("prompt_tokens"), int) else None)
        except (KeyError, IndexError, TypeError):
            raise RunError(say("the server's answer holds no message: {answer}", answer=json.dumps(told)[:200])) from None

    def seal(self) -> str | None:
        """The seal of the run whose adapter LoRAForge's own server has under the name; None if it is not known."""
        for one in self._listed:
            told = one.get("loraforge")
            if one["id"] == self.model and isinstance(told, Mapping) and isinstance(told.get("seal"), str):
                return str(told["seal"])
        return None

    def loras(self) -> list[Mapping[str, Any]] | None:
        """The adapters that llama-server has loaded, with the strength that a request gets; None where it does not tell."""
        if self.kind != LLAMA:
            return None
        told = self._client.get("/lora-adapters")
        return [one for one in told if isinstance(one, Mapping)] if isinstance(told, list) else None

    def _list(self) -> list[Mapping[str, Any]]:
        answer = self._client.get("/v1/models")
        told = answer.get("data") if isinstance(answer, Mapping) else None
        return [one for one in told if isinstance(one, Mapping) and isinstance(one.get("id"), str)] if isinstance(told, list) else []

    def _recognised(self, wanted: str | None) -> str:
        if any(one.get("owned_by") == "loraforge" or "loraforge" in one for one in self._listed):
            return OWN
        version = self._client.get("/api/version")
        if isinstance(version, Mapping) and isinstance(version.get("version"), str):
            return OLLAMA
        if isinstance(self._client.post("/apply-template", _QUESTION, missing=True).get("prompt"), str):
            return LLAMA
        try:
            model = {"model": name} if (name := wanted or next(iter(self.names), None)) else {}
            if self._client.post("/tokenize", {**_QUESTION, "add_generation_prompt": True, **model}, missing=True):
                return VLLM
        except Refused:  # it knows the address and not the model, say
            return VLLM
        if self._listed or self._client.get("/health"):
            return OTHER
        raise RunError(say("{url} is no server of models that this command knows: it lists none at /v1/models.", url=self._client.root))

    def _known(self) -> list[str]:
        """All spellings of the names: Ollama adds :latest to those that have no tag."""
        return [*self.names, *(name.removesuffix(":latest") for name in self.names)]

    def _only(self, likely: str) -> str | None:
        """The model where none was named: the run's, or the only one that is no base."""
        if likely in self._known():
            return likely
        models = [name for name in self.names if self.kind != OWN or name != "base"]
        if len(models) > 1:
            raise RunError(say("the server has several models; which is the adapter? --model {names}", names=" | ".join(models[:20])))
        return models[0] if models else None

    def _no_such(self, name: str) -> str:
        there = ", ".join(self.names[:20])
        if self.kind == LLAMA:
            return say(
                "the server has no model '{name}', it has: {there}. llama-server answers to any name with what it has loaded, so a wrong "
                "name would not show.",
                name=name,
                there=there,
            )
        return say("the server has no model '{name}'. It has: {there}.", name=name, there=there)

    def _asked(self, path: str, value: Mapping[str, Any], answering: bool = False) -> dict[str, Any]:
        try:
            return self._client.post(path, value, answering=answering)
        except Refused as error:
            if error.code in (400, 404) and self.model and self.model not in self._known() and self.names:
                raise RunError(self._no_such(self.model)) from None
            raise


def _asking(prompt: Mapping[str, Any]) -> dict[str, Any]:
    return {key: prompt[key] for key in ("messages", "tools") if prompt.get(key)}


def _tokens(answer: Mapping[str, Any]) -> list[int]:
    tokens = answer.get("tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
        raise RunError(say("the server's answer holds no token numbers: {answer}", answer=json.dumps(answer)[:200]))
    return tokens
