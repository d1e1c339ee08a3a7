# SPDX-License-Identifier: Apache-2.0
"""LoRA on linear layers and 1x1 convolutions in fewer passes over memory than peft's own forward; the same parameters and results.

peft computes base, dropout, A, B, the scale and the sum one after the other, and autograd keeps what each needs. Here they are one:
the scale goes into the narrow product, the sum into the base's own output, of dropout only the mask is kept, and nothing is computed for
the frozen weight. Whatever is not a plain LoRA on a plain layer (DoRA, 4 bits, several adapters at once) goes peft's way.
"""

from __future__ import annotations

from typing import Any

import numpy
import peft.tuners.lora.layer as peft_layers
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from . import program
from .frozen import gradient, product, to_keep

# peft's forward passes for linear layers and convolutions that ours stand for (``program.digest``), the same from 0.18 to 0.21.
_VERIFIED = frozenset({"883865a2889afa79", "4787119c5a45e3dd"})


def _only(layer: Any, kind: type[Any]) -> str | None:
    """The only active adapter of ``layer``, if it is a plain LoRA on a frozen layer of exactly this kind."""
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    if layer.disable_adapters or layer.merged or len(active) != 1 or type(layer.base_layer) is not kind:
        return None
    (name,) = active
    frozen = not layer.base_layer.weight.requires_grad and layer.base_layer.weight.is_floating_point()
    return name if frozen and name not in layer.lora_variant and layer.lora_B[name].bias is None else None


class FastLoraLinear(peft_layers.Linear):  # type: ignore[misc]
    """``peft.tuners.lora.Linear`` with a faster forward pass."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """(..., in) -> (..., out)."""
        name = self._plain() if not args and not kwargs else None
        base = self.base_layer
        if name is not None and torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        if name is None or x.dtype != base.weight.dtype:
            other: Tensor = super().forward(x, *args, **kwargs)
            return other
        dropout = self.lora_dropout[name]
        share = float(dropout.p) if self.training and isinstance(dropout, nn.Dropout) else 0.0
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        flat: Tensor = _LoraLinear.apply(x, base.weight, base.bias, a, b, float(self.scaling[name]), share)  # type: ignore[no-untyped-call]
        # The view is made out here: what is one already inside of a function may not be changed in place (OLMo's clamp).
        return flat.view(*x.shape[:-1], -1)

    def _plain(self) -> str | None:
        """The only active adapter, if it and the layer are plain."""
        return _only(self, nn.Linear)


class FastLoraConv2d(peft_layers.Conv2d):  # type: ignore[misc]
    """``peft.tuners.lora.Conv2d`` on a 1x1 convolution, which is a linear layer on channels."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """(rows, in, height, width) -> (rows, out, height, width)."""
        name = self._plain() if not args and not kwargs else None
        base = self.base_layer
        if name is not None and torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        if name is None or x.dtype != base.weight.dtype:
            other: Tensor = super().forward(x, *args, **kwargs)
            return other
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        made: Tensor = _LoraChannels.apply(x, base.weight, base.bias, a, b, float(self.scaling[name]))  # type: ignore[no-untyped-call]
        return made

    def _plain(self) -> str | None:
        """The only active adapter, if it and the layer are plain, and nothing is dropped."""
        name = _only(self, nn.Conv2d)
        dropped = name is not None and self.training and isinstance(self.lora_dropout[name], nn.Dropout)
        return None if dropped else name


def replace(model: nn.Module) -> int:
    """Gives peft's LoRA layers in ``model`` the faster forward pass, in place, where they have one.

    Returns:
        how many it was given to.
    """
    count = 0
    for layer in model.modules():
        if "forward" in vars(layer) or program.digest(type(layer).forward) not in _VERIFIED:
            continue
        if type(layer) is peft_layers.Linear:
            layer.__class__ = FastLoraLinear
        elif type(layer) is peft_layers.Conv2d and _is_pointwise(layer.base_layer):
            layer.__class__ = FastLoraConv2d
        else:
            continue
        count += 1
    return count


def _is_pointwise(convolution: Any) -> bool:
    plain = convolution.kernel_size == convolution.stride == convolution.dilation == (1, 1)
    return bool(plain and convolution.padding == (0, 0) and convolution.groups == 1)


def _mask(x: Tensor, share: float) -> tuple[Tensor, float]:
    """(what of ``x`` is kept, the share that is kept), about ``share`` being dropped."""
    if x.device.type != "cpu":
        return torch.empty(x.shape, dtype=torch.uint8, device=x.device).bernoulli_(1 - share), 1 - share
    # torch draws one number after the other, and slowly. It gives the seed; out of each number of numpy's come four decisions of 16 bits.
    seed = int(torch.empty((), dtype=torch.int64).random_())
    drawn = numpy.random.Generator(numpy.random.SFC64(seed)).integers(-(2**63), 2**63 - 1, (x.numel() + 3) // 4, endpoint=True)
    dropped = round(share * 2**16)
    kept = drawn.view(numpy.int16)[: x.numel()] >= dropped - 2**15
    return torch.from_numpy(kept.view(numpy.uint8)).view(x.shape), 1 - dropped / 2**16


def _packed(mask: Tensor) -> Tensor:
    """A mask to be kept: on a CPU a bit for each number."""
    return torch.from_numpy(numpy.packbits(mask.numpy())) if mask.device.type == "cpu" else mask


def _unpacked(mask: Tensor, x: Tensor) -> Tensor:
    """The mask of ``x``, in the type of ``x``: two passes of one type are faster than one of two."""
    if mask.device.type == "cpu":
        mask = torch.from_numpy(numpy.unpackbits(mask.numpy(), count=x.numel())).view(x.shape)
    return mask.to(x.dtype)


class _LoraLinear(torch.autograd.Function):
    """x W' + bias + scale * dropout(x) A' B' as rows, (n, out), with gradients for x, A and B."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float, share: float) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            flat = x.reshape(-1, x.shape[-1])
            narrow_a, narrow_b = a.to(x.dtype), b.to(x.dtype)
            mask, kept = _mask(flat, share) if share else (None, 1.0)
            scale = scale / kept
            inner = product(flat if mask is None else mask.to(x.dtype).mul_(flat), narrow_a).mul_(scale)
            out = product(flat, weight, bias).addmm_(inner, narrow_b.t())
        context.scale = scale
        context.recompute, needed = to_keep(x)
        context.save_for_backward(weight, a, b, inner, None if mask is None else _packed(mask), *needed)
        context.shape = x.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(context: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        weight, a, b, inner, packed, *needed = context.saved_tensors
        with torch.autocast(given.device.type, enabled=False):
            flat = (needed[0] if context.recompute is None else context.recompute(*needed)).reshape(-1, weight.shape[1])
            grad_b = gradient(inner.t(), given).t().to(b.dtype)
            grad_inner = gradient(given, b.to(given.dtype)).mul_(context.scale)
            mask = None if packed is None else _unpacked(packed, flat)
            grad_a = gradient(grad_inner.t(), flat if mask is None else flat * mask).to(a.dtype)
            grad_x = None
            if context.needs_input_grad[0]:
                grad_x = gradient(given, weight)
                if mask is None:
                    grad_x.addmm_(grad_inner, a.to(given.dtype))
                else:
                    grad_x.addcmul_(gradient(grad_inner, a.to(given.dtype)), mask)
                grad_x = grad_x.view(context.shape)
        return grad_x, None, None, grad_a, grad_b, None, None


class _LoraChannels(torch.autograd.Function):
    """The same for a 1x1 convolution: W x + bias + scale * B A x at every place."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            out = nn.functional.conv2d(x, weight, bias)
            inner = torch.matmul(a.flatten(1).to(x.dtype), x.flatten(2)).mul_(scale)
            out.flatten(2).baddbmm_(b.flatten(1).to(x.dtype).expand(len(x), -1, -1), inner)
        context.scale = scale
        context.recompute, needed = to_keep(x)
        context.save_for_backward(weight, a, b, inner, *needed)
        return out

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, a, b, inner, *needed = context.saved_tensors
        with torch.autocast(grad.device.type, enabled=False):
            x = needed[0] if context.recompute is None else context.recompute(*needed)
            given = grad.flatten(2)
            grad_b = torch.einsum("nop,nrp->or", given, inner).view(b.shape).to(b.dtype)
            grad_inner = torch.matmul(b.flatten(1).t().to(given.dtype), given).mul_(context.scale)
            grad_a = torch.einsum("nrp,nip->ri", grad_inner, x.flatten(2)).view(a.shape).to(a.dtype)
            grad_x = None
            if context.needs_input_grad[0]:
                grad_x = torch.matmul(weight.flatten(1).t(), given)
                grad_x.baddbmm_(a.flatten(1).t().to(given.dtype).expand(len(x), -1, -1), grad_inner)
                grad_x = grad_x.view(x.shape)
        return grad_x, None, None, grad_a, grad_b, None
