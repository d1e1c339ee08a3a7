# SPDX-License-Identifier: Apache-2.0
"""Keys of every run that cannot be together, or of which one would be ignored in silence."""

from __future__ import annotations

from ..messages import speaker
from .schema import RunConfig

say = speaker(__name__)


def contradictions(config: RunConfig) -> list[str]:
    """What is wrong with the keys that are each right by themselves, one sentence each."""
    problems = []
    if config.adapter_kind != "lokr":
        given = {"lokr_factor": config.lokr_factor, "lokr_decompose_both": config.lokr_decompose_both}
        problems += [
            say("{key} means something with lora_variant: lokr only. Set that, or leave the line out.", key=key)
            for key, value in given.items()
            if value
        ]
    return problems
