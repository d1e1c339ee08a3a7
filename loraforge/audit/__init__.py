"""Whether anything of a finished run was altered: ``verify``, the seal, the card. Everything is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..sealing import amend, kept_seal, require_sound, seal
    from .verdicts import Part, Verification
    from .verifying import ancestor, verify

__all__ = ["Part", "Verification", "amend", "ancestor", "kept_seal", "require_sound", "seal", "verify"]

_HOMES = {"Part": ".verdicts", "Verification": ".verdicts", "ancestor": ".verifying", "verify": ".verifying"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "..sealing"), __name__), name)
