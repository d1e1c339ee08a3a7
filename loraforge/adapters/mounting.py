# SPDX-License-Identifier: Apache-2.0
"""Trained adapters on a model: several beside each other, one merged into the weights. Imports torch and peft when it is imported."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..errors import RunError
from ..messages import speaker
from ..plugin_api.adapter import Adapter
from . import exact_names
from .kinds import adapted_layers, factors, peft_config, weight_change
from .peft_format import differs, refuse

say = speaker(__name__)


def load_adapters(model: nn.Module, adapters: Mapping[str, Adapter]) -> None:
    """Loads trained adapters beside each other on ``model``; ``set_adapter`` switches between them.

    Raises:
        RunError: if one does not fit the model.
    """
    for name, adapter in adapters.items():
        more: dict[str, Any] = {"use_dora": adapter.dora} if adapter.kind == "lora" else {}
        config = peft_config(
            adapter.kind, (adapter.rank, adapter.alpha), adapter.modules, adapter.ranks, adapter.options, inference_mode=True, **more
        )
        try:
            exact_names.inject(config, model, name)
            _widen(model, name)
            exact_names.fill(model, adapter.tensors, name)
        except (RuntimeError, ValueError, TypeError) as error:  # another width, or layers that the base has not, or not of that type
            raise RunError(say("the adapter does not fit the base model: {names}", names=" ".join(str(error).split("\n")[:2]))) from None


def _widen(model: nn.Module, name: str) -> None:
    """On a base in float16 the factors of LoKr and LoHa stay float32: their products are of numbers too small for it."""
    for _, layer in adapted_layers(model, ("lokr", "loha")):
        for value in factors(layer, name).values():
            if value.dtype == torch.float16:
                value.data = value.data.float()


def set_adapter(model: nn.Module, adapter: str | Mapping[str, float] | None) -> None:
    """Makes loaded adapters the active ones.

    Args:
        adapter: its name; or several names, each with the strength that multiplies what it does; None: the base alone.
    """
    # DoRA's magnitudes have no strength that peft could set: with 0 the layer would still not be the base's.
    wanted = {adapter: 1.0} if isinstance(adapter, str) else {name: strength for name, strength in (adapter or {}).items() if strength}
    for _, module in adapted_layers(model):
        mine = [name for name in wanted if name in module.scaling]
        module.enable_adapters(bool(mine))
        if mine:
            module.set_adapter(mine, inference_mode=True)
            for name in mine:
                module.set_scale(name, wanted[name])


def unload_adapter(model: nn.Module, name: str) -> None:
    """Takes a loaded adapter off ``model`` and out of memory; the others stay as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft says which adapter it makes active instead
        for _, module in list(adapted_layers(model)):
            if name in module.scaling:
                module.delete_adapter(name)
    configs: Any = getattr(model, "peft_config", None) or {}
    configs.pop(name, None)


def merge(model: nn.Module, adapter: Adapter) -> None:
    """Adds the adapter to the weights of ``model`` (in place) and checks the change of every module against the probes.

    Raises:
        ExportError: if a merged weight is not what was trained.
    """
    load_adapters(model, {"merged": adapter})
    wrong = []
    for name, layer in list(adapted_layers(model)):
        if differs(adapter, name, weight_change(layer, "merged")):
            wrong.append(name)
        layer.merge(safe_merge=True, adapter_names=["merged"])
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, layer.get_base_layer())
    refuse(wrong)
    with contextlib.suppress(AttributeError):  # a merged model is a plain one again
        del model.peft_config
