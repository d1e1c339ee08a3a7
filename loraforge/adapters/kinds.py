# SPDX-License-Identifier: Apache-2.0
"""What peft calls each kind of adapter, and how its configs and layers differ. Imports torch and peft when it is imported."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import peft
from peft.tuners.loha import LoHaConfig
from peft.tuners.loha.layer import LoHaLayer
from peft.tuners.lokr import LoKrConfig
from peft.tuners.lokr.layer import LoKrLayer
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from ..config.schema import RunConfig
from .lycoris_factors import OPTIONS

# The layers that peft puts around those of the base, by ``Adapter.kind``; one of them may be around one of another kind.
LAYERS: Mapping[str, type[Any]] = {"lora": LoraLayer, "lokr": LoKrLayer, "loha": LoHaLayer}
ADAPTED = tuple(LAYERS.values())


def options_of(config: RunConfig) -> dict[str, Any]:
    """``Adapter.options`` of a run's adapter."""
    if config.adapter_kind != "lokr":
        return dict(OPTIONS[config.adapter_kind])
    return {**OPTIONS["lokr"], "decompose_both": config.lokr_decompose_both, "decompose_factor": config.lokr_factor or -1}


def patterns(ranks: Mapping[str, int], rank: int, alpha: float) -> dict[str, Any]:
    """peft's own way of saying ``Adapter.ranks``: the scale stays alpha / rank."""
    return {
        "rank_pattern": {f"^{re.escape(name)}": own for name, own in ranks.items()},
        "alpha_pattern": {f"^{re.escape(name)}": own * alpha / rank for name, own in ranks.items()},
    }


def peft_config(
    kind: str,
    scale: tuple[int, float],
    modules: Sequence[str],
    ranks: Mapping[str, int],
    options: Mapping[str, Any],
    dropout: float = 0.0,
    **more: Any,
) -> peft.PeftConfig:
    """The config of an adapter of ``kind`` on ``modules``.

    LoKr and LoHa have no input of their own that could be dropped: there ``dropout`` is the share of the rows of the weight change.

    Args:
        scale: rank and alpha.
        more: what only a LoRA has.
    """
    rank, alpha = scale
    if kind == "lora":
        return peft.LoraConfig(
            r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(modules), **patterns(ranks, rank, alpha), **more
        )
    # LoKr begins as LyCORIS has it, so that rates found with it mean the same here; peft's own way gives another factor the zeros.
    more |= {"rank_dropout_scale": True, "init_weights": "lycoris"} if kind == "lokr" else {}
    made: type[Any] = LoKrConfig if kind == "lokr" else LoHaConfig
    config: peft.PeftConfig = made(
        r=rank, alpha=alpha, rank_dropout=dropout, target_modules=list(modules), **patterns(ranks, rank, alpha), **options, **more
    )
    return config


def adapted_layers(model: nn.Module, kinds: Collection[str] = tuple(LAYERS)) -> Iterator[tuple[str, Any]]:
    """peft's layers in ``model`` by full name; of nested ones each, the outer first."""
    wanted = tuple(LAYERS[kind] for kind in kinds)
    for name, module in model.named_modules():
        if isinstance(module, wanted):
            yield name, module


def factors(layer: Any, name: str) -> dict[str, Tensor]:
    """The tensors of LoKr's or LoHa's adapter ``name`` on a layer, by peft's names of them."""
    found = {}
    for part in layer.adapter_layer_names:
        holder = getattr(layer, part)
        if name in holder:
            found[part] = holder[name]
    return found


def weight_change(layer: Any, name: str) -> Tensor:
    """The weight change of adapter ``name`` as peft itself computes it: (out, in), float32, CPU."""
    delta: Tensor = layer.get_delta_weight(name).detach().float().cpu()
    return delta.T if getattr(layer, "fan_in_fan_out", False) else delta.flatten(1)
