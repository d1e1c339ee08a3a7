# SPDX-License-Identifier: Apache-2.0
"""How strong a module of a LoRA file is: its kind, rank and scale, and the norm of what it does to its layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# Numbers that are computed with at a time, in float64: 1 GB. The largest layers of FLUX stay below; beyond lies nobody's LoRA, but
# shapes that were made to fill a machine's memory.
_LARGEST = 1 << 27
_PIECE = 1 << 22


def measure(tensors: Mapping[str, Any], stored: float | None, rooted: bool) -> dict[str, Any]:
    """Kind, rank, alpha, scale and norm of one module.

    Args:
        tensors: by what they are ("down", "up", "alpha", ...).
        stored: the alpha that the adapter's config has for it.
        rooted: whether alpha is divided by the rank's root (PEFT's rsLoRA).

    Returns:
        Values for ``Module``. The norm is exact: ``||B A||^2`` is the sum of ``(B^T B) * (A A^T)``, without a matrix of the layer's size.
    """
    alpha = float(tensors["alpha"]) if "alpha" in tensors and tensors["alpha"].numel() == 1 else stored
    figures: dict[str, Any] = {
        "kind": _kind(tensors), "dora": "dora" in tensors, "mid": bool({"mid", "hada_t1", "lokr_t2"} & set(tensors)),
        "rank": None, "alpha": alpha, "scale": None, "norm": None, "fault": "",
    }  # fmt: skip
    if "alpha" in tensors and tensors["alpha"].numel() != 1:
        return {**figures, "scale": 1.0, "fault": "shapes"}
    if not _complete(tensors, figures["kind"]):
        return {**figures, "fault": "incomplete"}
    rank = _rank(tensors, figures["kind"])
    # Where nothing was factored there is no rank to divide by.
    scale = 1.0 if alpha is None or rank is None else alpha / max(math.sqrt(rank) if rooted else rank, 1)
    if "scale" in tensors and tensors["scale"].numel() == 1:
        scale = float(tensors["scale"])
    figures.update(rank=rank, scale=scale if math.isfinite(scale) else None)
    try:
        _bound(*(t.numel() for t in tensors.values()))
        numbers = {name: t.double() for name, t in tensors.items()}
        size = _size(numbers, figures["kind"])
        # A change of the bias or of a norm's weights stands beside the product, and no scale applies to it.
        beside = _together(numbers, ("diff_b", "w_norm", "b_norm"))
    except OverflowError:
        return figures
    except (RuntimeError, IndexError, ValueError):  # shapes that do not belong together
        return {**figures, "fault": "shapes"}
    norm = math.hypot(scale * size, beside) if size is not None else None
    return {**figures, "norm": norm if norm is not None and math.isfinite(norm) else None}


def _bound(*numbers: int) -> None:
    """Raises:
    OverflowError: if there are more than can be meant.
    """
    if sum(numbers) > _LARGEST:
        raise OverflowError


def _kind(tensors: Mapping[str, Any]) -> str:
    for sign, kind in (("ia3", "ia3"), ("on_input", "ia3"), ("a1", "glora"), ("oft_r", "oftv2"), ("boft_r", "boft")):
        if sign in tensors:
            return kind
    if "oft_blocks" in tensors and tensors["oft_blocks"].dim() == 4:
        return "boft"
    for start, kind in (("hada_", "loha"), ("lokr_", "lokr"), ("oft_", "oft")):
        if any(t.startswith(start) for t in tensors):
            return kind
    return "lora" if {"down", "up"} & set(tensors) or not {"diff", "diff_b", "w_norm", "b_norm"} & set(tensors) else "full"


def _complete(tensors: Mapping[str, Any], kind: str) -> bool:
    has = set(tensors)
    if kind == "lora":
        return {"down", "up"} <= has
    if kind == "glora":
        return {"a1", "a2", "b1", "b2"} <= has
    if kind == "ia3":
        return {"ia3", "on_input"} <= has
    if kind == "loha":
        return {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"} <= has
    if kind == "lokr":
        return all({f"lokr_{w}"} <= has or {f"lokr_{w}_a", f"lokr_{w}_b"} <= has for w in ("w1", "w2"))
    return True


def _rank(tensors: Mapping[str, Any], kind: str) -> int | None:
    """The number that alpha is divided by; None where nothing is factored."""
    carrier = {"lora": ("down",), "loha": ("hada_w1_b",), "lokr": ("lokr_w1_b", "lokr_w2_b")}.get(kind, ())
    found = next((tensors[name] for name in carrier if name in tensors), None)
    return int(found.shape[0]) if found is not None and found.dim() else None


def _size(tensors: Mapping[str, Any], kind: str) -> float | None:
    """The Frobenius norm before scaling; None for kinds whose change depends on the base."""
    if kind == "lora" and "mid" in tensors:
        up, mid, down = tensors["up"].flatten(1), tensors["mid"].flatten(2), tensors["down"].flatten(1)
        _bound(up.shape[1] ** 2, down.shape[0] ** 2)
        # Sum over the kernel's places of ||U M D||^2 = tr(M^T (U^T U) M (D D^T)).
        return _root(_einsum("npk,nm,mqk,pq->", mid, up.T @ up, mid, down @ down.T))
    if kind == "lora":
        return _product(tensors["up"].flatten(1), tensors["down"].flatten(1))
    if kind == "loha":
        return _hadamard(tensors)
    if kind == "lokr":  # the norm of a Kronecker product is the product of the norms
        return _factor(tensors, "w1") * _factor(tensors, "w2")
    return _together(tensors, ("diff",)) if kind == "full" else None


def _together(tensors: Mapping[str, Any], names: tuple[str, ...]) -> float:
    return math.hypot(*(float(tensors[name].norm()) for name in names if name in tensors))


def _root(square: Any) -> float:
    return math.sqrt(max(float(square), 0.0))


def _einsum(equation: str, *operands: Any) -> Any:
    import torch

    return torch.einsum(equation, *operands)


def _product(up: Any, down: Any) -> float:
    """``||up @ down||`` for [out, r] and [r, in], by whichever way makes the smaller matrices."""
    if up.shape[1] != down.shape[0]:
        raise ValueError
    _bound(min(up.shape[1] ** 2, up.shape[0] * down.shape[1]))
    if up.shape[1] ** 2 > up.shape[0] * down.shape[1]:
        return float((up @ down).norm())
    return _root(((up.T @ up) * (down @ down.T)).sum())


def _hadamard(tensors: Mapping[str, Any]) -> float:
    """LoHa: the norm of ``(w1_a w1_b) * (w2_a w2_b)``, in bands of rows."""
    a1, b1, a2, b2 = (tensors[f"hada_{name}"] for name in ("w1_a", "w1_b", "w2_a", "w2_b"))
    if "hada_t1" in tensors and "hada_t2" in tensors:
        return float((_folded(tensors["hada_t1"], b1, a1) * _folded(tensors["hada_t2"], b2, a2)).norm())
    b1, b2 = b1.flatten(1), b2.flatten(1)
    if a1.shape[1] != b1.shape[0] or a2.shape[1] != b2.shape[0] or a1.shape[0] != a2.shape[0] or b1.shape[1] != b2.shape[1]:
        raise ValueError
    _bound(a1.shape[0] * b1.shape[1])
    band = max(1, _PIECE // max(1, b1.shape[1]))
    return _root(sum(float(((a1[i : i + band] @ b1) * (a2[i : i + band] @ b2)).square().sum()) for i in range(0, a1.shape[0], band)))


def _folded(core: Any, inner: Any, outer: Any) -> Any:
    """A convolution of LyCORIS in three factors: [r, s, k, l], [s, in], [r, out] -> [out, in, k, l]."""
    _bound(core.numel() // max(1, core.shape[1]) * inner.shape[1], outer.shape[1] * inner.shape[1] * core[0, 0].numel())
    return _einsum("ijkl,jr,ip->prkl", core, inner, outer)


def _factor(tensors: Mapping[str, Any], name: str) -> float:
    """The norm of one factor of a LoKr, which may itself be factored."""
    if f"lokr_{name}" in tensors:
        return float(tensors[f"lokr_{name}"].norm())
    a, b = tensors[f"lokr_{name}_a"], tensors[f"lokr_{name}_b"]
    if name == "w2" and "lokr_t2" in tensors:
        return float(_folded(tensors["lokr_t2"], b, a).norm())
    return _product(a.flatten(1), b.flatten(1))
