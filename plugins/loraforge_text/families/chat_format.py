# SPDX-License-Identifier: Apache-2.0
"""How a base, or an exported adapter on it, is spoken with: for servers. Without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loraforge import DataError, ModelError, read_text, speaker

from ..base_files import BaseFiles, locate, read_base, read_files, require_trained_file
from ..templates.prompting import Prompting
from ..templates.stops import opening, stop_ids
from . import limits
from .encoding import tokenizer_of

say = speaker(__name__)


class CausalChatFormat:
    """See ``loraforge.ChatFormat``.

    Args:
        base: the base's files.
        own: the files whose template and tokens are spoken with: an export's, or the base's.
        stops: the tokens that end an answer.
    """

    def __init__(self, base: BaseFiles, own: BaseFiles, stops: Sequence[int]) -> None:
        tokenizer = tokenizer_of(base.folder)
        if tokenizer is None:
            raise ModelError(say("base_model {folder} has no tokenizer.json, which a server needs.", folder=base.folder))
        text = limits.text_config(base.config)
        self._tokenizer, self._base, self._own, self._text = tokenizer, base, own, text
        self._opening, self._special = opening(base), base.special
        self.stop_ids, self.longest, self.plain = tuple(stops), limits.positions(text), not self._opening
        named = {number: token for token, number in base.added.items()}
        self.stop_texts = tuple(named[number] for number in stops if number in named)
        self._prompting = {tools: self._made(tools) for tools in (False, True)}

    @property
    def speaks(self) -> bool:
        """Whether there is a chat template."""
        return bool(self._own.chat_template)

    def _made(self, tools: bool) -> Prompting:
        made = Prompting(jinja=self._own.template_for(tools=tools), tokens=dict(self._own.tokens), stops=self._own.stops)
        # An export's template takes texts as they come; a base's own may want them in parts.
        return made.in_parts() if self._own is self._base and made.jinja else made

    def prompt(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        prompting = self._prompting[bool(tools)]
        if not prompting.jinja:
            raise DataError(say("this model has no chat template. Ask it at /v1/completions, with the whole text."))
        try:
            text = prompting.text([_with_objects(message) for message in messages], ask=True, tools=tools)
        except DataError:
            if not any(message.get("tool_calls") for message in messages):
                raise
            text = prompting.text(messages, ask=True, tools=tools)
        return self.encode(text)

    def encode(self, text: str) -> list[int]:
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise DataError(say("the question holds bytes that are no text here. Save or type it as UTF-8."))
        return self.checked(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def checked(self, ids: Sequence[int]) -> list[int]:
        rows = self._text.get("vocab_size")
        if any(one < 0 or (isinstance(rows, int) and one >= rows) for one in ids):
            raise DataError(say("the prompt has tokens that this model does not know."))
        return list(ids)

    def decoder(self) -> Decoding:
        return Decoding(self._tokenizer, self._opening, self._special)


class Decoding:
    """The text of an answer as its tokens come: the same as that of all of them at once.

    Args:
        opening: what the model writes before an answer where its template has channels; then all is told at the end.
        special: the tokens that are no text.
    """

    def __init__(self, tokenizer: Any, opening: str, special: frozenset[str]) -> None:
        from tokenizers.decoders import DecodeStream

        self._tokenizer, self._opening, self._special = tokenizer, opening, special
        self._stream = DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._told = 0

    def step(self, token: int) -> str:
        self._ids.append(token)
        if self._opening:
            return ""
        text = str(self._stream.step(self._tokenizer, token) or "")
        self._told += len(text)
        return text

    def rest(self) -> str:
        whole = str(self._tokenizer.decode(self._ids, skip_special_tokens=not self._opening))
        if not self._opening:
            return whole[self._told :]
        if self._opening not in whole:
            return str(self._tokenizer.decode(self._ids, skip_special_tokens=True))
        answer = whole.rpartition(self._opening)[2]
        for token in self._special:
            answer = answer.replace(token, "")
        return answer


def chat_format(base_model: str, revision: str | None, adapter: Path | None) -> CausalChatFormat:
    """The base's own chat, or that of an adapter's folder with what it exported beside the weights.

    Raises:
        ModelError: if files are missing or damaged.
    """
    folder = locate(base_model, revision)
    base = read_base(folder)
    if adapter is None:
        return CausalChatFormat(base, base, stop_ids(base))
    require_trained_file(base_model, folder, _facts(adapter))
    own = read_files(adapter)  # not kept: the folder may hold another adapter tomorrow
    if not own.chat_template:
        raise ModelError(
            say(
                "{folder} has no chat_template.jinja, so nobody knows how it is asked. Serve the run, or write the export again: "
                "`loraforge export RUN --to peft`.",
                folder=adapter,
            )
        )
    return CausalChatFormat(base, own, _stops(adapter, base, own))


def _facts(adapter: Path) -> Mapping[str, Any]:
    """What is known of the training; nothing of an adapter that others trained."""
    file = adapter / "loraforge.json"
    try:
        found = json.loads(read_text(file)).get("facts") if file.is_file() else None
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(say("{path} cannot be read: {error}.", path=file, error=error)) from None
    return found if isinstance(found, Mapping) else {}


def _stops(adapter: Path, base: BaseFiles, own: BaseFiles) -> Sequence[int]:
    """The exported stops; the base's where somebody else wrote the folder."""
    file = adapter / "generation_config.json"
    try:
        named = json.loads(read_text(file)).get("eos_token_id") if file.is_file() else None
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(say("{path} cannot be read: {error}.", path=file, error=error)) from None
    ids = named if isinstance(named, list) else [named]
    found = [one for one in ids if isinstance(one, int) and not isinstance(one, bool)]
    return found or stop_ids(base, own.stops[0] if own.stops else "")


def _with_objects(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments of calls as objects, as most templates want them; OpenAI sends them as text."""
    calls = message.get("tool_calls")
    try:
        made = [{**one, "function": {**one["function"], "arguments": json.loads(one["function"]["arguments"])}} for one in calls or ()]
    except (KeyError, TypeError, ValueError, RecursionError):
        return message
    return {**message, "tool_calls": made} if made else message
