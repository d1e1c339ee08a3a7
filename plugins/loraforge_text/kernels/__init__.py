# SPDX-License-Identifier: Apache-2.0
"""What computes the same as transformers, in less time and memory. Its modules import torch when they are imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loraforge import speaker

say = speaker(__name__)


@dataclass(frozen=True)
class Replaced:
    """What ``replace`` did to a model.

    Attributes:
        head: the head that was taken off; None if it is still on.
        in_line: whether the model takes rows end to end.
        places: whether it gives only the places that it is asked for.
        counts: how many modules compute in another way, by kind.
    """

    head: Any = None
    in_line: bool = False
    places: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)


def replace(model: Any) -> Replaced:
    """Replaces what a frozen base can do with less, in place: the head on learned positions only, rows end to end without padding, faster
    norms, blocks and frozen layers. Each only where the library's own code is, statement for statement, one that was verified."""
    from loraforge.kernels import frozen

    from . import fast_blocks, last_layer, linear_cross_entropy, packed_attention

    frozen.expect_many_sizes()
    counts = fast_blocks.replace(model)
    head = linear_cross_entropy.take_off(model)
    in_line = packed_attention.attend_to_rows(model)
    places = in_line and head is not None and last_layer.keep_places(model)
    done = {
        say("norms"): counts["norms"],
        say("gated blocks"): counts["gated blocks"],
        say("frozen layers"): frozen.replace(model),
        say("output head"): int(head is not None),
        say("last layer"): int(places),
        say("attention without padding"): int(in_line),
    }
    return Replaced(head, in_line, places, done)
