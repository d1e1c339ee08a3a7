# SPDX-License-Identifier: Apache-2.0
"""A folder for pictures."""

from __future__ import annotations

import pytest


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "pictures"
    path.mkdir()
    return path
