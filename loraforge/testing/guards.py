# SPDX-License-Identifier: Apache-2.0
"""What a contract forbids while a plugin's code runs: importing torch, printing, changing what it was given."""

from __future__ import annotations

import builtins
import contextlib
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

# Libraries that load torch when they are imported. transformers and diffusers do so only for some of their modules.
_HEAVY = frozenset({"torch", "peft", "accelerate"})
# Libraries that look at torch's types where torch is there already, and whose own imports are their own affair.
_LOOKS_ONLY = frozenset({"scipy", "sklearn", "transformers", "diffusers", *_HEAVY})


@contextlib.contextmanager
def without_torch(what: str, *others: str) -> Iterator[None]:
    """Runs the body and looks at every import that it makes.

    Where torch is not loaded yet, nothing escapes. Where it is, an import statement of the body counts, and one that brings a module with
    torch at its top, or a class from there.

    Args:
        others: libraries that must not be imported either.

    Raises:
        AssertionError: if torch, or a library that is built on it, is imported meanwhile.
    """
    found: list[str] = []
    loaded = "torch" in sys.modules
    original = builtins.__import__

    def watching(
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        module = original(name, globals, locals, fromlist or (), level)
        importer = str((globals or {}).get("__name__", "")).partition(".")[0]
        if not (loaded and importer in _LOOKS_ONLY):
            top = "" if level else name.partition(".")[0]
            heavy = [name] if top in _HEAVY or top in others else _with_torch(name, module, fromlist or ())
            found.extend(heavy)
        return module

    builtins.__import__ = watching
    try:
        yield
    finally:
        builtins.__import__ = original
    assert not found, f"{what} must not import {' or '.join(['torch', *others])}: it imports {', '.join(dict.fromkeys(found))}"


def _with_torch(name: str, module: ModuleType, fromlist: Sequence[str]) -> list[str]:
    """The modules with torch at their top that one import statement brings, or that its classes come from."""
    torch = sys.modules.get("torch")
    parts = [vars(module).get(part) for part in fromlist]
    homes = [sys.modules.get(kind.__module__) for part in parts if isinstance(part, type) for kind in part.__mro__]
    modules = [one for one in (module, sys.modules.get(name), *parts, *homes) if isinstance(one, ModuleType)]
    return [one.__name__ for one in modules if torch is not None and any(value is torch for value in list(vars(one).values()))]


@contextlib.contextmanager
def without_output(what: str) -> Iterator[None]:
    """Runs the body, which must print nothing.

    Raises:
        AssertionError: with what was printed; it would stand in the JSON of ``--json``.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        yield
    assert not printed.getvalue(), f"{what} must not print: printing is for commands. It printed {printed.getvalue()[:100]!r}"


def equal(first: Any, second: Any) -> bool:
    """Whether two values are the same through and through: mappings and sequences of tensors, arrays and plain values."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(equal(one, other) for one, other in zip(first, second, strict=True))
    if hasattr(first, "shape") and hasattr(second, "shape"):
        return bool(first.dtype == second.dtype and first.shape == second.shape and (first == second).all())
    return bool(first == second)
