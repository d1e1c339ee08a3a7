# SPDX-License-Identifier: Apache-2.0
"""Puts peft's layers on exactly the modules that are named. Imports torch and peft when it is imported.

Since transformers 5 the routed experts of many bases are single weights without layers of their own. So that adapters of earlier versions
can still be read, peft takes the names ``gate_proj``, ``up_proj`` and ``down_proj`` of such bases for these weights, wherever they stand:
a dense or a shared expert beside them, which is a layer like any other, can then not be named as a module. It can be named as the
parameter ``….gate_proj.weight``, which peft reads as the same pair of matrices on the same weight.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import peft
import torch
from peft.utils.transformers_weight_conversion import convert_peft_adapter_state_dict_for_transformers, convert_peft_config_for_transformers
from torch import Tensor, nn

# Where the name of a module ends and that of one of its tensors begins.
_PART = re.compile(r"\.(?=(?:lora|lokr|hada)_\w+(?:\.weight)?$)")


def taken_for_experts(model: nn.Module, names: Sequence[str]) -> tuple[str, ...]:
    """Those of ``names`` that peft, asked for these modules of ``model``, would take for fused experts. Sorted."""
    moved = {last for last in {name.rpartition(".")[2] for name in names} if _moves(model, last)}
    return tuple(sorted(name for name in names if name.rpartition(".")[2] in moved))


def _moves(model: nn.Module, name: str) -> bool:
    config = peft.LoraConfig(target_modules=[name])
    try:
        convert_peft_config_for_transformers(config, model=model, conversions=None)
    except ValueError:  # it is half of a fused weight
        return True
    return set(config.target_modules or ()) != {name}


@contextlib.contextmanager
def _as_named(model: nn.Module) -> Iterator[None]:
    """While it lasts, peft does not know what kind of model this is, and changes no name."""
    config: Any = getattr(model, "config", None)
    if not isinstance(getattr(config, "model_type", None), str):
        yield
        return
    own = "model_type" in vars(config)
    before = config.model_type
    config.model_type = ""
    try:
        yield
    finally:
        if own:
            config.model_type = before
        else:
            del config.model_type


def inject(config: peft.PeftConfig, model: nn.Module, name: str) -> None:
    """Puts an adapter called ``name`` on ``model`` (in place), on the modules whose full names ``config`` gives.

    Raises:
        ValueError: if the model has not all of them.
    """
    with warnings.catch_warnings(), _as_named(model):
        warnings.simplefilter("ignore")  # peft warns that it sets fan_in_fan_out for GPT-2 by itself
        peft.inject_adapter_in_model(config, model, adapter_name=name)


def fill(model: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Copies ``tensors``, named as in ``Adapter``, into the adapter called ``name``.

    Raises:
        ValueError: if the model has no such layer, or one of another width.
    """
    problems = []
    for key, tensor in tensors.items():
        module, part = _PART.split(key, maxsplit=1)[:2]
        weight = _weight(model, module, part.removesuffix(".weight"), name)
        if weight is None:
            problems.append(module)
            continue
        if weight.numel() != tensor.numel() or (tensor.ndim > 1 and weight.shape != tensor.shape):
            problems.append(f"{module}: {tuple(tensor.shape)}, {tuple(weight.shape)}")
            continue
        with torch.no_grad():
            weight.copy_(tensor.reshape(weight.shape))
    if problems:
        raise ValueError(", ".join(dict.fromkeys(problems)))


def _weight(model: nn.Module, module: str, part: str, name: str) -> Any:
    """The tensor called ``part`` (``lora_A``, ``lokr_w1``) of the adapter ``name`` on ``module``, where several of peft's layers may be
    nested; None if there is none."""
    try:
        layer: Any = model.get_submodule(module)
    except AttributeError:
        return None
    while layer is not None:
        holder = getattr(layer, part, None)
        if holder is not None and name in holder:
            return getattr(holder[name], "weight", holder[name])
        layer = getattr(layer, "base_layer", None)
    return None


def misread(model: nn.Module, names: Sequence[str]) -> tuple[str, ...]:
    """Those of ``names`` that peft would take for other modules when it loads an adapter of ``model`` from a file, and leave out. Sorted.

    It renames what it finds there as transformers renames the weights of such a base, and some of these rules go wrong on a new name.
    """
    keys = {f"base_model.model.{name}.lora_{part}.weight": name for name in names for part in "AB"}
    given = {key: torch.zeros(1, 1) for key in keys}
    try:
        read = convert_peft_adapter_state_dict_for_transformers(model=model, peft_config=peft.LoraConfig(), adapter_state_dict=given)
    except Exception:  # rules that want tensors of other shapes: none of them is about a layer that is there
        return ()
    return tuple(sorted({name for key, name in keys.items() if key not in read}))
