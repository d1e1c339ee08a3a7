# SPDX-License-Identifier: Apache-2.0
"""LoKr and LoHa in a WebUI's file: LyCORIS' layout, whose tensors have the names that peft gives them.

Readers multiply by alpha / rank, and find the rank in a factor that is a product itself. Where no factor is one (LoKr of two whole
matrices) they multiply by nothing, whatever alpha says; LyCORIS' own loader wants an alpha there all the same, and its merging (4.1.3)
multiplies twice. So the scale stands in the first factor of every module, and alpha is the rank, by which each of them multiplies by one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from loraforge import Adapter

from ..families.webui_format import WebuiFormat

# The factors that are multiplied, matrix by matrix: what one loses in float16 the other can hold.
_FIRST = ("lokr_w1", "lokr_w1_a", "hada_w1_a")  # exactly one of them is in every module
_PAIRS = (
    *(("lokr_w1_a", "lokr_w1_b"), ("lokr_w2_a", "lokr_w2_b"), ("lokr_w1", "lokr_w2")),
    *(("hada_w1_a", "hada_w1_b"), ("hada_w2_a", "hada_w2_b")),
)


def layers(modules: Iterable[str], webui: WebuiFormat) -> dict[str, tuple[str, ...]]:
    """The file's name of every module. A layer of the original model that holds several of diffusers' has no place for their factors, as
    these cannot be stacked: a file with one has diffusers' names throughout, which ComfyUI takes for a part of the layer.

    Raises:
        ValueError: whose arguments are the modules that have no name.
    """
    given = list(modules)
    found = webui.layers(given)
    if any(len(parts) > 1 for parts in found.values()):
        return {module: (module,) for module in given}
    return found


def tensors(adapter: Adapter, module: str, balance: Any) -> dict[str, Any]:
    """The tensors of one module by their endings, float32, and ``alpha``, a number.

    Args:
        balance: makes two factors of about one size without changing their product; None: they stay as they are.
    """
    start = f"{module}."
    parts = {name.removeprefix(start): value for name, value in adapter.tensors.items() if name.startswith(start)}
    if balance is not None:
        for one, other in _PAIRS:
            if one in parts and other in parts:
                parts[one], parts[other] = balance(parts[one], parts[other])
    first = next(name for name in _FIRST if name in parts)
    scaled = {**parts, first: adapter.alpha / adapter.rank * parts[first]}
    return {**scaled, "alpha": float(adapter.ranks.get(module, adapter.rank))}


def delta(adapter: Adapter, module: str, read: Mapping[str, Any]) -> Any:
    """What a reader of LyCORIS' files adds to the weight of ``module``, (out, in).

    Args:
        read: its tensors by their endings, as they stand in the file.
    """
    parts = {f"{module}.{name}": value.float() for name, value in read.items() if name != "alpha"}
    rank = _rank(read)
    scale = float(read["alpha"]) / rank if "alpha" in read and rank is not None else 1.0
    return scale * dataclasses.replace(adapter, tensors=parts, rank=1, alpha=1).delta(module)


def arguments(adapter: Adapter) -> dict[str, str]:
    """``ss_network_args`` as LyCORIS' own trainer writes them."""
    said = {"algo": adapter.kind}
    if adapter.kind == "lokr":
        factor, both = adapter.options.get("decompose_factor", -1), adapter.options.get("decompose_both", False)
        said |= {"factor": str(factor), "decompose_both": str(both)}
    return said


def _rank(parts: Mapping[str, Any]) -> int | None:
    """What readers divide alpha by; None: they do not."""
    found = next((parts[name] for name in ("lokr_w2_b", "lokr_w1_b", "hada_w1_b") if name in parts), None)
    return None if found is None else int(found.shape[0])
