# SPDX-License-Identifier: Apache-2.0
"""The tensors of LoKr and LoHa in a file of PEFT's layout: whether they are whole, and with one scale for all. Imports torch when used."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

from ..messages import speaker
from ..plugin_api.adapter import Adapter

say = speaker(__name__)

# ``Adapter.options`` by kind, with peft's defaults: what its config needs to make layers for the tensors.
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "lora": {},
    "lokr": {"decompose_both": False, "decompose_factor": -1, "use_effective_conv2d": False},
    "loha": {"use_effective_conv2d": False},
}
_PART = re.compile(r"(.+)\.(?:(lokr)_(?:w[12]|w[12]_[ab]|t2)|(hada)_(?:w[12]_[ab]|t[12]))$")
_FIRST = ("lokr_w1", "lokr_w1_a", "hada_w1_a")  # exactly one of them is in every module


def faults(kind: str, tensors: Mapping[str, Tensor], rank_of: Callable[[str], int]) -> Iterator[str]:
    """What is wrong with the tensors of a ``lokr`` or ``loha``, one sentence each.

    Args:
        tensors: by module and part, without a prefix.
        rank_of: the rank that the config gives a module.
    """
    if not tensors:
        yield say("there is no tensor in it")
    start = {"lokr": "lokr", "loha": "hada"}[kind]
    for name, tensor in sorted(tensors.items()):
        found = _PART.match(name)
        if found is None or start not in (found[2], found[3]):
            yield say("{name} is no part of an adapter of the kind {kind}", name=name[:200], kind=kind)
        elif not tensor.is_floating_point() or not tensor.numel() or not bool(tensor.float().isfinite().all()):
            yield say("{name} holds values that are not numbers", name=name)
        elif tensor.ndim not in (2, 4):
            yield say("{name} has {n} dimensions", name=name, n=tensor.ndim)
    yield from () if not tensors else _unfit(kind, tensors, rank_of)


def _unfit(kind: str, tensors: Mapping[str, Tensor], rank_of: Callable[[str], int]) -> Iterator[str]:
    shapes = {name: tensor.to("meta") for name, tensor in tensors.items()}
    adapter = Adapter(tensors=shapes, rank=1, alpha=1, targets=(), probes={}, base_model="", kind=kind)
    for module in adapter.modules:
        inner = [
            shapes[name].shape[0]
            for part in ("w1_b", "w2_b")
            for name in (f"{module}.lokr_{part}", f"{module}.hada_{part}")
            if name in shapes
        ]
        try:
            whole = adapter.delta(module).ndim == 2
        except (KeyError, RuntimeError, IndexError):
            whole = False
        if not whole or any(rank != rank_of(module) for rank in inner):
            yield say("the factors of {module} do not make a whole of rank {rank}", module=module, rank=rank_of(module))


def with_one_scale(
    tensors: Mapping[str, Tensor], rank: int, rank_of: Callable[[str], int], factor_of: Callable[[str, int], float]
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """(tensors, ranks) as an ``Adapter`` has them.

    Args:
        factor_of: by what a module of that rank is multiplied beyond alpha / rank; it goes into its first factor.
    """
    found, ranks = {}, {}
    for name, tensor in tensors.items():
        module, _, part = name.rpartition(".")
        own = rank_of(module)
        if own != rank:
            ranks[module] = own
        factor = factor_of(module, own) if part in _FIRST else 1.0
        found[name] = tensor.float() * factor if factor != 1 else tensor.float()
    return found, ranks
