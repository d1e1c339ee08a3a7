# SPDX-License-Identifier: Apache-2.0
"""The linear layers of a model that an adapter can sit on. Imports torch and transformers when it is used."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import nn

from ..kernels import program
from .targets import match_layers, scanned_layers


def linear_names(model: nn.Module) -> list[str]:
    """The full names of the modules that a LoRA can sit on, without the output head.

    A layer that computes something of its own is none (a router that also returns its choice), nor one whose weights are read past its
    forward pass (Mamba's projection out, which peft refuses).
    """
    head = getattr(model, "get_output_embeddings", lambda: None)()
    scanned = scanned_layers(getattr(getattr(model, "config", None), "model_type", None))
    return [
        name
        for name, module in model.named_modules()
        if _is_linear(module) and module is not head and name.rpartition(".")[2] not in scanned
    ]


# x @ weight.T (+ bias) in other words, by the digest of its statements: Falcon's.
_AS_LINEAR = frozenset({"fe6484dafa540896"})


def _is_linear(module: nn.Module) -> bool:
    """Whether a module multiplies by its weights and does nothing else."""
    kind = type(module)
    if kind in _conv1d():
        return True
    if not isinstance(module, nn.Linear):
        return False
    plain = kind.forward is nn.Linear.forward or kind.__module__.startswith("bitsandbytes.")
    return plain or program.digest(kind.forward) in _AS_LINEAR


def _conv1d() -> tuple[type[nn.Module], ...]:
    """GPT-2's transposed linear layer."""
    from transformers.pytorch_utils import Conv1D

    return (Conv1D,)


def find_targets(model: nn.Module, wanted: str | Sequence[str], among: Collection[str] | None = None) -> list[str]:
    """The full names of the modules that ``lora_target`` means, in the model's order; see ``match_layers``.

    Args:
        among: those that may be chosen; by default every linear layer.
    """
    return match_layers(wanted, [name for name in linear_names(model) if among is None or name in among])


def shortest_names(chosen: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """The last parts of the names if those select exactly ``chosen`` among ``names``, all that could be meant; otherwise the full names.
    Sorted."""
    lasts = {name.rpartition(".")[2] for name in chosen}
    selected = [name for name in names if name.rpartition(".")[2] in lasts]
    return tuple(sorted(lasts)) if set(selected) == set(chosen) else tuple(sorted(chosen))
