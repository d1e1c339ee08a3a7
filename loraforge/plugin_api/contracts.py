# SPDX-License-Identifier: Apache-2.0
"""Holds components of plugins to what they promise: one that raises or returns something else is named, in one sentence.

A component of somebody's plugin gets a class of its own, derived from the plugin's, whose methods look at what the plugin's return. What
comes with LoRAForge is held to it by its tests instead.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

from ..config.schema import KeySet
from ..errors import LoraForgeError, PluginError, machines_fault
from ..messages import speaker
from .components import Check, Component, Exporter, Finding, Loader, ModelFamily, Template
from .models import Examination, MemoryEstimate, TrainableModel
from .task import ChoiceQuestion, Task
from .types import File, Fingerprint, Record, Span

say = speaker(__name__)

T = TypeVar("T")

TRACEBACK = "LORAFORGE_TRACEBACK"  # set: whoever writes a plugin sees where it failed
_BUILT_IN = ("loraforge", "loraforge_text", "loraforge_image", "loraforge_serve")
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.ESTALE)
# What a class may decide by whether it is written in it: the class in between says it again.
_DECLARED = ("name", "task", "help", "keys", "severity", "private", "exporters", "peft_task_type", "webui", "at_saves")


def is_built_in(module: str) -> bool:
    """Whether a module came with LoRAForge."""
    return module.partition(".")[0] in _BUILT_IN


def blameless(error: BaseException) -> bool:
    """Whether an error is no fault of the code that it comes from: it is for the user as it is, or the computer's, or the disk's."""
    if isinstance(error, LoraForgeError) or not isinstance(error, Exception) or machines_fault(error):
        return True
    if isinstance(error, RuntimeError) and ("out of memory" in str(error) or "can't allocate memory" in str(error)):
        return True
    return isinstance(error, OSError) and error.errno in _DISK


def failed(owner: str, what: str, error: BaseException) -> PluginError:
    """What is said of a plugin whose code raised.

    Args:
        owner: see ``PluginHost``.
        what: which part of it.
    """
    return PluginError(
        say(
            "{owner}: {what} failed: {kind}: {error}. That is a fault of the plugin; its author sees where with {variable}=1.",
            owner=owner, what=what, kind=type(error).__name__, error=str(error).strip() or say("without a message"), variable=TRACEBACK,
        )
    )  # fmt: skip


def breach(owner: str, what: str, wanted: str, found: object) -> PluginError:
    """What is said of a plugin whose code returned something else than it promises."""
    shown = f"{type(found).__name__} {found!r:.80}" if found is not None else "None"
    return PluginError(
        say(
            "{owner}: {what} must return {wanted}, as docs/writing-plugins.md describes it, and returned {found}. That is a fault of the "
            "plugin.",
            owner=owner, what=what, wanted=wanted, found=shown,
        )
    )  # fmt: skip


def of_kind(owner: str, loader: Loader[Any], records: Sequence[object], kind: type[Record]) -> None:
    """Raises:
    PluginError: if a loader yields other records than its task has.
    """
    odd = next((record for record in records if not isinstance(record, kind)), None)
    if odd is not None:
        raise breach(owner, f"{type(loader).__name__}.load", f"Iterable[{kind.__name__}]", odd)


def guarded(component: T, owner: str) -> T:
    """The component, held to its promises; those that come with LoRAForge as they are.

    Args:
        owner: whose it is, for people.
    """
    kind = type(component)
    promises = {name: rule for base, rules in _PROMISES.items() if isinstance(component, base) for name, rule in rules.items()}
    if not promises and callable(getattr(component, "generate", None)):
        promises = {"generate": _Rule("Sequence[str | File], one for each prompt", _generated)}
    if is_built_in(kind.__module__) or hasattr(kind, "__loraforge_owner__") or not promises:
        return component
    body: dict[str, Any] = {
        name: _wrapped(getattr(kind, name), f"{kind.__name__}.{name}", owner, rule)
        for name, rule in promises.items()
        if hasattr(kind, name)
    }
    body |= {name: getattr(kind, name) for name in _DECLARED if hasattr(kind, name)} if isinstance(component, Component) else {}
    body |= {"__slots__": (), "__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    make: Any = type(kind)  # its metaclass
    try:
        object.__setattr__(component, "__class__", make(kind.__name__, (kind,), {**body, "__loraforge_owner__": owner}))
    except TypeError:  # a class that has no room for another one; it is taken as it is
        return component
    return component


def held(task: Task[Any], owner: str) -> Task[Any]:
    """A task whose functions are held to their promises.

    Args:
        owner: whose it is, for people.
    """
    ask = _Rule(task.record.__name__, _is(task.record))
    parts = {
        "": {"question": _TEXT_ALONE, "answer": _TEXT_ALONE, "fingerprint": _Rule("Fingerprint", _is(Fingerprint))},
        "sampling": {"ask": ask, "side_by_side": _Rule("File", _is(File))},
        "evaluation": {
            "judge": _Rule("Mapping[str, float]", _scores),
            "generation": _MAPPING,
            "overlap": _NUMBER,
            "general_knowledge": _Rule("Sequence[ChoiceQuestion]", _all(ChoiceQuestion)),
            "compare": _MAPPING,
        },
    }
    changed: dict[str, Any] = {}
    for part, rules in parts.items():
        whole: Any = getattr(task, part) if part else task
        new = {
            name: _called(function, f"{'.'.join(filter(None, (part, name)))} of the task '{task.name}'", owner, rule)
            for name, rule in rules.items()
            if (function := getattr(whole, name, None)) is not None
        }
        changed |= {part: dataclasses.replace(whole, **new)} if part else new
    return dataclasses.replace(task, **changed)


def owner_of(component: object) -> str:
    """Whose a component is, for people; empty for what comes with LoRAForge."""
    return str(getattr(type(component), "__loraforge_owner__", ""))


class _Rule:
    """What a method promises.

    Args:
        wanted: its type, as it is annotated.
        fits: takes what was returned and the arguments; gives (what goes on, whether it is as promised).
    """

    def __init__(self, wanted: str, fits: Callable[..., tuple[Any, bool]]) -> None:
        self.wanted, self.fits = wanted, fits


def _wrapped(method: Callable[..., Any], what: str, owner: str, rule: _Rule) -> Callable[..., Any]:
    @functools.wraps(method)
    def looked_at(self: Any, *arguments: Any, **named: Any) -> Any:
        made = _promised(functools.partial(method, self), arguments, named, what, owner, rule)
        return guarded(made, owner) if isinstance(made, Template | TrainableModel) or callable(getattr(made, "generate", None)) else made

    return looked_at


def _called(function: Callable[..., Any], what: str, owner: str, rule: _Rule) -> Callable[..., Any]:
    def looked_at(*arguments: Any, **named: Any) -> Any:
        return _promised(function, arguments, named, what, owner, rule)

    return looked_at


def _promised(function: Callable[..., Any], arguments: Sequence[Any], named: Mapping[str, Any], what: str, owner: str, rule: _Rule) -> Any:
    """What a call makes.

    Raises:
        PluginError: if it raises what is no answer for people, or returns something else than the rule says.
    """
    try:
        made, fits = rule.fits(function(*arguments, **named), *arguments, **named)
    except Exception as error:
        if blameless(error) or os.environ.get(TRACEBACK):
            raise
        raise failed(owner, what, error) from error
    if not fits:
        raise breach(owner, what, rule.wanted, made)
    return made


# --- the promises ---------------------------------------------------------------------------------------------------------------


def _all(kind: type | tuple[type, ...]) -> Callable[..., tuple[Any, bool]]:
    """Several of a kind. What a generator raises is raised while it is looked at."""

    def fits(made: Any, *arguments: Any, **named: Any) -> tuple[Any, bool]:
        if isinstance(made, str | bytes | Mapping) or not isinstance(made, Iterable):
            return made, False
        listed = list(made)
        odd = [one for one in listed if not isinstance(one, kind)]
        return (odd[0], False) if odd else (listed, True)

    return fits


def _is(*kinds: type | None) -> Callable[..., tuple[Any, bool]]:
    some = tuple(kind if kind is not None else type(None) for kind in kinds)
    return lambda made, *arguments, **named: (made, isinstance(made, some))


def _hashable(made: Any, *arguments: Any, **named: Any) -> tuple[Any, bool]:
    return made, isinstance(made, Hashable)


def _text(made: Any, *arguments: Any, **named: Any) -> tuple[Any, bool]:
    """None says nothing too."""
    return made or "", made is None or isinstance(made, str)


def _inside(made: Any, adapter: Any, destination: Path) -> tuple[Any, bool]:
    fits = isinstance(made, Path) and made.is_relative_to(destination) and made.exists()
    return made, fits


def _scalar(made: Any, *arguments: Any, **named: Any) -> tuple[Any, bool]:
    return made, hasattr(made, "backward") and getattr(made, "numel", lambda: 0)() == 1


def _asked(made: Any, *arguments: Any, **named: Any) -> tuple[Any, bool]:
    return made, callable(getattr(made, "generate", None))


def _scores(made: Any, *arguments: Any, **named: Any) -> tuple[Any, bool]:
    return made, isinstance(made, Mapping) and all(isinstance(score, Real) for score in made.values())


def _settled(made: Any, *arguments: Any, **named: Any) -> tuple[Any, bool]:
    return made, isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], KeySet) and not isinstance(made[1], str)


def _generated(made: Any, prompts: Sequence[str], *arguments: Any, **named: Any) -> tuple[Any, bool]:
    fits = isinstance(made, Sequence) and not isinstance(made, str | bytes) and len(made) == len(prompts)
    return made, fits and all(isinstance(one, str | File) for one in made)


_SEVERAL_TEXTS = _Rule("Sequence[str]", _all(str))
_MAPPING = _Rule("Mapping[str, Any]", _is(Mapping))
_NUMBER = _Rule("float", _is(Real))
_BYTES = _Rule(
    "Mapping[str, bytes]",
    lambda made, *arguments: (made, isinstance(made, Mapping) and all(isinstance(value, bytes) for value in made.values())),
)
_TEXT = _Rule("str", _text)
_TEXT_ALONE = _Rule("str", _is(str))
_A_TEMPLATE = _Rule("Template", _is(Template))

_PROMISES: Mapping[type, Mapping[str, _Rule]] = {
    Loader: {"load": _Rule("Iterable[Record]", _all(Record))},
    Template: {
        "prepare": _A_TEMPLATE,
        "recall": _A_TEMPLATE,
        "describe": _MAPPING,
        "render": _Rule("Sequence[Span]", _all(Span)),
        "matches": _Rule("bool", lambda made, *arguments: (bool(made), True)),
    },
    Check: {"run": _Rule("Iterable[Finding]", _all(Finding))},
    ModelFamily: {
        "matches": _Rule("bool", lambda made, *arguments: (bool(made), True)),
        "describe_base": _TEXT,
        "typical_ranges": _MAPPING,
        "settle": _Rule("tuple[KeySet, Sequence[str]]", _settled),
        "examine": _Rule("Examination", _is(Examination)),
        "base_files": _Rule("Sequence[Path]", _all(Path)),
        "brought_files": _MAPPING,
        "cautions": _SEVERAL_TEXTS,
        "estimate_memory": _Rule("MemoryEstimate | None", _is(MemoryEstimate, None)),
        "load": _Rule("TrainableModel", _is(TrainableModel)),
        "open": _Rule("InferenceModel", _asked),
    },
    Exporter: {
        "refuses": _TEXT,
        "refuses_family": _TEXT,
        "export": _Rule("Path of something that lies in the folder that it was given", _inside),
        "deliver": _SEVERAL_TEXTS,
        "usage": _SEVERAL_TEXTS,
    },
    TrainableModel: {
        "encode": _MAPPING,
        "group": _Rule("Hashable", _hashable),
        "collate": _MAPPING,
        "weight": _NUMBER,
        "units": _NUMBER,
        "loss": _Rule("Tensor with one number", _scalar),
        "sample": _Rule("Path | None", _is(Path, None)),
        "facts": _MAPPING,
        "files": _BYTES,
        "golden": _BYTES,
    },
}
