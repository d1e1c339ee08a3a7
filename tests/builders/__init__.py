# SPDX-License-Identifier: Apache-2.0
"""What the tests share: tiny bases, tables, pictures, malformed files, and a way to kill a run at any instant."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


nightly = pytest.mark.skipif(
    "LORAFORGE_ALL_VARIANTS" not in os.environ, reason="takes long, and a test that is always run goes the same way"
)


def everyday(cases: Sequence[Any], *places: int) -> Sequence[Any]:
    """Of cases that take long and differ little, those in these places; with ``LORAFORGE_ALL_VARIANTS`` set, all."""
    return cases if "LORAFORGE_ALL_VARIANTS" in os.environ else [cases[place] for place in places]
