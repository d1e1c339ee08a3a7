"""Attention and feed-forward blocks of a frozen U-Net in fewer passes and with less kept for the gradient; the same figures.

diffusers' U-Net stays as it is: the processors of its attention, which it lets one exchange, and the forward pass of its gated blocks are
ours. torch's attention on a CPU reads heads that lie apart in memory, and heads whose width is no multiple of 16, two to three times more
slowly than it could, so both are put right in one copy.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_LANES = 16  # float32 numbers that a CPU works on at once


def _heads(x: Tensor, heads: int) -> Tensor:
    """(rows, tokens, channels) -> (rows, heads, tokens, width), each head in one piece; on a CPU widened to whole lanes with zeros."""
    apart = x.view(*x.shape[:-1], heads, -1).transpose(1, 2)
    missing = -apart.shape[-1] % _LANES if x.device.type == "cpu" else 0
    return nn.functional.pad(apart, (0, missing)) if missing else apart.contiguous()


class LeanAttention:
    """A processor for diffusers' ``Attention`` in the blocks of Stable Diffusion."""

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *others: Any, **named: Any) -> Tensor:
        """(rows, tokens, channels) of both -> the same shape as ``hidden_states``."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (_heads(x, attn.heads) for x in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)))
        width = attn.to_v.out_features // attn.heads
        # The scale belongs to the width before it was widened; zeros change neither the products nor the sums.
        made = nn.functional.scaled_dot_product_attention(query, key, value, scale=width**-0.5)
        out: Tensor = attn.to_out[0](made[..., :width].transpose(1, 2).flatten(2))
        return attn.to_out[1](out)  # type: ignore[no-any-return]


class _Gate(torch.autograd.Function):
    """The first half of the channels times gelu of the second; keeps their input only."""

    @staticmethod
    def forward(context: Any, both: Tensor) -> Tensor:
        context.save_for_backward(both)
        value, gate = both.chunk(2, -1)
        return nn.functional.gelu(gate).mul_(value)

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad: Tensor) -> Tensor:
        (both,) = context.saved_tensors
        value, gate = both.chunk(2, -1)
        return torch.cat([nn.functional.gelu(gate).mul_(grad), torch.ops.aten.gelu_backward(grad * value, gate)], -1)


def _gated(module: Any, hidden_states: Tensor, *others: Any, **named: Any) -> Tensor:
    made: Tensor = _Gate.apply(module.proj(hidden_states))  # type: ignore[no-untyped-call]
    return made


def exchange(unet: nn.Module) -> int:
    """Exchanges the attention and the gated blocks of ``unet``, in place, where they are the plain ones.

    Returns:
        how many.
    """
    from diffusers.models.activations import GEGLU
    from diffusers.models.attention_processor import Attention, AttnProcessor2_0

    leaner = type("LeanGEGLU", (GEGLU,), {"forward": _gated})
    count = 0
    for module in unet.modules():
        if isinstance(module, Attention) and type(module.processor) is AttnProcessor2_0 and _plain(module):
            module.set_processor(LeanAttention())
            count += 1
        elif type(module) is GEGLU and next(module.parameters()).device.type in ("cpu", "cuda"):
            module.__class__ = leaner
            count += 1
    return count


def _plain(attn: Any) -> bool:
    """Whether an attention has none of the parts that the processor leaves out."""
    parts = ("spatial_norm", "group_norm", "norm_cross", "norm_q", "norm_k")
    return (
        all(getattr(attn, part, None) is None for part in parts)
        and not attn.residual_connection
        and attn.rescale_output_factor == 1
        and getattr(attn, "fused_projections", False) is False
    )
