# SPDX-License-Identifier: Apache-2.0
"""The machine's limit: the operations that a LoRA step cannot do without, over the rate at which this machine multiplies matrices.

Counted are, per token of a row: the forward pass and the gradient of the activations through every dense layer below the head (2 operations
per weight each), the same through the causal half of attention (its gradient costs twice its forward pass: both factors are activations),
the LoRA terms (forward, gradient of their input, gradient of A and B), and the head, on learned positions only. Not counted are gradients
of frozen weights, padding, and gradients of activations below the first adapted layer.

The rate is measured in the process that trained, or that started the training, on the same shapes: for every matrix of the model the
product of the forward pass and that of the gradient, weighted by how often a step needs it.

For a U-Net, torch counts the operations itself, on a network without weights with PEFT's LoRA on it (``unet_work``): its convolutions
and matrices forward and for the gradient of the activations, attention, the LoRA terms. The rate is that of its frozen convolutions and
matrices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_ORDER = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))  # who feeds whom inside a layer


@dataclass(frozen=True)
class Shape:
    """A Llama-like decoder (Qwen2, Llama, Mistral) with a LoRA on it."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    rank: int
    targets: tuple[str, ...]

    @property
    def head_dim(self) -> int:
        """The width of one attention head."""
        return self.hidden // self.heads

    def matrices(self) -> dict[str, tuple[int, int]]:
        """(in, out) of every dense matrix of a layer."""
        key = self.kv_heads * self.head_dim
        return {
            "q_proj": (self.hidden, self.hidden),
            "k_proj": (self.hidden, key),
            "v_proj": (self.hidden, key),
            "o_proj": (self.hidden, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    def parameters(self) -> int:
        """Weights of the dense layers below the head."""
        return self.layers * sum(i * o for i, o in self.matrices().values())


def step_flops(shape: Shape, lengths: Sequence[int], learned: int, *, causal: bool = True) -> float:
    """Operations of one pass over rows of these lengths with ``learned`` learned positions in all.

    Args:
        causal: count the half of attention that a causal mask leaves; False for implementations that compute all of it.
    """
    tokens = sum(lengths)
    matrices = shape.matrices()
    dense = 4.0 * shape.parameters() * tokens
    lora = 6.0 * shape.rank * tokens * shape.layers * sum(i + o for name, (i, o) in matrices.items() if name in shape.targets)
    # In the first adapted layer the gradient ends at the first adapted matrices: their inputs need none, nor does what feeds them.
    below = 0
    for names in _ORDER:
        below += sum(matrices[name][0] * matrices[name][1] for name in names)
        if any(name in shape.targets for name in names):
            lora -= 2.0 * shape.rank * tokens * sum(matrices[name][0] for name in names if name in shape.targets)
            break
    dense -= 2.0 * below * tokens
    pairs = sum(n * (n + 1) / 2 if causal else n * n for n in lengths)
    product = 2.0 * shape.hidden * pairs  # one of the products inside attention: two forward, four for the gradient
    q, k, v = (name in shape.targets for name in _ORDER[0])
    attention = product * (6 * shape.layers - 4 + (q or k) + q + k + v)
    head = 4.0 * shape.hidden * shape.vocabulary * learned
    return dense + lora + attention + head


def gemms(shape: Shape, tokens: int, learned: int) -> list[tuple[int, int, int, bool, int]]:
    """(rows, in, out, whether the weight is stored as (out, in), how often) of the products of one step."""
    counted: dict[tuple[int, int, int, bool], int] = {}
    for size_in, size_out in shape.matrices().values():
        for product in ((tokens, size_in, size_out, True), (tokens, size_out, size_in, False)):
            counted[product] = counted.get(product, 0) + shape.layers
    for product in ((learned, shape.hidden, shape.vocabulary, True), (learned, shape.vocabulary, shape.hidden, False)):
        counted[product] = counted.get(product, 0) + 1
    return [(*product, count) for product, count in counted.items()]


@dataclass(frozen=True)
class Work:
    """What one step of a U-Net needs.

    Attributes:
        flops: all of it.
        gemms: as from ``gemms``; without attention and the LoRA terms.
        convolutions: (pictures, channels, height, width, channels out, kernel, stride, padding, whether it is the gradient, how often).
    """

    parameters: int
    flops: float
    gemms: list[tuple[int, int, int, bool, int]]
    convolutions: list[tuple[int, int, int, int, int, int, int, int, bool, int]]


DIFFUSERS, KOHYA = "diffusers", "kohya"
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


def unet_targets(unet: Any, kind: str) -> list[str]:
    """The adapted modules: diffusers' script takes the projections of attention, kohya's every matrix and 1x1 convolution of the
    transformers."""
    import torch

    found = []
    for outer, block in unet.named_modules():
        if type(block).__name__ != "Transformer2DModel":
            continue
        for inner, module in block.named_modules():
            dense = isinstance(module, torch.nn.Linear) or (isinstance(module, torch.nn.Conv2d) and module.kernel_size == (1, 1))
            if dense and (kind == KOHYA or inner.endswith(ATTENTION)):
                found.append(f"{outer}.{inner}")
    return found


def unet_work(config: Mapping[str, Any], side: int, batch: int, rank: int, kind: str = DIFFUSERS) -> Work:
    """The work of one step on ``batch`` pictures of side x side, as torch counts it: exactly what autograd needs, nothing below the first
    adapted layer.

    Args:
        config: of a ``UNet2DConditionModel``.
        rank: a number that is no width of the network; products with it are the LoRA's.
    """
    import torch
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig, inject_adapter_in_model
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import FlopCounterMode

    gemms: dict[tuple[int, int, int, bool], int] = {}
    convolutions: dict[tuple[int, int, int, int, int, int, int, int, bool], int] = {}

    class Recorder(TorchDispatchMode):
        """Notes the shapes of frozen products. Attention's are bmm and are not noted."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func.overloadpacket.__name__
            if name in ("mm", "addmm"):
                left, right = args[-2:]
                product = (left.shape[0], left.shape[1], right.shape[1])
                if rank not in product:
                    key = (*product, right.stride(0) == 1)
                    gemms[key] = gemms.get(key, 0) + 1
            elif name in ("convolution", "convolution_backward"):
                back = name == "convolution_backward"
                given, weight = args[1:3] if back else args[:2]
                stride, padding = args[4:6] if back else args[3:5]
                if rank not in weight.shape[:2]:
                    key_ = (*given.shape, weight.shape[0], weight.shape[2], stride[0], padding[0], back)
                    convolutions[key_] = convolutions.get(key_, 0) + 1
            return func(*args, **(kwargs or {}))

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(dict(config))
        unet.requires_grad_(False)
        parameters = sum(p.numel() for p in unet.parameters())
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=unet_targets(unet, kind)), unet)
        unet.train()
        given: dict[str, Any] = {"encoder_hidden_states": torch.empty(batch, 77, config["cross_attention_dim"])}
        if config.get("addition_embed_type") == "text_time":
            pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
            given["added_cond_kwargs"] = {"text_embeds": torch.empty(batch, pooled), "time_ids": torch.empty(batch, 6)}
        with FlopCounterMode(display=False) as counter, Recorder():
            unet(torch.empty(batch, 4, side // 8, side // 8), torch.zeros(batch), **given).sample.sum().backward()
    return Work(
        parameters,
        float(counter.get_total_flops()),
        [(*key, count) for key, count in gemms.items()],
        [(*key, count) for key, count in convolutions.items()],
    )


def rates(
    gemms: Sequence[Sequence[int]],
    convolutions: Sequence[Sequence[int]] = (),
    seconds: float = 2.0,
    device: str = "cpu",
    dtype: str = "float32",
) -> tuple[float, float]:
    """Operations per second over these products and convolutions, each as fast as it was in its fastest repetition.

    A linear layer keeps its weight as (out, in): the forward pass reads it transposed, the gradient does not.

    Returns:
        by torch's own products, which every trainer calls; and by the faster one of torch's two libraries for each product (on some
        processors oneDNN is twice as fast as MKL), the same figure where there is no other library.
    """
    import torch

    each = seconds / (len(gemms) + len(convolutions))
    operations = needed = least = 0.0
    options: dict[str, Any] = {"device": device, "dtype": getattr(torch, dtype)}
    for rows, size_in, size_out, transposed, count in gemms:
        x = torch.randn(rows, size_in, **options)
        weight = torch.randn(*((size_out, size_in) if transposed else (size_in, size_out)), **options)
        other, out = weight.t() if transposed else weight, torch.empty(rows, size_out, **options)
        plain = _fastest(lambda x=x, other=other, out=out: torch.mm(x, other, out=out), each, device)  # type: ignore[misc]
        operations += 2.0 * rows * size_in * size_out * count
        needed += count * plain
        least += count * min(plain, _by_onednn(x, other.t(), each) if device == "cpu" and dtype == "float32" else plain)
    for pictures, channels, height, width, wide, kernel, stride, padding, back, count in convolutions:
        x = torch.randn(pictures, channels, height, width, **options)
        weight = torch.randn(wide, channels, kernel, kernel, **options)
        geometry = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1)
        y = torch.ops.aten.convolution(x, weight, None, *geometry)
        operations += 2.0 * y.numel() * channels * kernel * kernel * count

        def call(x: Any = x, weight: Any = weight, y: Any = y, geometry: Any = geometry, back: Any = back) -> Any:
            if back:
                return torch.ops.aten.convolution_backward(y, x, weight, None, *geometry, [True, False, False])
            return torch.ops.aten.convolution(x, weight, None, *geometry)

        taken = count * _fastest(call, each, device)
        needed, least = needed + taken, least + taken
    return operations / needed, operations / least


def _by_onednn(x: Any, weight: Any, seconds: float) -> float:
    """Seconds of x W' by oneDNN; of a large weight, which it copies, in pieces of a few million numbers; infinite where it is missing."""
    import torch

    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # type: ignore[no-untyped-call]
        return float("inf")
    count = -(-weight.numel() // 2**22)
    along = 0 if weight.shape[0] >= weight.shape[1] else 1
    piece = weight.narrow(along, 0, -(-weight.shape[along] // count))
    part = x if along == 0 else x[:, : piece.shape[1]]
    times = weight.shape[along] / piece.shape[along]
    return times * _fastest(lambda: torch.ops.mkldnn._linear_pointwise(part, piece, None, "none", [], ""), seconds, "cpu")


def _fastest(call: Callable[[], Any], seconds: float, device: str) -> float:
    """Seconds of the fastest of several calls."""
    import torch

    best, end, times = float("inf"), time.perf_counter() + seconds, 0
    with torch.no_grad():
        while times < 3 or time.perf_counter() < end:
            started = time.perf_counter()
            call()
            if device != "cpu":
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - started)
            times += 1
    return best


def shape_of(config: Mapping[str, Any], rank: int, targets: Sequence[str]) -> Shape:
    """The shape that a ``config.json`` describes."""
    return Shape(
        config["hidden_size"],
        config["num_hidden_layers"],
        config["intermediate_size"],
        config["num_attention_heads"],
        config["num_key_value_heads"],
        config["vocab_size"],
        rank,
        tuple(targets),
    )
