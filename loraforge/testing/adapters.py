# SPDX-License-Identifier: Apache-2.0
"""A made-up ``Adapter`` for the tests of exporters: small, random, with the probes that a real one has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..plugin_api.types import Adapter

# The weights of a very small language model, (out, in).
LAYERS: Mapping[str, tuple[int, ...]] = {
    f"model.layers.{layer}.self_attn.{name}": (24 if name == "v_proj" else 32, 32) for layer in (0, 1) for name in ("q_proj", "v_proj")
}
CONVOLUTION: Mapping[str, tuple[int, ...]] = {"down_blocks.0.conv1": (16, 8, 3, 3)}


def make_adapter(
    *,
    rank: int = 4,
    alpha: int = 8,
    dora: bool = False,
    conv: bool = False,
    modules: Mapping[str, Sequence[int]] | None = None,
    ranks: Mapping[str, int] | None = None,
    base_model: str = "tiny-chat",
    facts: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None,
    seed: int = 0,
) -> Adapter:
    """An adapter as a run hands it to exporters, without a run: each matrix random, each probe that of its own module.

    Args:
        dora: with magnitudes.
        conv: with a 3x3 convolution, whose rank is half of the others'.
        modules: the shape of the adapted weight by module, (out, in) or (out, in, height, width), if your format needs its own names.
        ranks: the modules whose rank is another, with that rank.
        facts: beside name, task, family and template.
        seed: equal seeds make equal adapters.
    """
    import torch

    from ..adapters.lora import probe, shortest_names

    shapes: dict[str, Sequence[int]] = {**(LAYERS if modules is None else modules), **(CONVOLUTION if conv else {})}
    own = {**({name: max(1, rank // 2) for name in CONVOLUTION} if conv else {}), **(ranks or {})}
    own = {name: number for name, number in own.items() if number != rank}
    generator = torch.Generator().manual_seed(seed)
    tensors, probes = {}, {}
    for name, (out, *inner) in shapes.items():
        rows = own.get(name, rank)
        a = torch.randn(rows, *inner, generator=generator)
        b = torch.randn(out, rows, *(1 for _ in inner[1:]), generator=generator)
        tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"] = a, b
        if dora:
            tensors[f"{name}.lora_magnitude_vector"] = torch.rand(out, generator=generator) + 0.5
        probes[name] = probe(name, alpha / rank * b.flatten(1) @ a.flatten(1))
    known = {"name": "made-up", "task": "text", "family": "causal-lm", "peft_task_type": "CAUSAL_LM", "template": {"name": "chatml"}}
    return Adapter(
        tensors=dict(sorted(tensors.items())),
        rank=rank,
        alpha=alpha,
        targets=shortest_names(list(shapes), list(shapes)),
        probes=probes,
        base_model=base_model,
        dora=dora,
        ranks=own,
        facts={**known, "variant": "dora" if dora else "lora", "config": {}, **(facts or {})},
        files=dict(files or {}),
    )
