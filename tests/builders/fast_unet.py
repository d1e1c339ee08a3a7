# SPDX-License-Identifier: Apache-2.0
""""""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
