# SPDX-License-Identifier: Apache-2.0
"""Norms and gated feed-forward blocks of a frozen base in fewer passes and with less kept for the gradient; the same figures.

The modules stay where they are, with their names and weights; only their forward pass is replaced, and only where their own is, statement
for statement, one that was verified.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from loraforge.kernels import frozen

from . import verified


def _normed(x: Tensor, weight: Tensor, inverse: Tensor) -> Tensor:
    """x * inverse * weight, the first product in float32."""
    return weight * (x.float() * inverse).to(x.dtype)


class _Norm(torch.autograd.Function):
    """(x / rms(x) * weight over the last dimension, in float32 as the models do it; 1 / rms(x))."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        inverse = torch.linalg.vector_norm(x.float(), dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        context.save_for_backward(x, weight, inverse)
        context.mark_non_differentiable(inverse)
        return _normed(x, weight, inverse), inverse

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, inverse = context.saved_tensors
        full, given = x.float(), (grad * weight).float()
        dot = (given * full).sum(-1, keepdim=True)  # a product of matrices, one for each row, takes ten times as long
        made = (given * inverse).addcmul_(full, dot * inverse.pow(3) / -x.shape[-1])
        return made.to(x.dtype), None, None


def _gated_by(gate: Tensor, up: Tensor) -> Tensor:
    return nn.functional.silu(gate).mul_(up)


class _Gate(torch.autograd.Function):
    """silu(gate) * up; keeps the two, not the product of the first."""

    @staticmethod
    def forward(context: Any, gate: Tensor, up: Tensor) -> Tensor:
        context.save_for_backward(gate, up)
        return _gated_by(gate, up)

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gate, up = context.saved_tensors
        return torch.ops.aten.silu_backward(grad * up, gate), nn.functional.silu(gate).mul_(grad)


class _FrozenGated(torch.autograd.Function):
    """down(silu(gate(x)) * up(x)) as rows with frozen, plain layers; keeps what comes out of the first two."""

    @staticmethod
    def forward(context: Any, x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        gated, raised = frozen.product(flat, gate), frozen.product(flat, up)
        context.save_for_backward(gated, raised, gate, up, down)
        context.shape = x.shape
        return frozen.product(_gated_by(gated, raised), down)

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gated, raised, gate, up, down = context.saved_tensors
        inner = frozen.gradient(grad, down)
        made = frozen.gradient(nn.functional.silu(gated).mul_(inner), up)
        made += frozen.gradient(torch.ops.aten.silu_backward(inner.mul_(raised), gated), gate)
        return made.view(context.shape), None, None, None


def _norm(module: Any, x: Tensor) -> Tensor:
    epsilon = module.variance_epsilon if hasattr(module, "variance_epsilon") else module.eps
    made, inverse = _Norm.apply(x, module.weight, float(epsilon))  # type: ignore[no-untyped-call]
    return frozen.recompute(made, _normed, x, module.weight, inverse)


def _gated(module: Any, x: Tensor) -> Tensor:
    layers = (module.gate_proj, module.up_proj, module.down_proj)
    plain = all(frozen.is_plain(layer) and layer.bias is None and layer.weight.dtype == x.dtype for layer in layers)
    if plain and not torch.is_autocast_enabled(x.device.type):
        whole: Tensor = _FrozenGated.apply(x, *(layer.weight for layer in layers))  # type: ignore[no-untyped-call]
        return whole.view(x.shape)
    gate, up = module.gate_proj(x), module.up_proj(x)
    made: Tensor = _Gate.apply(gate, up)  # type: ignore[no-untyped-call]
    out: Tensor = module.down_proj(frozen.recompute(made, _gated_by, gate, up))
    return out


def replace(model: nn.Module) -> dict[str, int]:
    """Gives the norms and gated blocks of ``model`` the faster forward pass, in place, where they are, statement for statement, those that
    were verified (``verified``). Each module is looked at: two of one class may differ in what they have.

    Returns:
        how many it was given to, by kind.
    """
    made: dict[tuple[type, Any], type] = {}
    counts = {"norms": 0, "gated blocks": 0}
    for module in model.modules():
        forward = _norm if _is_norm(module) else _gated if _is_gated(module) else None
        if forward is None:
            continue
        kind = type(module)
        key = kind, forward
        if key not in made:
            made[key] = type(f"Fast{kind.__name__}", (kind,), {"forward": forward})
        module.__class__ = made[key]
        counts["norms" if forward is _norm else "gated blocks"] += 1
    return counts


def _is_norm(module: nn.Module) -> bool:
    """Whether this is the verified norm, with a weight that does not learn."""
    weight = getattr(module, "weight", None)
    return verified.is_one_of(module, verified.RMS_NORM) and isinstance(weight, nn.Parameter) and not weight.requires_grad


def _is_gated(module: nn.Module) -> bool:
    """Whether this is the verified gated block, with SiLU as its gate."""
    act = getattr(module, "act_fn", None)
    silu = isinstance(act, nn.Module) and (type(act) is nn.SiLU or verified.is_one_of(act, verified.SILU))
    return silu and verified.is_one_of(module, verified.GATED)
