"""Products with weights that do not learn, by whichever of torch's two libraries is the faster on this processor.

torch multiplies float32 matrices with MKL, whose best code is for Intel's processors; on AMD's with AVX-512 oneDNN, which torch carries as
well, took 5 to 40 % less time for the same product on the one such machine where it was tried (docs/benchmarks.md). Which one is used
depends on the processor and the sizes only, never on a measurement, so that a run can be repeated to the last bit.
"""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_WORTH = 2**24  # multiplications; below that, the call costs more than it saves
_LARGE = 2**23  # weights; oneDNN copies them for every product, which a large output head has no memory for


@functools.cache
def _onednn() -> bool:
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
    return plain and x.numel() * size_out >= _WORTH and weight.numel() <= _LARGE and _onednn()


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    made: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return made


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W' + bias, of (n, in) and (out, in); without a gradient of its own."""
    return _by_onednn(x, weight, bias) if _faster(x, weight, len(weight)) else nn.functional.linear(x, weight, bias)


def gradient(grad: Tensor, weight: Tensor) -> Tensor:
    """The gradient of the input of ``product``: grad W, of (n, out) and (out, in)."""
    return _by_onednn(grad, weight.t(), None) if _faster(grad, weight, weight.shape[1]) else grad @ weight


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        context.save_for_backward(weight)
        return product(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = context.saved_tensors
        if not context.needs_input_grad[0]:
            return None, None, None
        return gradient(grad.reshape(-1, grad.shape[-1]), weight).view(*grad.shape[:-1], -1), None, None


class FrozenLinear(nn.Linear):
    """``torch.nn.Linear`` whose weights do not learn."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if not is_plain(self) or input.dtype != self.weight.dtype or torch.is_autocast_enabled(input.device.type):
            return super().forward(input)
        made: Tensor = _Product.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return made


def is_plain(layer: nn.Module) -> bool:
    """Whether ``layer`` is a linear layer and nothing more, with weights of floating point that do not learn."""
    return type(layer) in (nn.Linear, FrozenLinear) and all(p.is_floating_point() and not p.requires_grad for p in layer.parameters())


def exchange(model: nn.Module) -> int:
    """Makes plain linear layers of ``model`` that do not learn ``FrozenLinear``, in place; those under an adapter have a way of their own.

    Returns:
        how many; none where it would gain nothing.
    """
    if not _onednn():
        return 0
    found = [
        module
        for name, module in model.named_modules()
        if type(module) is nn.Linear and is_plain(module) and not name.endswith("base_layer")
    ]
    for module in found:
        module.__class__ = FrozenLinear
    return len(found)
