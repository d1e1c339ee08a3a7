# SPDX-License-Identifier: Apache-2.0
"""Attention and feed-forward blocks of a frozen U-Net in fewer passes and with less kept for the gradient; the same figures.

diffusers' U-Net stays as it is: the processors of its attention, which it lets one exchange, and the forward pass of its gated blocks are
ours. On AMD's processors torch's attention reads heads that lie apart in memory, and heads whose width is no multiple of 16, two to three
times more slowly than it could, so both are put right in one copy; on Intel's that gains nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from loraforge.kernels import frozen, program

from . import blockwise_attention

# diffusers' attention (``AttnProcessor2_0.__call__``) and gate (``GEGLU.forward``, ``.gelu``) that ours stand for: ``program.digest``,
# the same from 0.36 to 0.42.
_ATTENTION = frozenset({"c93d8cdc6095b8a2"})
_GATE = frozenset({"1b45d69ee95e76d0"}), frozenset({"af43e22c89e0b9e6"})

_LANES = 16  # float32 numbers that a CPU works on at once


def _widened(apart: Tensor) -> Tensor:
    """Heads, (rows, heads, tokens, width), as torch's attention reads them best: except where MKL is at home and reads them as they are,
    each in one piece, on a CPU widened to whole lanes with zeros."""
    if apart.device.type == "cpu" and not frozen.onednn_is_faster():
        return apart
    missing = -apart.shape[-1] % _LANES if apart.device.type == "cpu" else 0
    return nn.functional.pad(apart, (0, missing)) if missing else apart.contiguous()


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention without a mask, of and to (rows, heads, tokens, width)."""
    if blockwise_attention.pays(query, key):
        return blockwise_attention.attend(query, key, value)
    width = query.shape[-1]
    # The scale belongs to the width before it was widened; zeros change neither the products nor the sums.
    query, key, value = _widened(query), _widened(key), _widened(value)
    return nn.functional.scaled_dot_product_attention(query, key, value, scale=width**-0.5)[..., :width]


class FastAttention:
    """A processor for diffusers' ``Attention`` in the blocks of Stable Diffusion."""

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *others: Any, **named: Any) -> Tensor:
        """(rows, tokens, channels) of both -> the same shape as ``hidden_states``."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        projected = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        heads = [x.view(*x.shape[:-1], attn.heads, -1).transpose(1, 2) for x in projected]
        out: Tensor = attn.to_out[0](_attend(*heads).transpose(1, 2).flatten(2))
        return attn.to_out[1](out)  # type: ignore[no-any-return]


class _Gate(torch.autograd.Function):
    """The first half of the channels times gelu of the second; keeps their input only."""

    @staticmethod
    def forward(context: Any, both: Tensor) -> Tensor:
        context.save_for_backward(both)
        return _gated_by(both)

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad: Tensor) -> Tensor:
        (both,) = context.saved_tensors
        value, gate = both.chunk(2, -1)
        made = torch.empty_like(both)
        of_value, of_gate = made.chunk(2, -1)
        torch.mul(nn.functional.gelu(gate), grad, out=of_value)
        torch.ops.aten.gelu_backward.grad_input(grad * value, gate, approximate="none", grad_input=of_gate)
        return made


def _gated(module: Any, hidden_states: Tensor, *others: Any, **named: Any) -> Tensor:
    both = module.proj(hidden_states)
    made: Tensor = _Gate.apply(both)  # type: ignore[no-untyped-call]
    return frozen.recompute(made, _gated_by, both)


def _gated_by(both: Tensor) -> Tensor:
    value, gate = both.chunk(2, -1)
    return nn.functional.gelu(gate).mul_(value)


class _Silu(torch.autograd.Function):
    """silu, which keeps what its input can be made of."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        context.recompute, needed = frozen.to_keep(x)
        context.save_for_backward(*needed)
        return nn.functional.silu(x)

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad: Tensor) -> Tensor:
        needed = context.saved_tensors
        x = needed[0] if context.recompute is None else context.recompute(*needed)
        made: Tensor = torch.ops.aten.silu_backward(grad, x)
        return made


def _silu(module: Any, input: Tensor) -> Tensor:
    made: Tensor = _Silu.apply(input)  # type: ignore[no-untyped-call]
    return made


def _normed(module: Any, input: Tensor) -> Tensor:
    """What a norm makes can be made once more from its input, which is kept for its own gradient anyway."""
    made: Tensor = super(type(module), module).forward(input)
    if torch.is_autocast_enabled(input.device.type):
        return made  # the backward pass is outside of it
    return frozen.recompute(made, super(type(module), module).forward, input)


def replace(unet: nn.Module) -> int:
    """Replaces the attention, the gated blocks and the norms of ``unet``, in place, where they are the plain ones.

    Returns:
        how many.
    """
    from diffusers.models.activations import GEGLU
    from diffusers.models.attention_processor import Attention, AttnProcessor2_0

    faster: dict[type, type] = {
        kind: type(f"Fast{kind.__name__}", (kind,), {"forward": forward})
        for kind, forward in ((GEGLU, _gated), (nn.SiLU, _silu), (nn.GroupNorm, _normed), (nn.LayerNorm, _normed))
    }
    if program.digest(GEGLU.forward) not in _GATE[0] or program.digest(GEGLU.gelu) not in _GATE[1]:
        del faster[GEGLU]
    known = program.digest(AttnProcessor2_0.__call__) in _ATTENTION
    count = 0
    for module in unet.modules():
        if known and isinstance(module, Attention) and type(module.processor) is AttnProcessor2_0 and _plain(module):
            module.set_processor(FastAttention())
            count += 1
        elif type(module) in faster and _usual(module):
            module.__class__ = faster[type(module)]
            count += 1
    return count


def _usual(module: nn.Module) -> bool:
    """Whether a gate computes in the type of its input, as on these devices, and a norm or an activation does not learn."""
    if hasattr(module, "proj"):
        return next(module.parameters()).device.type in ("cpu", "cuda")
    return not any(p.requires_grad for p in module.parameters())


def _plain(attn: Any) -> bool:
    """Whether an attention has none of the parts that the processor leaves out."""
    parts = ("spatial_norm", "group_norm", "norm_cross", "norm_q", "norm_k")
    return (
        all(getattr(attn, part, None) is None for part in parts)
        and not attn.residual_connection
        and attn.rescale_output_factor == 1
        and getattr(attn, "fused_projections", False) is False
    )
