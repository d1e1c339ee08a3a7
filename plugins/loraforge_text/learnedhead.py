"""The output head and its cross entropy on learned positions only, a few rows at a time.

Of a row with a long prompt most logits are never used, and with a vocabulary of 150,000 they are what fills the memory. So the model's own
forward pass ends before its head (``take_off``), and ``cross_entropy`` applies the head where something is learned. The head is frozen:
its loss and the gradient of its input are made in one go, and no logits are kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from loraforge import frozen

_CELLS = 4_000_000  # logits at a time: 16 MB in float32
_ROWS = 96  # but no fewer rows than these: each piece reads the whole head


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
    model does more than apply it (a soft cap, a scale)."""
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or head.weight.requires_grad or not head.weight.is_floating_point():
        return None
    ids = torch.arange(1, 9, device=head.weight.device)[None] % head.out_features
    try:
        with torch.no_grad():
            wanted = model(input_ids=ids, use_cache=False).logits
            model.set_output_embeddings(Nothing(head))
            got = nn.functional.linear(model(input_ids=ids, use_cache=False).logits, head.weight, head.bias)
        if got.shape == wanted.shape and torch.allclose(got.float(), wanted.float(), rtol=1e-3, atol=1e-3):
            return head
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):
        pass
    model.set_output_embeddings(head)
    return None


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
        """Rows of logits in pieces of ``_CELLS``; the gradient of ``hidden`` is made at once where it is wanted."""
        wanted = context.needs_input_grad[0]
        rows = max(_ROWS, _CELLS // len(weight))
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grads = []
        with torch.autocast(hidden.device.type, enabled=False):
            weight_ = weight.to(hidden.dtype)
            for some, label in zip(torch.split(hidden, rows), torch.split(labels, rows), strict=True):
                logits = frozen.product(some, weight_, bias).float()
                highest = logits.amax(-1, keepdim=True)
                at_label = logits.gather(-1, label[:, None])
                sums = logits.sub_(highest).exp_().sum(-1, keepdim=True)
                total += (sums.log() + highest - at_label).sum()
                if wanted:
                    # The gradient of the logits is their softmax less one at the label: the division waits until the rows are narrow.
                    # In float32 until the loss scale of fp16 is on it: without it, such small figures would be lost.
                    grads.append(frozen.gradient(logits.to(hidden.dtype), weight_).float().div_(sums).sub_(weight_[label]))
                del logits  # or the next piece would stand beside it
        if wanted:
            context.save_for_backward(torch.cat(grads).div_(len(labels)))
        context.dtype = hidden.dtype
        return total / len(labels)

    @staticmethod
    def backward(context: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = context.saved_tensors
        return (grad * outer[0]).to(context.dtype), None, None, None
