"""Norms and gated feed-forward blocks of a frozen base in fewer passes and with less kept for the gradient; the same figures.

The modules stay where they are, with their names and weights; only their forward pass is exchanged, and only where a comparison on random
numbers shows that it does the same as the model's own code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from loraforge.kernels import frozen


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
    """down(silu(gate(x)) * up(x)) with frozen, plain layers; keeps what comes out of the first two."""

    @staticmethod
    def forward(context: Any, x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        gated, raised = frozen.product(flat, gate), frozen.product(flat, up)
        context.save_for_backward(gated, raised, gate, up, down)
        return frozen.product(_gated_by(gated, raised), down).view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gated, raised, gate, up, down = context.saved_tensors
        inner = frozen.gradient(grad.reshape(-1, grad.shape[-1]), down)
        made = frozen.gradient(nn.functional.silu(gated).mul_(inner), up)
        made += frozen.gradient(torch.ops.aten.silu_backward(inner.mul_(raised), gated), gate)
        return made.view(grad.shape), None, None, None


def _norm(module: Any, x: Tensor) -> Tensor:
    epsilon = module.variance_epsilon if hasattr(module, "variance_epsilon") else module.eps
    made, inverse = _Norm.apply(x, module.weight, float(epsilon))  # type: ignore[no-untyped-call]
    return frozen.recompute(made, _normed, x, module.weight, inverse)


def _gated(module: Any, x: Tensor) -> Tensor:
    layers = (module.gate_proj, module.up_proj, module.down_proj)
    plain = all(frozen.is_plain(layer) and layer.bias is None and layer.weight.dtype == x.dtype for layer in layers)
    if plain and not torch.is_autocast_enabled(x.device.type):
        whole: Tensor = _FrozenGated.apply(x, *(layer.weight for layer in layers))  # type: ignore[no-untyped-call]
        return whole
    gate, up = module.gate_proj(x), module.up_proj(x)
    made: Tensor = _Gate.apply(gate, up)  # type: ignore[no-untyped-call]
    out: Tensor = module.down_proj(frozen.recompute(made, _gated_by, gate, up))
    return out


def replace(model: nn.Module) -> int:
    """Gives the blocks of ``model`` the faster forward pass, in place.

    Returns:
        how many it was given to.
    """
    made: dict[type, type | None] = {}
    count = 0
    for module in model.modules():
        kind = type(module)
        if kind not in made:
            made[kind] = _faster(module)
        better = made[kind]
        if better is not None:
            module.__class__ = better
            count += 1
    return count


def _faster(module: nn.Module) -> type | None:
    """A subclass of the module's class with a faster forward pass; None where there is none, or it would not do the same."""
    weight = getattr(module, "weight", None)
    forward: Callable[[Any, Tensor], Tensor]
    width: int
    if type(module).__name__.endswith("RMSNorm") and isinstance(weight, nn.Parameter) and not weight.requires_grad:
        forward, width, like = _norm, weight.shape[-1], weight
    elif any(isinstance(part, nn.Dropout) and part.p for name, part in module.named_modules() if "lora_" not in name):
        return None  # the comparison below, without dropout, would not show it
    elif all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj")) and hasattr(module.gate_proj, "in_features"):
        forward, width, like = _gated, cast(int, module.gate_proj.in_features), next(module.parameters())
    else:
        return None
    generator = torch.Generator().manual_seed(0)
    dtype = like.dtype if like.is_floating_point() else torch.float32
    sample = torch.randn((1, 3, width), generator=generator).to(like.device, dtype)
    was = module.training
    module.eval()
    try:
        with torch.no_grad():
            same = torch.allclose(
                forward(module, sample).float(), module(sample).float(), rtol=2e-2 if dtype != torch.float32 else 1e-4, atol=1e-5
            )
    except (RuntimeError, TypeError, ValueError, AttributeError):
        return None
    finally:
        module.train(was)
    return type(f"Fast{type(module).__name__}", (type(module),), {"forward": forward}) if same else None
