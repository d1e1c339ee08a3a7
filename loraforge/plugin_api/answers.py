# SPDX-License-Identifier: Apache-2.0
"""What a plugin's hooks take and return, looked at when they are asked: whoever writes one reads what is wrong and what to return."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import PluginError
from ..messages import speaker
from ..terminal import first_few
from . import hookspecs

say = speaker(__name__)

# What a hook returns several of, by its name in ``task`` and ``components``.
_CLASSES: Mapping[str, str] = {
    "loraforge_tasks": "Task",
    "loraforge_data_loaders": "Loader",
    "loraforge_templates": "Template",
    "loraforge_checks": "Check",
    "loraforge_model_families": "ModelFamily",
    "loraforge_exporters": "Exporter",
    "loraforge_commands": "click.Command",
}


def answers_of(hook: str, given: object) -> list[Any]:
    """All that a hook returned.

    Raises:
        PluginError: saying what it returned instead, and what to return.
    """
    kind = _class(hook)
    if given is None:
        raise PluginError(say("{hook} returned None; is its `return` missing? Without anything to add: return []", hook=hook))
    if isinstance(given, str | bytes | Mapping | kind) or not isinstance(given, Iterable):
        found = _told(given)
        raise PluginError(
            say("{hook} must return a list, such as [Mine()], of {kind}; it returned {found}.", hook=hook, kind=_CLASSES[hook], found=found)
        )
    made = list(given)
    for one in made:
        if wrong := _wrong(hook, kind, one):
            raise PluginError(wrong)
    return made


def _class(hook: str) -> type:
    import click

    from . import components, task

    return click.Command if hook == "loraforge_commands" else getattr(task if hook == "loraforge_tasks" else components, _CLASSES[hook])


def _told(value: object) -> str:
    return repr(value) if isinstance(value, str | bytes | int | float | Mapping | type | None) else type(value).__name__


def _wrong(hook: str, kind: type, one: object) -> str:
    """Why something is none of what a hook returns; otherwise nothing."""
    from ..config.schema import Keys

    if isinstance(one, type) and issubclass(one, kind):
        return say("{hook} returned the class {name} itself; return an object of it: [{name}()]", hook=hook, name=one.__name__)
    if not isinstance(one, kind):
        return say("{hook} must return a list of {kind}; in it stands {found:.100}.", hook=hook, kind=_CLASSES[hook], found=_told(one))
    texts = {"loraforge_commands": ("name",), "loraforge_tasks": ("name", "help")}.get(hook, ("name", "task", "help"))
    name = type(one).__name__
    lacking = [text for text in texts if not isinstance(getattr(one, text, None), str) or (text != "help" and not getattr(one, text))]
    if lacking:
        return say('{hook}: {name} has no text {what}; write one into the class: {first} = "..."',
                   hook=hook, name=name, what=first_few(lacking), first=lacking[0])  # fmt: skip
    keys = getattr(one, "keys", Keys)
    if hook != "loraforge_commands" and not (isinstance(keys, type) and issubclass(keys, Keys)):
        return say("{hook}: 'keys' of {name} must be a class that derives from loraforge.Keys, not {found:.100}.",
                   hook=hook, name=name, found=_told(keys))  # fmt: skip
    return ""


def wrong_arguments(plugin: object) -> list[str]:
    """One sentence for each hook of a plugin that asks for something that hooks are not given."""
    problems = []
    for name, spec in inspect.getmembers(hookspecs, inspect.isfunction):
        mine = getattr(plugin, name, None)
        if not name.startswith("loraforge_") or not callable(mine):
            continue
        known = list(inspect.signature(spec).parameters)
        strange = [one for one in inspect.signature(mine).parameters if one not in known]
        if strange:
            problems.append(
                say("{hook} is not given {names}; write def {hook}({known}):", hook=name, names=first_few(strange), known=", ".join(known))
            )
    return problems


def told(error: BaseException) -> str:
    """An error of a plugin's own code, with the last line of it that was reached."""
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    if isinstance(error, SyntaxError) or len(frames) < 2:
        return text
    return say("{error} ({file}, line {line})", error=text, file=frames[-1].filename, line=frames[-1].lineno)
