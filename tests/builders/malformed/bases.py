# SPDX-License-Identifier: Apache-2.0
"""Malformed base models."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from builders.malformed.case import DEEP, Case, sound

_NO_JSON: dict[str, str | bytes] = {
    "empty": "", "truncated": '{"a": ', "a list": "[]", "a number": "7", "binary": b"\xff\xfe\x00\x01", "deep": "[" * DEEP,
    "digits": "9" * 5000, "null": "null",
}  # fmt: skip


_TRAIN = ("train", "text", "config.yaml")


def _base_with(changes: dict[str, Any]) -> Callable[[Path, Path, Path], None]:
    """A project with a copy of the base in which files are exchanged: text, bytes, None (gone), or a function of the JSON."""

    def build(here: Path, base: Path, run: Path) -> None:
        folder = shutil.copytree(base, here / "base")
        for name, value in changes.items():
            file = folder / name
            if value is None:
                file.unlink()
            elif callable(value):
                file.write_text(json.dumps(value(json.loads(file.read_text(encoding="utf-8")))), encoding="utf-8")
            else:
                file.write_bytes(value.encode() if isinstance(value, str) else value)
        sound(here, folder)

    return build


# file -> name -> an entry with a wrong value
ENTRIES: dict[str, dict[str, dict[str, Any]]] = {
    "config.json": {
        "architectures that are a number": {"architectures": 3}, "architectures that are text": {"architectures": "LlamaForCausalLM "},
        "architectures that are an object": {"architectures": {"a": 1}}, "an unknown architecture": {"architectures": ["NopeModel"]},
    },
    "tokenizer.json": {
        "added tokens that are text": {"added_tokens": "x"}, "added tokens that are a number": {"added_tokens": 7},
        "added tokens of numbers": {"added_tokens": [1]}, "an added token without id": {"added_tokens": [{"content": "x"}]},
        "an added token without content": {"added_tokens": [{"id": 1}]}, "an id that is text": {"added_tokens": [{"content": "x", "id": "y"}]},
        "an id that is null": {"added_tokens": [{"content": "x", "id": None}]}, "no model": {"model": None}, "an unknown model": {"model": {"type": "x"}},
    },
}  # fmt: skip


# The base's own chat template.
CHATS: dict[str, str | bytes] = {
    "no Jinja": "{% for %}", "an open block": "{% if x %}", "an unknown tag": "{% nope %}", "an unknown filter": "{{ messages|nope }}",
    "a huge range": "{% for i in range(10**9) %}x{% endfor %}", "a loop without end": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "huge output": "{% for i in range(99999) %}{{ 'x' * 999 }}{% endfor %}", "a huge text": "{{ 'x' * 99999999999999 }}",
    "a huge power": "{{ 10**10**10 }}", "a large text": "{{ 'x' * 30000000 }}", "a huge format": "{{ '%99999999d' % 1 }}",
    "attribute access": "{{ ''.__class__.__mro__ }}", "the class of a message": "{{ messages.__class__.__base__.__subclasses__() }}",
    "globals": "{{ raise_exception.__globals__ }}", "attribute access by a filter": "{{ (''|attr('__class__'))|attr('__mro__') }}",
    "a call of nothing": "{{ nothing() }}", "an attribute of nothing": "{{ nothing.at.all }}", "a division by 0": "{{ 1 / 0 }}",
    "a wrong operation": "{{ 1 + 'a' }}", "an index that is none": "{{ messages[99].content }}", "changing the messages": "{{ messages.append(1) }}",
    "a macro that calls itself": "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "an import": "{% include '/etc/passwd' %}",
    "extends": "{% extends 'x' %}", "its own complaint": "{{ raise_exception('no') }}", "deep brackets": "{{ " + "(" * 3000 + ")" * 3000 + " }}",
    "a template of bytes": b"\xff\xfe\x00", "nothing that is learned": "always the same", "an unhashable key": "{{ {[]: 1} }}",
    "a date that is none": "{{ strftime_now(3) }}", "a wrong filter": "{{ messages|map(attribute=3)|sum }}",
    "the question is missing": "{% for m in messages %}{{ m.role }}{% endfor %}{% if add_generation_prompt %}assistant{% endif %}",
}  # fmt: skip


def _damaged_weights(data: bytes) -> dict[str, bytes]:
    """What can be wrong with a safetensors file."""
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    names = [name for name in header if name != "__metadata__"]

    def remade(change: Callable[[dict[str, Any]], Any]) -> bytes:
        text = json.dumps(change(json.loads(json.dumps(header)))).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + size :]

    def entry(**changes: Any) -> bytes:
        return remade(lambda h: {**h, names[0]: {**h[names[0]], **changes}})

    return {
        "empty": b"", "seven bytes": data[:7], "only a length": data[:8], "half a header": data[: 8 + size // 2], "only a header": data[: 8 + size],
        "truncated": data[:-9], "more at the end": data + b"x" * 99, "a length that lies": struct.pack("<Q", 2**60) + data[8:],
        "a length of 0": struct.pack("<Q", 0) + data[8:], "a header that is no JSON": data[:8] + b"x" * size + data[8 + size :],
        "a header that is a list": remade(lambda h: []), "a header that is deep": struct.pack("<Q", DEEP) + b"[" * DEEP,
        "a header of binary": data[:8] + b"\xff" * size + data[8 + size :], "overlapping tensors": entry(data_offsets=[0, 10**6]),
        "offsets below 0": entry(data_offsets=[-5, 5]), "offsets the wrong way round": entry(data_offsets=[64, 0]), "offsets that are text": entry(data_offsets="x"),
        "an unknown kind": entry(dtype="Z99"), "another kind": entry(dtype="F64"), "a shape of 10^18": entry(shape=[10**18]), "a shape below 0": entry(shape=[-1]),
        "a shape that overflows": entry(shape=[2**33, 2**33, 2**33]), "a pickle": b"\x80\x04\x95" + bytes(200), "a web page": b"<html>404</html>" * 20,
    }  # fmt: skip


def _base_cases() -> Iterator[Case]:
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        for name, written in _NO_JSON.items():
            if not (file == "tokenizer_config.json" and name in ("a list", "a number", "null")):  # the same as none
                yield Case("base", f"{file}: {name}", _base_with({file: written}), ("base",))
        for name, entry in ENTRIES.get(file, {}).items():
            yield Case("base", f"{file}: {name}", _base_with({file: lambda old, entry=entry: {**old, **entry}}), ("base",))  # type: ignore[misc]
    yield Case("base", "nothing in it", lambda here, base, run: ((here / "empty").mkdir(), sound(here, here / "empty"))[1], ("base_model",))
    for name, text in CHATS.items():
        yield Case(
            "chat template", name, _base_with({"chat_template.jinja": text}), ("template",) if name != "the question is missing" else ()
        )
    for name, value in (("a number", 3), ("a list of numbers", [1]), ("a template without Jinja", "{% for %}")):
        changes = {"chat_template.jinja": None, "tokenizer_config.json": lambda old, value=value: {**old, "chat_template": value}}
        if name == "a template without Jinja":  # the others count as none
            yield Case("chat template", f"in tokenizer_config.json: {name}", _base_with(changes), ("template",))
    yield Case("base", "no weights", _base_with({"model.safetensors": None}), ("base",), _TRAIN)
    yield Case(
        "base",
        "pickled weights only",
        _base_with({"model.safetensors": None, "pytorch_model.bin": b"\x80\x04"}),
        ("pytorch_model.bin",),
        _TRAIN,
    )
    for name in (
        "empty",
        "half a header",
        "truncated",
        "a length that lies",
        "a header that is no JSON",
        "overlapping tensors",
        "a pickle",
    ):

        def build(here: Path, base: Path, run: Path, name: str = name) -> None:
            _base_with({"model.safetensors": _damaged_weights((base / "model.safetensors").read_bytes())[name]})(here, base, run)

        yield Case("base", f"weights: {name}", build, ("base",), _TRAIN)
    for name, entry in {"a width of 0": {"hidden_size": 0}, "layers that are text": {"num_hidden_layers": "x"}, "heads that do not divide": {"num_attention_heads": 7}, "an unknown model_type": {"model_type": "nope"}, "code of its own": {"auto_map": {"AutoModelForCausalLM": "x.Y"}, "model_type": "mine"}, "a vocabulary below 0": {"vocab_size": -1}}.items():  # fmt: skip
        yield Case(
            "base", f"config.json: {name}", _base_with({"config.json": lambda old, entry=entry: {**old, **entry}}), ("base",), _TRAIN
        )  # type: ignore[misc]
