# SPDX-License-Identifier: Apache-2.0
"""The template that was trained, written out as a chat template for servers: it needs to be told nothing.

What training gave to a template besides the messages (thinking, date, system message, special tokens) is set in front. A line break
ends them: the renderers drop one after a block (``trim_blocks``), so the template itself begins as if it stood alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .prompting import PINNED_DATE, Prompting, pinned_date

_SYSTEM = "messages and messages[0]['role'] == 'system'"
# The text of a message, which may be a list of parts.
_TEXT = (
    "{% macro text_of(content) %}{% if content is string %}{{ content }}{% else %}"
    "{% for part in content %}{{ part['text'] }}{% endfor %}{% endif %}{% endmacro %}"
)
# Gemma 2 and others know no system role: the first question carries it, as in training. Its content may be text or a list of parts.
_FOLD = _TEXT + (
    "{% if messages | length > 1 and messages[0]['role'] == 'system' and messages[1]['role'] == 'user' %}"
    "{% set first_system, first_asked = text_of(messages[0]['content']) + '\\n\\n', messages[1]['content'] %}"
    "{% if first_asked is string %}{% set first_asked = first_system + first_asked %}"
    "{% elif first_asked[0]['type'] == 'text' %}"
    "{% set first_asked = [{'type': 'text', 'text': first_system + first_asked[0]['text']}] + first_asked[1:] %}"
    "{% else %}{% set first_asked = [{'type': 'text', 'text': first_system}] + first_asked %}{% endif %}"
    "{% set messages = [{'role': 'user', 'content': first_asked}] + messages[2:] %}{% endif %}"
)
# Where a template takes texts in parts only: it is given each in one.
_PARTS = (
    "{% set parts = namespace(messages=[]) %}{% for message in messages %}"
    "{% if message['content'] is string and message['content'] %}"
    "{% set parts.messages = parts.messages + [dict(message, content=[{'type': 'text', 'text': message['content']}])] %}"
    "{% else %}{% set parts.messages = parts.messages + [message] %}{% endif %}{% endfor %}{% set messages = parts.messages %}"
)


def export_jinja(prompting: Mapping[str, Any]) -> str | None:
    """The template as a Jinja chat template for servers, or None if there is nothing to write out.

    Args:
        prompting: what ``describe`` returned.
    """
    if prompting.get("inline"):
        return _inline(str(prompting["inline"]), prompting)
    return _resolved(str(prompting["jinja"]), prompting) if prompting.get("jinja") else None


def _inline(inline: str, prompting: Mapping[str, Any]) -> str:
    """An inline string: each question is wrapped in it, each answer is followed by the stop token, as in training."""
    pieces = re.split(r"(\{(?:instruction|input|system)\})", inline.removesuffix("{output}"))
    names = {"{instruction}": "{{ text_of(message['content']) }}", "{input}": "", "{system}": "{{ system }}"}
    body = "".join(names[p] if p in names else "{{ " + _literal(p) + " }}" for p in pieces if p)
    default = _literal(str(prompting.get("system") or ""))
    system = (
        "{% if " + _SYSTEM + " %}{% set system = text_of(messages[0]['content']) %}{% else %}{% set system = " + default + " %}{% endif %}"
    )
    bos = "{{ " + _literal(str(prompting.get("bos") or "")) + " }}"
    stop = "{{ " + _literal(str((prompting.get("stops") or [""])[0])) + " }}"
    return (
        _TEXT + system + "{% for message in messages %}{% if message['role'] == 'user' %}" + bos + body + "{% endif %}"
        "{% if message['role'] == 'assistant' %}{{ text_of(message['content']) }}" + stop + "{% endif %}{% endfor %}"
    )


def _resolved(jinja: str, prompting: Mapping[str, Any]) -> str:
    """A chat template with all that training decided written into it."""
    stop = str((prompting.get("stops") or [""])[0])
    given: dict[str, Any] = dict(prompting.get("kwargs") or {})
    # The exported tokenizer may call another token its eos_token than the base did, and a format of ours may go without a BOS.
    tokens = {"bos_token": "", "eos_token": stop, **(prompting.get("tokens") or {})}
    given |= {name: text for name, text in tokens.items() if re.search(rf"\b{re.escape(name)}\b", jinja)}
    if "date_string" in jinja:
        given.setdefault("date_string", PINNED_DATE)
    first = "".join("{% set " + name + " = " + _literal(value) + " %}" for name, value in given.items())
    if "strftime_now" in jinja:
        first += _pinned_now(jinja)
    fold = _FOLD if _folds_system(first + "\n" + jinja, prompting) else ""
    system = prompting.get("system")
    first += (_inserted(str(system)) if system else "") + fold
    first += _PARTS if prompting.get("parts") else ""
    return first + "\n" + jinja if first else jinja


def _inserted(system: str) -> str:
    message = "{'role': 'system', 'content': " + _literal(system) + "}"
    return "{% if not (" + _SYSTEM + ") %}{% set messages = [" + message + "] + messages %}{% endif %}"


def _pinned_now(jinja: str) -> str:
    """``strftime_now`` that knows one day: whatever pattern it is given, each of its fields is replaced."""
    # A pattern that is put together from pieces may hold any field.
    written = re.findall(r"%[-_0^#]?[A-Za-z]", jinja) or [f"%{letter}" for letter in "aAbBcdeFHIjmMpSUwWxXyYZ"]
    fields = sorted(set(written), key=lambda field: (-len(field), field))
    # %-d is %d without its zero, a form that not every system's C library knows.
    days = {f: pinned_date(f) if f[1] != "-" else pinned_date(f.replace("-", "")).lstrip("0") for f in fields}
    replaced = "".join(f" | replace({_literal(field)}, {_literal(day)})" for field, day in days.items())
    return "{% macro strftime_now(format) %}{{ format" + replaced + " }}{% endmacro %}"


def _folds_system(jinja: str, prompting: Mapping[str, Any]) -> bool:
    """Whether training put the system message into the first question, by the rule that training has."""
    stops = tuple(str(stop) for stop in prompting.get("stops") or ())
    return Prompting(jinja=jinja, stops=stops, parts=bool(prompting.get("parts"))).folds_system


def _literal(value: Any) -> str:
    """A plain value as Jinja writes it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(str(key))}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    if isinstance(value, int | float):
        return repr(value)
    text = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return "'" + text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + "'"
