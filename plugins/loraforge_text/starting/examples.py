# SPDX-License-Identifier: Apache-2.0
"""The examples that come with LoRAForge."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_FILES = {"legal": "legal.yaml", "medical": "medical_qa.yaml", "pharmacy-en": "pharmacy-en.yaml"}


def examples() -> Mapping[str, Path]:
    """Their configs, by name: in the installed package, or in the repository that it is imported from."""
    package = Path(__file__).parents[1]
    places = [place for place in (package / "examples", package.parents[1] / "configs") if place.is_dir()]
    return {name: places[0] / file for name, file in _FILES.items() if places and (places[0] / file).is_file()}
