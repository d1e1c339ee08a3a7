# SPDX-License-Identifier: Apache-2.0
"""Inline templates: a string such as ``[INST]{instruction}[/INST]`` in the config or in a column."""

from __future__ import annotations

import re

from loraforge import speaker

from ..records import Conversation
from .formats import FORMATS

say = speaker(__name__)

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_KNOWN = ("instruction", "input", "system")


def fill(inline: str, record: Conversation, system: str | None = None) -> str:
    """An inline template with its known names replaced, and nothing else: no attribute access, no format specifications."""
    inline = inline.removesuffix("{output}")
    values = {
        "instruction": record.instruction,
        "input": record.input,
        "system": (record.system if record.system is not None else system) or "",
    }
    if record.input and "{input}" not in inline:
        values["instruction"] = record.question
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), inline)


def fits_inline(inline: str, record: Conversation, system: str | None) -> str | None:
    """Why an inline template cannot write a row without losing something, or None.

    Args:
        system: the system message of rows that have none of their own.
    """
    if (record.system if record.system is not None else system) and "{system}" not in inline:
        return say(
            "the template '{value}' has no {{system}}, so the system message (system_prompt, or the row's own) would be lost. Write "
            "{{system}} where it belongs, or take the message away.",
            value=inline,
        )
    odd = [one for i, one in enumerate(record.messages) if one.role != ("user", "assistant")[i % 2] or one.tool_calls]
    if odd or record.tools:
        return say(
            "the template '{value}' can write questions and answers in turns only, and this row holds more: tools, or messages out of "
            "turn. Take a base with a chat template, and no prompt_template.",
            value=inline,
        )
    return None


def check_inline(inline: str) -> str | None:
    """What is wrong with an inline template, or None."""
    if "{" not in inline:
        return say(
            "there is no template '{name}'. There are: {names}; or write it out, like [INST]{{instruction}}[/INST].",
            name=inline,
            names=", ".join(FORMATS),
        )
    names = _PLACEHOLDER.findall(inline.removesuffix("{output}"))
    if "instruction" not in names:
        return say("the template '{value}' has no {{instruction}}, so the question would be missing.", value=inline)
    unknown = sorted({name for name in names if name not in _KNOWN})
    if unknown:
        return say(
            "the template '{value}' has the unknown placeholder {{{unknown}}}. Known: {{instruction}}, {{input}}, {{system}}; the answer "
            "follows by itself.",
            value=inline,
            unknown=unknown[0],
        )
    return None
