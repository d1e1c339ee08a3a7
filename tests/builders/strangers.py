# SPDX-License-Identifier: Apache-2.0
"""The packages of strangers in ``tests/thirdparty``, as modules."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from . import ROOT


def _module(package: str, name: str) -> ModuleType:
    place = str(ROOT / "tests" / "thirdparty" / package / "src")
    if place not in sys.path:
        sys.path.append(place)
    return importlib.import_module(name)


def sd3() -> ModuleType:
    """A flow-matching family."""
    return _module("loraforge-sd3", "loraforge_sd3")
