# SPDX-License-Identifier: Apache-2.0
"""Keys that are each right and do not go together are told at once, with their lines."""

from __future__ import annotations

import pytest

from loraforge import RunConfig
from loraforge.config.contradictions import contradictions


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, []), ({"lora_variant": "lokr", "lokr_factor": 8, "lokr_decompose_both": True}, []), ({"precision": "4bit"}, []),
        ({"lokr_factor": 8, "lokr_decompose_both": True}, ["lokr_factor means", "lokr_decompose_both means"]),
        ({"lora_variant": "loha", "lokr_factor": 8}, ["lokr_factor means"]),
    ],
)  # fmt: skip
def test_what_does_not_go_together(values, told):
    found = contradictions(RunConfig(train_data_dir=".", base_model="b", **values))
    assert len(found) == len(told) and all(line.startswith(start) for line, start in zip(found, told, strict=True))
