# SPDX-License-Identifier: Apache-2.0
"""Tools and calls of them, in the shapes of OpenAI, ShareGPT and LLaMA-Factory, as one shape."""

from __future__ import annotations

import json
from typing import Any

from loraforge import speaker

say = speaker(__name__)


def read_calls(value: Any, wrong: list[str]) -> str:
    """Calls as the JSON list of ``{"id", "name", "arguments"}`` that ``Message.tool_calls`` holds.

    Args:
        value: a list of calls, one of them, or JSON of either; ``{"function": {"name", "arguments"}}`` or ``{"name", "arguments"}``, with
            the arguments as an object or as JSON.
    """
    calls = _from_json(value)
    calls = calls if isinstance(calls, list) else [calls]
    made = []
    for call in calls:
        call = _from_json(call)
        inner = call.get("function", call) if isinstance(call, dict) else None
        name = inner.get("name") if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or not isinstance(name, str) or not name.strip():
            wrong.append(say("a call of a tool is no object with name and arguments."))
            return ""
        arguments: Any = next((inner[key] for key in ("arguments", "parameters", "args", "input") if inner.get(key) is not None), {})
        arguments = _from_json(arguments) if arguments != "" else {}
        if not isinstance(arguments, dict):
            wrong.append(say("the arguments of the call of '{name}' are no JSON object.", name=name))
            return ""
        made.append({"id": str(call.get("id") or ""), "name": name.strip(), "arguments": arguments})
    return json.dumps(made, ensure_ascii=False) if made else ""


def read_tools(value: Any, wrong: list[str], what: str) -> str:
    """The tools that may be called, as a JSON list in OpenAI's form; empty if there are none."""
    if value is None or value == "":
        return ""
    tools = _from_json(value)
    tools = [tools] if isinstance(tools, dict) else tools
    if not isinstance(tools, list):
        wrong.append(say("{what}: expected a list of tools as JSON.", what=what))
        return ""
    made = []
    for tool in tools:
        tool = _from_json(tool)
        inner = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            wrong.append(say("{what}: expected a list of tools as JSON.", what=what))
            return ""
        made.append(tool if "function" in tool else {"type": "function", "function": inner})
    return json.dumps(made, ensure_ascii=False, default=str) if made else ""


def are_tools(text: str) -> bool:
    """Whether a cell is meant to be a list of tools, well written or not; a scale and a scalpel are none."""
    return text.lstrip().startswith(("[", "{"))


def _from_json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
