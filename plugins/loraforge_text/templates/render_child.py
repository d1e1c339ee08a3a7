# SPDX-License-Identifier: Apache-2.0
"""Writes chat templates out, as transformers does. ``rendering`` runs this file as a process of its own; it imports nothing of ours."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any


class Changing(Exception):
    """The template draws by lot, so that it writes something else each time."""


def _drawn(*_: Any, **__: Any) -> str:
    raise Changing


def write(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None,
    ask: bool,
    values: Mapping[str, Any],
    day: str,
) -> str:
    """The text of ``messages``, through transformers' own sandbox.

    Args:
        ask: whether the text ends by asking for an answer.
        values: what the template is given besides.
        day: the date that ``strftime_now`` knows, like 26 Jul 2024. Since 5.23 transformers turns a function that is passed as a value into
            a string, so that it is put where transformers' own one stands: among the globals of the template's environment.

    Raises:
        Changing: if it would write something else another time.
        Exception: whatever the template, a program, fails with.
    """
    from datetime import datetime

    from transformers.utils import chat_template_utils

    compiled = chat_template_utils._compile_jinja_template(template)
    compiled.environment.globals["strftime_now"] = datetime.strptime(day, "%d %b %Y").strftime
    compiled.environment.filters["random"] = compiled.environment.globals["lipsum"] = _drawn
    rendered, _ = chat_template_utils.render_jinja_template(
        conversations=[[dict(message) for message in messages]],
        tools=[dict(tool) for tool in tools] if tools else None,
        chat_template=template,
        add_generation_prompt=ask,
        **values,
    )
    return str(rendered[0])


def answer(template: str, longest: int, request: Mapping[str, Any]) -> dict[str, object]:
    """``write`` as an answer that can be sent."""
    try:
        text = write(template, **request)
    except MemoryError:
        return {"memory": True}
    except Changing:
        return {"changing": True}
    except Exception as error:  # a template is a program, and can fail as one
        if _machines(error):
            return {"machine": str(error)}
        return {"error": (str(error) or type(error).__name__).split("\n")[0][:2000]}
    return {"text": text} if len(text) <= longest else {"long": len(text)}


def _machines(error: Exception) -> bool:
    """Whether the computer is short of something; ``loraforge.errors`` has the same, which is not to be imported here."""
    if isinstance(error, OSError):
        return error.errno in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOBUFS)
    return type(error) is RuntimeError and "can't start new thread" in str(error)


def main() -> None:
    """Requests, some in a line, and their answers, each in its own, as JSON in ASCII. A template is sent once, when it is another than
    before."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both processes; the other one decides
    answers, sys.stdout = sys.stdout, sys.stderr
    from transformers.utils import chat_template_utils  # noqa: F401  what takes a second

    print(json.dumps({"ready": True}), file=answers, flush=True)
    template = ""
    for line in sys.stdin:
        order = json.loads(line)
        template = order.get("template", template)
        for one in order["requests"]:
            print(json.dumps(answer(template, order["longest"], one)), file=answers, flush=True)


if __name__ == "__main__":
    # This folder, in which files are named like those of libraries, is no place to import from.
    sys.path[:] = [path for path in sys.path if not os.path.isdir(path) or not os.path.samefile(path, os.path.dirname(__file__))]
    main()
