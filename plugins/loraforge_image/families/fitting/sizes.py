# SPDX-License-Identifier: Apache-2.0
"""What a base's weights take on a card and in main memory, by ``precision`` and ``offload``, and what to change if that is too much.
Without torch.

The order in which settings are proposed follows what they cost, in time and then in exactness:

1. the same step in smaller batches, and gradient checkpointing: the same result, about a third more time (the core proposes these);
2. ``offload: encoders``: the same result, and captions are encoded more slowly, once;
3. ``precision: fp8``: every weight is off by at most 6 %, 2.6 % in the mean;
4. ``offload: blocks`` for a quarter and a half of the weights: the same result, and each step waits for copies;
5. ``precision: 4bit``: weights are off by 9 % in the mean;
6. ``offload: blocks`` for three quarters and all of them;
7. what changes the adapter or the pictures: 8-bit optimizer, rank, resolution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loraforge import RunConfig, speaker

from ...records import ImageKeys

say = speaker(__name__)

_NF4 = 4.5 / 8  # bytes of a weight, its share of a scale included
_BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "4bit": _NF4}
PRECISIONS = ("fp32", "bf16", "fp8", "4bit")


@dataclass(frozen=True)
class Weights:
    """How many numbers a denoiser has, by what becomes of them.

    Attributes:
        matrices: in linear layers of its blocks.
        convolutions: in those, which four bits leave at eight.
        others: everywhere else.
        largest: in the largest layer of the blocks, which is made ready for its product.
    """

    matrices: int
    convolutions: int
    others: int
    largest: int

    @property
    def total(self) -> int:
        """All numbers."""
        return self.matrices + self.convolutions + self.others


@dataclass(frozen=True)
class Held:
    """Bytes.

    Attributes:
        card: of weights where the run computes.
        home: of weights that wait in main memory.
        ready: of the weight that is made ready at the worst moment.
        sums: how that comes about, for people.
    """

    card: int
    home: int
    ready: int
    sums: Sequence[str]


def held(weights: Weights, config: RunConfig, keys: ImageKeys, device: str) -> Held:
    """What the denoiser's weights take."""
    size = 4 if config.precision == "fp32" else 2
    matrix = _BYTES.get(config.precision, 2.0)
    convolution = max(1.0, matrix)
    blocks = matrix * weights.matrices + convolution * weights.convolutions
    share = keys.offload_share if keys.offload == "blocks" and device != "cpu" else 0.0
    stored = matrix < size or share > 0
    lines = [
        say(
            "denoiser: {matrices:.2f} billion numbers of {each:g} bytes in linear layers, {convolutions:.2f} of {conv:g} in convolutions, "
            "{others:.2f} of {plain:g} elsewhere: {total:.1f} GB",
            matrices=weights.matrices / 1e9,
            each=matrix,
            convolutions=weights.convolutions / 1e9,
            conv=convolution,
            others=weights.others / 1e9,
            plain=size,
            total=(blocks + size * weights.others) / 2**30,
        )
    ]
    if share:
        lines.append(
            say(
                "{share:.0%} of its blocks wait in main memory: {home:.1f} GB there, {card:.1f} GB on the card",
                share=share,
                home=share * blocks / 2**30,
                card=((1 - share) * blocks + size * weights.others) / 2**30,
            )
        )
    return Held(round((1 - share) * blocks + size * weights.others), round(share * blocks), size * weights.largest if stored else 0, lines)


def encoders(texts: Mapping[str, int], largest: int, size: int, keys: ImageKeys, device: str) -> tuple[int, str]:
    """(bytes of the text encoders while captions are read, the sum for people).

    Args:
        texts: numbers of each, by name.
        largest: numbers of the largest weight of any, and of what does not wait (embeddings).
        size: bytes of a number.
    """
    whole = size * sum(texts.values())
    there = whole if keys.offload == "none" or device == "cpu" else min(whole, size * largest)
    text = say(
        "text encoders: {numbers:.2f} billion numbers of {size} bytes: {whole:.1f} GB, of which {there:.1f} GB are on the card at once",
        numbers=sum(texts.values()) / 1e9,
        size=size,
        whole=whole / 2**30,
        there=there / 2**30,
    )
    return there, text


def savings(config: RunConfig, keys: ImageKeys, device: str) -> list[Mapping[str, Any]]:
    """Changes that make the same run fit on a card, in the order above; on a CPU the lower precision alone."""
    if device == "cpu":
        return [{"precision": "bf16"}] if config.precision in ("auto", "fp32") else []
    now = PRECISIONS.index(config.precision) if config.precision in PRECISIONS else 1
    share = keys.offload_share if keys.offload == "blocks" else 0.0
    found: list[Mapping[str, Any]] = []
    if keys.offload == "none":
        found.append({"offload": "encoders"})
    if now < 1:
        found.append({"precision": "bf16"})
    for precision, shares in (("fp8", (0.25, 0.5)), ("4bit", (0.75, 1.0))):
        if PRECISIONS.index(precision) > now and keys.train_unet:
            found.append({"precision": precision})
        found += [{"offload": "blocks", "offload_share": one} for one in shares if one > share]
    return found
