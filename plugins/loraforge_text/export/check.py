# SPDX-License-Identifier: Apache-2.0
"""An exported folder, read back by the library that will read it, before it is called done."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from loraforge import Adapter, ExportError, LoraForgeError, first_few, prompt_of, speaker

from ..data.conversations import Remarks, read_messages
from ..families.encoding import tokenizer_of
from ..records import Conversation, Message
from ..templates import golden_prompts
from ..templates.prompting import Prompting
from .folder import Served, read_json, use_tokenizer_json

say = speaker(__name__)


def check_folder(of: Served, adapter: Adapter, folder: Path) -> None:
    """Whether transformers makes of an exported folder what was trained: prompts to the last token, and the stop.

    Raises:
        ExportError: saying what differs.
    """
    problems = _problems(of, adapter, folder)
    if problems and use_tokenizer_json(folder):
        problems = _problems(of, adapter, folder)
    if problems:
        raise ExportError(
            [say("transformers would read this export otherwise than it was trained: {problem}", problem=p) for p in problems]
        )


def _problems(of: Served, adapter: Adapter, folder: Path) -> Sequence[str]:
    tokenizer = _tokenizer(folder)
    return [*differing_prompts(of, adapter, tokenizer), *_stops(of, tokenizer, folder)]


def differing_prompts(of: Served, adapter: Adapter, tokenizer: Any) -> list[str]:
    """What somebody else's tokenizer and template make otherwise of the golden prompts and of made-up ones; nothing if all are the same.

    Args:
        tokenizer: with transformers' ``apply_chat_template``.
    """
    golden = _reachable(of.prompting, adapter.files.get(golden_prompts.NAME))
    documents = [document for document in (golden, _probes(of)) if document is not None]
    return [line for document in documents for line in _prompts(document, tokenizer)]


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a tokenizer's files raise nearly anything
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ExportError(say("transformers cannot read the exported tokenizer: {error}", error=reason)) from None


def _probes(of: Served) -> bytes | None:
    """Golden prompts of no data: the data's own may hold none that messages alone can ask for."""
    tokenizer = tokenizer_of(of.folder)
    return None if tokenizer is None else golden_prompts.neutral_prompts(tokenizer, of.prompting)


def _prompts(document: str | bytes, tokenizer: Any) -> Iterable[str]:
    """What differs between golden prompts and what the exported tokenizer makes of their messages."""

    def made(prompt: Mapping[str, Any]) -> Sequence[int]:
        first: Sequence[int] | None = None
        for messages in _as_servers_give(prompt["messages"]):
            with contextlib.suppress(Exception) if first is not None else contextlib.nullcontext():
                ids = tokenizer.apply_chat_template(
                    messages, tools=prompt.get("tools"), add_generation_prompt=True, tokenize=True, return_dict=False
                )
                ids = [int(token) for token in ids]
                if ids == prompt["ids"]:
                    return ids
                first = first or ids
        return first or []

    try:
        return [difference.message for difference in golden_prompts.check_golden(document, made)]
    except LoraForgeError:
        raise
    except Exception as error:  # a template is a program, and can fail as one
        return [say("the chat template refuses a conversation that was trained: {error}", error=str(error).split("\n")[0])]


def _reachable(prompting: Prompting, document: bytes | None) -> str | None:
    """The golden prompts that a server can be asked for: those that the run's own template makes of the messages alone.

    A row with a template of its own, or with material that an inline template puts elsewhere, is no such one.
    """
    if document is None or not (prompting.jinja or prompting.inline):
        return None
    try:
        known = json.loads(document)
        known["prompts"] = [prompt for prompt in known["prompts"] if _asked(prompting, prompt) == prompt["text"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return document.decode("utf-8", "replace")  # check_golden says what is wrong with it
    return json.dumps(known)


def _as_servers_give(messages: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Mapping[str, Any]]]:
    """The messages as a server may hand them to the template: the arguments of calls as objects, as most do, or as text."""
    yield [_with_objects(message) for message in messages]
    if any(message.get("tool_calls") for message in messages):
        yield messages


def _with_objects(message: Mapping[str, Any]) -> Mapping[str, Any]:
    calls = [
        {**call, "function": {**call["function"], "arguments": json.loads(call["function"]["arguments"])}}
        for call in message.get("tool_calls", ())
    ]
    return {**message, "tool_calls": calls} if calls else message


def _asked(prompting: Prompting, prompt: Mapping[str, Any]) -> str | None:
    """The text that the run's own template makes of a golden prompt; None where it refuses it."""
    problems: list[str] = []
    said = read_messages(prompt["messages"], problems, Remarks(), "")
    system = said.pop(0).content if said and said[0].role == "system" else None
    # With an answer, so that the prompt is what stands before the last one and not before an earlier one.
    said.append(Message("assistant", "answer"))
    tools = json.dumps(prompt["tools"], ensure_ascii=False) if prompt.get("tools") else ""
    record = Conversation(said[-2].content if len(said) > 1 else "", "answer", system=system, messages=tuple(said), tools=tools, where="")
    try:
        return None if problems else prompt_of(prompting.render(record))
    except LoraForgeError:
        return None


def _stops(of: Served, tokenizer: Any, folder: Path) -> Iterable[str]:
    """Where an answer would not end at the stop that was trained."""
    if not of.stop:
        return
    from transformers import AutoConfig, GenerationConfig

    stop = of.base.added[of.stop]
    encoded = tokenizer(of.stop, add_special_tokens=False).input_ids
    if list(encoded) != [stop]:
        yield say("the stop {stop} becomes the tokens {ids}, and was trained as {id}.", stop=of.stop, ids=list(encoded), id=stop)
    read = {"tokenizer_config.json": tokenizer.eos_token_id}
    generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
    read["generation_config.json"] = generation.eos_token_id
    if (folder / "config.json").is_file():
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        read["config.json"] = config.get_text_config(decoder=True).eos_token_id
    for name, ids in read.items():
        if stop not in (ids if isinstance(ids, list | tuple) else [ids]):
            yield say("{name} ends answers at {ids}; they were trained to end at {stop} ({id}).", name=name, ids=ids, stop=of.stop, id=stop)
    suppressed = [*(generation.suppress_tokens or []), *(generation.begin_suppress_tokens or [])]
    if stop in suppressed or [stop] in (generation.bad_words_ids or []):
        yield say("generation_config.json forbids {stop}, the token that ends an answer.", stop=of.stop)


def check_weights(folder: Path) -> None:
    """Whether the weights of a whole model are all there and all named, by what transformers finds when it loads them.

    Raises:
        ExportError: naming the tensors that are missing or belong to nothing.
    """
    from safetensors import safe_open

    files = sorted(folder.glob("*.safetensors"))
    there: dict[str, str] = {}
    for file in files:
        with safe_open(file, "pt") as opened:
            there |= dict.fromkeys(opened.keys(), file.name)
    index = read_json(folder / "model.safetensors.index.json").get("weight_map") if len(files) > 1 else there
    if index != there:
        odd = sorted({*(index or {})} ^ {*there}) or sorted(name for name in there if (index or {})[name] != there[name])
        raise ExportError(say("model.safetensors.index.json and the weights do not agree about {names}.", names=first_few(odd)))
    _load_without_data(folder)


def _load_without_data(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    try:
        _, found = AutoModelForCausalLM.from_pretrained(
            folder, device_map="meta", output_loading_info=True, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # a model is a program, and can fail as one
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ExportError(say("transformers cannot load the merged model: {error}", error=reason)) from None
    odd = sorted({*found["missing_keys"], *found["unexpected_keys"], *(key for key, *_ in found["mismatched_keys"])})
    if odd:
        raise ExportError(
            say("transformers would not find these tensors in the merged model: {names}.", names=first_few([str(name) for name in odd]))
        )
