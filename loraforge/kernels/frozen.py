# SPDX-License-Identifier: Apache-2.0
"""What does not learn: products by whichever of torch's two libraries is the faster on this processor, and less kept for the gradient.

torch multiplies float32 matrices with MKL, whose best code is for Intel's processors; on AMD's with AVX-512 oneDNN, which torch carries as
well, took 5 to 40 % less time for the same product on the one such machine where it was tried (docs/benchmarks.md). Which one is used
depends on the processor and the sizes only, never on a measurement, so that a run can be repeated to the last bit.

Of a frozen layer the gradient needs the weights alone, not what went in, which torch keeps all the same for convolutions. And what a frozen
block makes of tensors that are kept anyway, it can make once more (``recompute``).
"""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_WORTH = 2**21  # multiplications; below that, the call costs more than it saves
_PIECE = 2**22  # weights at a time: oneDNN copies them for every product, and for a whole output head there is no memory


@functools.cache
def onednn_is_faster() -> bool:
    """Whether oneDNN is the faster one here."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not available or not hasattr(torch.ops.mkldnn, "_linear_pointwise") or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")[:4096]
    except OSError:
        described = platform.processor()
    return "AuthenticAMD" in described


def expect_many_sizes() -> None:
    """oneDNN keeps what it has prepared for up to 1,024 sizes, nearly a megabyte each. Where every step has a number of rows of its own,
    that is of no use. It reads these settings when it is first used; what a user has set stays."""
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, "16")


def _faster(x: Tensor, weight: Tensor, size_out: int) -> bool:
    plain = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    return plain and x.numel() * size_out >= _WORTH and onednn_is_faster()


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    made: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return made


def _pieces(weight: Tensor) -> list[slice]:
    """Ranges of a weight's outputs, of about the same size."""
    count = min(len(weight), -(-weight.numel() // _PIECE))
    return [slice(len(weight) * number // count, len(weight) * (number + 1) // count) for number in range(count)]


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W' + bias, of (n, in) and (out, in); without a gradient of its own."""
    if not _faster(x, weight, len(weight)):
        return nn.functional.linear(x, weight, bias)
    pieces = _pieces(weight)
    if len(pieces) == 1:
        return _by_onednn(x, weight, bias)
    out = x.new_empty(len(x), len(weight))
    for some in pieces:
        out[:, some] = _by_onednn(x, weight[some], None if bias is None else bias[some])
    return out


def gradient(grad: Tensor, weight: Tensor) -> Tensor:
    """The gradient of the input of ``product``: grad W, of (n, out) and (out, in)."""
    if not _faster(grad, weight, weight.shape[1]):
        return grad @ weight
    first, *others = _pieces(weight)
    made = _by_onednn(grad[:, first], weight[first].t(), None)
    for some in others:
        made += _by_onednn(grad[:, some], weight[some].t(), None)
    return made


class _Product(torch.autograd.Function):
    """x W' + bias as rows, (n, out); keeps the weights only."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        context.save_for_backward(weight)
        context.shape = x.shape
        return product(x.reshape(-1, x.shape[-1]), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = context.saved_tensors
        if not context.needs_input_grad[0]:
            return None, None, None
        return gradient(grad, weight).view(context.shape), None, None


class _Convolution(torch.autograd.Function):
    """A convolution in two dimensions that keeps its weights only."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, bias: Tensor | None, settings: tuple[Any, ...]) -> Tensor:
        context.save_for_backward(weight)
        context.size, context.settings = x.shape[-2:], settings
        return nn.functional.conv2d(x, weight, bias, *settings)

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = context.saved_tensors
        if not context.needs_input_grad[0]:
            return None, None, None, None
        stride, padding, dilation, groups = context.settings
        missing = [  # rows and columns that a stride did not reach
            size - ((made - 1) * step - 2 * around + apart * (kernel - 1) + 1)
            for size, made, step, around, apart, kernel in zip(
                context.size, grad.shape[-2:], stride, padding, dilation, weight.shape[-2:], strict=True
            )
        ]
        return nn.functional.conv_transpose2d(grad, weight, None, stride, padding, missing, groups, dilation), None, None, None


class _Pointwise(torch.autograd.Function):
    """A 1x1 convolution as the product of matrices that it is, (rows, out, pixels); keeps its weights only."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        context.save_for_backward(weight)
        matrix, pixels = weight.flatten(1).expand(len(x), -1, -1), x.flatten(2)
        context.size = x.shape[2:]
        return torch.bmm(matrix, pixels) if bias is None else torch.baddbmm(bias[:, None], matrix, pixels)

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = context.saved_tensors
        if not context.needs_input_grad[0]:
            return None, None, None
        matrix = weight.flatten(1).t().expand(len(grad), -1, -1)
        return torch.bmm(matrix, grad).view(len(grad), weight.shape[1], *context.size), None, None


class FrozenConv2d(nn.Conv2d):
    """``torch.nn.Conv2d`` whose weights do not learn."""

    def forward(self, input: Tensor) -> Tensor:
        """(rows, in, height, width) -> (rows, out, height, width)."""
        usual = input.dim() == 4 and input.dtype == self.weight.dtype and not torch.is_autocast_enabled(input.device.type)
        if not usual or not is_plain(self) or self.padding_mode != "zeros" or isinstance(self.padding, str):
            return super().forward(input)
        made: Tensor
        if input.device.type == "cpu" and self.kernel_size == self.stride == (1, 1) and self.padding == (0, 0) and self.groups == 1:
            # As a convolution, oneDNN would bring input and weights into an order of its own first, which takes longer than the product.
            made = _Pointwise.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return made.view(len(input), -1, *input.shape[2:])
        settings = (self.stride, self.padding, self.dilation, self.groups)
        made = _Convolution.apply(input, self.weight, self.bias, settings)  # type: ignore[no-untyped-call]
        return made


class FrozenLinear(nn.Linear):
    """``torch.nn.Linear`` whose weights do not learn."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if not is_plain(self) or input.dtype != self.weight.dtype or torch.is_autocast_enabled(input.device.type):
            return super().forward(input)
        flat: Tensor = _Product.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return flat.view(*input.shape[:-1], -1)  # out here, so that it may be changed in place


def is_plain(layer: nn.Module) -> bool:
    """Whether ``layer`` is a linear layer or a convolution and nothing more, with weights of floating point that do not learn."""
    plain = type(layer) in (nn.Linear, FrozenLinear, nn.Conv2d, FrozenConv2d)
    return plain and all(p.is_floating_point() and not p.requires_grad for p in layer.parameters())


class Recompute:
    """Makes a tensor once more, for all who need it in the backward pass; then it is forgotten again."""

    def __init__(self, make: Callable[..., Tensor]) -> None:
        self._make = make
        self._waiting = 0
        self._made: Tensor | None = None

    def expect(self) -> None:
        """One more will ask."""
        self._waiting += 1

    def __call__(self, *needed: Tensor) -> Tensor:
        """The tensor, from those that ``recompute`` was told of."""
        made = self._make(*needed) if self._made is None else self._made
        self._waiting -= 1
        self._made = made if self._waiting > 0 else None
        return made


def recompute(made: Tensor, make: Callable[..., Tensor], *needed: Tensor) -> Tensor:
    """Says of ``made`` that ``make(*needed)`` gives it once more, to the bit, out of what is kept anyway. Who would keep ``made`` for the
    backward pass asks ``to_keep``.

    Returns:
        ``made``.
    """
    if torch.is_grad_enabled():
        made.loraforge_recompute = Recompute(make), needed, made._version  # type: ignore[attr-defined]
    return made


def to_keep(x: Tensor) -> tuple[Recompute | None, tuple[Tensor, ...]]:
    """What to keep instead of ``x``, and what makes ``x`` of it; ``x`` itself and None if nothing is known of it."""
    recompute: Recompute | None
    needed: tuple[Tensor, ...]
    recompute, needed, version = getattr(x, "loraforge_recompute", (None, (), -1))
    if recompute is None or version != x._version:  # somebody has changed it since
        return None, (x,)
    recompute.expect()
    return recompute, needed


def replace(model: nn.Module) -> int:
    """Makes plain layers of ``model`` that do not learn frozen ones, in place; those under an adapter have a way of their own.

    Returns:
        how many; linear layers only where it gains something.
    """
    better: dict[type, type] = {nn.Conv2d: FrozenConv2d, **({nn.Linear: FrozenLinear} if onednn_is_faster() else {})}
    found = [
        module for name, module in model.named_modules() if type(module) in better and is_plain(module) and not name.endswith("base_layer")
    ]
    for module in found:
        module.__class__ = better[type(module)]
    return len(found)
