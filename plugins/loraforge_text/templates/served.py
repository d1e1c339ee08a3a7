"""The template that was trained, written out as a chat template for servers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .prompting import PINNED_DATE, pinned_date


def export_jinja(prompting: Mapping[str, Any]) -> str | None:
    """The template as a Jinja chat template for servers; an inline string becomes one for single questions.

    Args:
        prompting: what ``describe`` returned.
    """
    if prompting.get("jinja"):
        return _resolved(str(prompting["jinja"]), prompting)
    inline = prompting.get("inline")
    if not inline:
        return None
    pieces = re.split(r"(\{(?:instruction|input|system)\})", str(inline).removesuffix("{output}"))
    names = {"{instruction}": "{{ message.content }}", "{input}": "", "{system}": "{{ system }}"}
    body = "".join(names[p] if p in names else "{{ " + _quoted(p) + " }}" for p in pieces if p)
    system = (
        "{% set system = messages[0].content if messages[0].role == 'system' else " + _quoted(str(prompting.get("system") or "")) + " %}"
    )
    bos = "{{ " + _quoted(str(prompting.get("bos") or "")) + " }}"
    stop = "{{ " + _quoted(str((prompting.get("stops") or [""])[0])) + " }}"
    return (
        system + "{% for message in messages %}{% if message.role == 'user' %}" + bos + body + "{% endif %}"
        "{% if message.role == 'assistant' %}{{ message.content }}" + stop + "{% endif %}{% endfor %}"
    )


def _resolved(jinja: str, prompting: Mapping[str, Any]) -> str:
    """A chat template with all that training decided written into it, so that a server need not be told: thinking, date, system message."""
    first = ""
    for name, value in (prompting.get("kwargs") or {}).items():
        first += "{% set " + name + " = " + (str(value).lower() if isinstance(value, bool) else _quoted(str(value))) + " %}"
    if "date_string" in jinja:
        first += "{% set date_string = " + _quoted(PINNED_DATE) + " %}"
    patterns = sorted(set(re.findall(r"strftime_now\(\s*['\"]([^'\"]+)['\"]", jinja)))
    if patterns:
        cases = "".join("{% if pattern == " + _quoted(p) + " %}" + pinned_date(p) + "{% endif %}" for p in patterns)
        first += "{% macro strftime_now(pattern) %}" + cases + "{% endmacro %}"
    system = prompting.get("system")
    if system:
        message = "{'role': 'system', 'content': " + _quoted(str(system)) + "}"
        first += "{% if not messages or messages[0]['role'] != 'system' %}{% set messages = [" + message + "] + messages %}{% endif %}"
    return first + jinja


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
