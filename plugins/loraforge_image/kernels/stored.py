# SPDX-License-Identifier: Apache-2.0
"""Frozen weights that lie in fewer bits, or in main memory: each is made ready for the product that needs it, and is not kept.

diffusers' layerwise casting and group offloading exchange the weights of a layer before and after its forward pass. That is made for
drawing. In training autograd keeps what a linear layer multiplied by, the weight as it was made ready, until the backward pass, so that
nothing is saved; a convolution is refused there, because its weight has changed its type by then; and group offloading takes what learns
out of the card as well. Here a product keeps the weight as it is stored, and makes it ready once more for the gradient of its input.

Imports torch when it is imported; bitsandbytes where four bits are asked for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input

from loraforge.kernels import frozen

_LARGEST = 448.0  # of float8_e4m3fn
_BLOCK = 64  # weights that share a scale in nf4, as in QLoRA
_KINDS = (nn.Linear, frozen.FrozenLinear, nn.Conv2d, frozen.FrozenConv2d)


class Stored(ABC):
    """A weight as it lies in memory.

    Attributes:
        shape: of the weight: (out, in), or (out, in, height, width).
        dtype: in which it was given, and is read by others.
        at_home: whether it stays in main memory wherever the layer goes.
    """

    def __init__(self, weight: Tensor, *, at_home: bool = False) -> None:
        self.shape, self.dtype, self.at_home = weight.shape, weight.dtype, at_home

    @property
    @abstractmethod
    def parts(self) -> list[Tensor]:
        """The tensors that it is stored in."""

    @parts.setter
    @abstractmethod
    def parts(self, tensors: list[Tensor]) -> None: ...

    @abstractmethod
    def _make(self, parts: list[Tensor], dtype: torch.dtype) -> Tensor:
        """The weight out of its parts, on their device."""

    def ready(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """The weight itself, in numbers, on a device. From pinned memory it is copied while the processor goes on."""
        return self._make([part.to(device, non_blocking=True) for part in self.parts], dtype)

    def move(self, device: torch.device) -> None:
        """Moves it there, unless it stays at home; what stays is pinned, if that is of use to the device."""
        if not self.at_home:
            self.parts = [part.to(device) for part in self.parts]
        elif device.type == "cuda":
            self.parts = [part if part.is_pinned() else part.cpu().pin_memory() for part in self.parts]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return sum(part.nbytes for part in self.parts)


class Plain(Stored):
    """As it was given, for weights that wait in main memory."""

    def __init__(self, weight: Tensor, *, at_home: bool = False) -> None:
        super().__init__(weight, at_home=at_home)
        self.parts = [weight]

    @property
    def parts(self) -> list[Tensor]:
        return self._parts

    @parts.setter
    def parts(self, tensors: list[Tensor]) -> None:
        self._parts = tensors

    def _make(self, parts: list[Tensor], dtype: torch.dtype) -> Tensor:
        return parts[0].to(dtype)


class Float8(Plain):
    """float8_e4m3fn with one scale for each output.

    The scales are powers of two, which change no digit: a weight is rounded once, to three binary digits, and what is below a
    28,672th of the largest in its row loses more. Without them every weight of less than 1/64 would.
    """

    def __init__(self, weight: Tensor, *, at_home: bool = False) -> None:
        super().__init__(weight, at_home=at_home)
        rows = weight.detach().float().flatten(1)
        largest = rows.abs().amax(1, keepdim=True)
        exponent = torch.where(largest > 0, torch.ceil(torch.log2(largest.clamp(min=2.0**-100) / _LARGEST)), torch.zeros_like(largest))
        scale = torch.exp2(exponent)
        self.parts = [(rows / scale).to(torch.float8_e4m3fn).view(weight.shape), scale]

    def _make(self, parts: list[Tensor], dtype: torch.dtype) -> Tensor:
        values, scale = parts
        return values.to(dtype).mul_(scale.to(dtype).view(-1, *[1] * (values.ndim - 1)))


class Nf4(Plain):
    """nf4 of bitsandbytes: four bits, and a scale for 64 weights (Dettmers et al. 2023)."""

    def __init__(self, weight: Tensor, *, at_home: bool = False) -> None:
        from bitsandbytes.functional import quantize_4bit

        super().__init__(weight, at_home=at_home)
        packed, state = quantize_4bit(weight.detach().contiguous(), blocksize=_BLOCK, quant_type="nf4", compress_statistics=False)
        self._code = state.code.cpu()
        self.parts = [packed, state.absmax]

    def _make(self, parts: list[Tensor], dtype: torch.dtype) -> Tensor:
        packed, largest = parts
        if packed.device.type == "cpu":  # bitsandbytes' own way compiles a program for every shape there
            return self._looked_up(packed, largest).to(dtype)
        from bitsandbytes.functional import QuantState, dequantize_4bit

        code = self._code.to(largest.device)
        state = QuantState(absmax=largest, shape=self.shape, code=code, blocksize=_BLOCK, quant_type="nf4", dtype=dtype)
        made: Tensor = dequantize_4bit(packed, state)
        return made

    def _looked_up(self, packed: Tensor, largest: Tensor) -> Tensor:
        """Two weights of each byte, the upper half first, times the scale of their block."""
        both = torch.stack([packed.flatten() >> 4, packed.flatten() & 15], 1).flatten().int()
        blocks = nn.functional.pad(self._code[both], (0, -len(both) % _BLOCK)).view(-1, _BLOCK) * largest[:, None]
        return blocks.flatten()[: self.shape.numel()].view(self.shape)


class _Product(torch.autograd.Function):
    """x W' + bias as rows, (n, out); keeps nothing but where the weight is stored."""

    @staticmethod
    def forward(context: Any, x: Tensor, stored: Stored, bias: Tensor | None) -> Tensor:
        context.stored, context.shape, context.device = stored, x.shape, x.device
        return frozen.product(x.reshape(-1, x.shape[-1]), stored.ready(x.device, x.dtype), bias)

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if not context.needs_input_grad[0]:
            return None, None, None
        return frozen.gradient(grad, context.stored.ready(grad.device, grad.dtype)).view(context.shape), None, None


class _Convolution(torch.autograd.Function):
    """A convolution in two dimensions that keeps nothing but where the weight is stored."""

    @staticmethod
    def forward(context: Any, x: Tensor, stored: Stored, bias: Tensor | None, settings: tuple[Any, ...]) -> Tensor:
        context.stored, context.shape, context.settings = stored, x.shape, settings
        return nn.functional.conv2d(x, stored.ready(x.device, x.dtype), bias, *settings)

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if not context.needs_input_grad[0]:
            return None, None, None, None
        weight = context.stored.ready(grad.device, grad.dtype)
        return conv2d_input(context.shape, weight, grad, *context.settings), None, None, None  # type: ignore[no-untyped-call]


class _StoredLayer(nn.Module):
    """What linear layers and convolutions of stored weights share; their bias stays as it was.

    Attributes:
        stored: the weight.
        stored_parameters: its numbers, which are none of the module's parameters.
    """

    stored: Stored
    _at: torch.device | None = None  # where it computes, which is not where a weight is that waits at home

    @property
    def weight(self) -> Tensor:
        """The weight in numbers, where the layer computes, made for whoever asks (DoRA does); it is not kept."""
        return self.stored.ready(self._at or self.stored.parts[0].device, self.stored.dtype)

    @property
    def stored_parameters(self) -> int:
        """How many numbers the weight has."""
        return self.stored.shape.numel()

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """What moves a module moves its weight; what changes the type of its numbers does not change how they are stored."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._at = fn(torch.empty(0, dtype=torch.uint8, device=self._at or self.stored.parts[0].device)).device
        self.stored.move(self._at)
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.stored.ready(self.stored.parts[0].device, self.stored.dtype)

    def _given(self, input: Tensor) -> tuple[Tensor, Tensor | None]:
        """The input and the bias in the type that is computed in."""
        kind = input.device.type
        x = input.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else input
        bias: Any = self.bias
        return x, None if bias is None else bias.to(x.dtype)


class StoredLinear(_StoredLayer, nn.Linear):  # type: ignore[override]
    """``torch.nn.Linear`` whose weight is stored in another way."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        x, bias = self._given(input)
        with torch.autocast(x.device.type, enabled=False):
            flat: Tensor = _Product.apply(x, self.stored, bias)  # type: ignore[no-untyped-call]
        return flat.view(*x.shape[:-1], -1)


class StoredConv2d(_StoredLayer, nn.Conv2d):  # type: ignore[override]
    """``torch.nn.Conv2d`` whose weight is stored in another way."""

    def forward(self, input: Tensor) -> Tensor:
        """(rows, in, height, width) -> (rows, out, height, width)."""
        x, bias = self._given(input)
        settings = (self.stride, self.padding, self.dilation, self.groups)
        with torch.autocast(x.device.type, enabled=False):
            made: Tensor = _Convolution.apply(x, self.stored, bias, settings)  # type: ignore[no-untyped-call]
        return made


def storable(model: nn.Module, *, nested: bool = False) -> list[tuple[str, nn.Module]]:
    """The layers of the blocks of ``model`` whose weights can be stored in another way, by path and in order: plain linear layers and
    convolutions that do not learn.

    Blocks are what stands in its ``ModuleList``s, and a U-Net's middle. What is around them (the first and the last layer, embeddings of
    time and caption, Chroma's network that makes all modulations) is small and stays as it is, as in the other trainers' eight bits.

    Args:
        nested: also what stands in the lists of its parts, as in text encoders.
    """
    named = model.named_modules() if nested else model.named_children()
    lists = ("mid_block.", *(f"{name}." for name, module in named if isinstance(module, nn.ModuleList)))
    return [
        (name, module)
        for name, module in model.named_modules()
        if type(module) in _KINDS and name.startswith(lists) and ".lora_" not in f".{name}" and _frozen(module)
    ]


def _frozen(layer: Any) -> bool:
    plain = not isinstance(layer, nn.Conv2d) or (layer.padding_mode == "zeros" and not isinstance(layer.padding, str))
    return bool(plain and layer.weight.is_floating_point() and not any(p.requires_grad for p in layer.parameters()))


def store(layers: Iterable[tuple[Any, type[Plain], bool]], device: torch.device) -> int:
    """Stores the weights of layers in another way, in place, one after the other.

    Args:
        layers: each with how its weight is stored, and whether it stays in main memory.
        device: where the weights are rounded: a card does it in a moment.

    Returns:
        how many layers.
    """
    count = 0
    for layer, kind, at_home in layers:
        weight = layer.weight.data
        home = weight.device
        stored = kind(weight.to(device) if kind is not Plain else weight, at_home=at_home)
        stored.parts = [part.to(home) for part in stored.parts]
        del layer._parameters["weight"]
        layer.__class__ = StoredConv2d if isinstance(layer, nn.Conv2d) else StoredLinear
        layer.stored = stored
        count += 1
    return count
