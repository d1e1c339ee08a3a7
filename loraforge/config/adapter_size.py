# SPDX-License-Identifier: Apache-2.0
"""How many numbers an adapter has on a layer, known from the layer's shape alone. Without torch."""

from __future__ import annotations

from .schema import RunConfig


def split(dimension: int, factor: int | None) -> tuple[int, int]:
    """The two numbers that LoKr takes one side of a weight apart into (LyCORIS' rule): ``factor`` and the rest where it divides it,
    otherwise the two nearest to each other of which one is at most ``factor``.

    Args:
        factor: None: no limit.
    """
    if factor and dimension % factor == 0:
        return factor, dimension // factor
    most = min(factor or dimension, int(dimension**0.5))
    small = next(number for number in range(most, 0, -1) if dimension % number == 0)
    return small, dimension // small


def adapter_size(config: RunConfig, rank: int, inputs: int, outputs: int, places: int = 1) -> int:
    """Trained numbers on one linear layer or convolution.

    Args:
        inputs: channels in, for each group.
        places: of the kernel: 9 for 3x3.
    """
    if config.adapter_kind == "loha":
        return 2 * rank * (inputs * places + outputs)
    if config.adapter_kind == "lora":
        return rank * (inputs * places + outputs) + (outputs if config.lora_variant == "dora" else 0)
    (out_first, out_second), (in_first, in_second) = split(outputs, config.lokr_factor), split(inputs, config.lokr_factor)
    # Two thin matrices only where they are smaller.
    thin = config.lokr_decompose_both and rank < max(out_first, in_first) / 2
    first = rank * (out_first + in_first) if thin else out_first * in_first
    second = rank * (out_second + in_second * places) if rank < max(out_second, in_second) / 2 else out_second * in_second * places
    return first + second


def weight_copies(config: RunConfig) -> int:
    """How often the adapter's forward pass makes a weight as large as the layer's, and keeps it for the backward pass: LoKr and LoHa put
    theirs together at each step."""
    return 0 if config.adapter_kind == "lora" else 1


def dropout_noise(config: RunConfig, device: str, *, fast: bool) -> float:
    """Bytes that LoRA's dropout keeps for each number that a layer reads, for the backward pass: peft's own layer a copy on a CPU and a
    mask of bytes on a GPU, a ``fast`` one on a CPU a bit. LoKr and LoHa drop ranks instead, which are few."""
    if not config.lora_dropout or config.adapter_kind != "lora":
        return 0
    if device != "cpu":
        return 1
    return 1 / 8 if fast else 4
