# SPDX-License-Identifier: Apache-2.0
"""The examples that come with LoRAForge."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_NAMES = ("cyberpunk", "sdxl", "zimage", "flux2-klein", "qwen-image")


def examples() -> Mapping[str, Path]:
    """Their configs, by name: in the installed package, or in the repository that it is imported from."""
    package = Path(__file__).parents[1]
    places = [place for place in (package / "examples", package.parents[1] / "configs") if place.is_dir()]
    return {name: places[0] / f"{name}.yaml" for name in _NAMES if places and (places[0] / f"{name}.yaml").is_file()}
