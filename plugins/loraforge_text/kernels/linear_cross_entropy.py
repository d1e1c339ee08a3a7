# SPDX-License-Identifier: Apache-2.0
"""The output head and its cross entropy on learned positions only, a part of the vocabulary at a time.

Of a row with a long prompt most logits are never used, and with a vocabulary of 150,000 they are what fills the memory. So the model's own
forward pass ends before its head (``take_off``), and ``cross_entropy`` applies the head where something is learned. The head is frozen:
its loss and the gradient of its input are made in one go. Logits of a part of the vocabulary are made, used for both and forgotten; what
was summed so far is rescaled when a higher logit comes (Milakov and Gimelshein, 2018, arXiv:1805.02867), so that the memory does not
depend on the vocabulary and every weight is fetched once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from loraforge.kernels import frozen

from . import verified

_CELLS = 1_000_000  # logits at a time: 4 MB in float32, so that they stay in the processor's cache; on other devices 16 times as many
_ROWS = 512  # at a time: each group of rows reads the whole head
_WORDS = 2048  # but no fewer words than these: narrower products are slower


class Nothing(nn.Module):
    """Stands in the head's place and hands on what comes in. Holds the head, so that it moves and counts with the model."""

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.head = head

    @property
    def weight(self) -> Tensor:
        """Some models ask their head for its type."""
        return self.head.weight

    def forward(self, hidden: Tensor) -> Tensor:
        """The hidden states themselves."""
        return hidden


def take_off(model: Any) -> nn.Linear | None:
    """Takes the head off ``model`` in place and returns it; None, and nothing is changed, where it is not a plain frozen layer or the
    model is not known to do nothing but apply it (a soft cap)."""
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or head.weight.requires_grad or not head.weight.is_floating_point():
        return None
    if not verified.head_stands_last(model, head.bias is not None):
        return None
    model.set_output_embeddings(Nothing(head))
    return head


def cross_entropy(hidden: Tensor, head: nn.Linear, labels: Tensor) -> Tensor:
    """Mean cross entropy in nats.

    Args:
        hidden: (n, width), what the head is applied to.
        labels: int64 (n,).

    Returns:
        a float32 scalar, differentiable in ``hidden`` only.
    """
    loss: Tensor = _CrossEntropy.apply(hidden, head.weight, head.bias, labels)  # type: ignore[no-untyped-call]
    return loss


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> Tensor:
        """The gradient of ``hidden`` is made at once where it is wanted."""
        wanted = context.needs_input_grad[0]
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grads = []
        with torch.autocast(hidden.device.type, enabled=False):
            weight = weight.to(hidden.dtype)
            for some, label in zip(torch.split(hidden, _ROWS), torch.split(labels, _ROWS), strict=True):
                loss, grad = _summed(some, weight, bias, label, wanted)
                total += loss
                grads.append(grad)
        if wanted:
            context.save_for_backward(torch.cat(grads).div_(len(labels)))
        context.dtype = hidden.dtype
        return total / len(labels)

    @staticmethod
    def backward(context: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = context.saved_tensors
        return (grad * outer[0]).to(context.dtype), None, None, None


def _summed(hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
    """The sum of the cross entropies, and its gradient for ``hidden`` in float32 (zeros where it is not ``wanted``)."""
    highest, at_label = hidden.new_full((2, len(hidden), 1), -torch.inf, dtype=torch.float32)
    sums = torch.zeros_like(highest)
    grad = torch.zeros(hidden.shape, dtype=torch.float32, device=hidden.device)
    cells = _CELLS if hidden.device.type == "cpu" else 16 * _CELLS
    words = max(_WORDS, cells // max(1, len(hidden)))  # a pass may have nothing to learn
    for start in range(0, len(weight), words):
        part = weight[start : start + words]
        logits = frozen.product(hidden, part, None if bias is None else bias[start : start + words]).float()
        place = labels[:, None] - start
        inside = (place >= 0) & (place < len(part))
        at_label = torch.where(inside, logits.gather(-1, place.clamp(0, len(part) - 1)), at_label)
        higher = torch.maximum(highest, logits.amax(-1, keepdim=True))
        shrink = (highest - higher).exp_()
        sums.mul_(shrink).add_(logits.sub_(higher).exp_().sum(-1, keepdim=True))
        if wanted:
            # The gradient of the logits is their softmax less one at the label: the division waits until all parts are there.
            # In float32 until the loss scale of fp16 is on it: without it, such small figures would be lost.
            grad.mul_(shrink).add_(frozen.gradient(logits.to(hidden.dtype), part))
        highest = higher
        del logits  # or the next part would stand beside it
    if wanted:
        grad.div_(sums).sub_(weight[labels])
    return (sums.log() + highest - at_label).sum(), grad
