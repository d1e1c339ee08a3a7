# SPDX-License-Identifier: Apache-2.0
"""Attention as plain products of matrices, a block of queries at a time, for processors on which torch's own kernel multiplies slowly.

torch's kernel for CPUs uses MKL, which on AMD's processors reaches half of what oneDNN does, and less where a head is 10 or 40 wide. Of
the weights nothing is kept: the backward pass makes them again, as torch's does (Dao et al., 2022, arXiv:2205.14135).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from loraforge.kernels import frozen

_CELLS = 2**20  # weights at a time: 4 MB, so that they stay in the processor's cache
_FEWEST = 128  # keys; with fewer, as of a caption, torch's kernel is as fast


def pays(query: Tensor, key: Tensor) -> bool:
    """Whether ``attend`` is the faster one for these, (rows, heads, tokens, width)."""
    plain = query.device.type == "cpu" and query.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return plain and key.shape[2] >= _FEWEST and frozen.onednn_is_faster()


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """``torch.nn.functional.scaled_dot_product_attention`` without a mask.

    Args:
        query: (rows, heads, queries, width).
        key, value: (rows, heads, keys, width).

    Returns:
        (rows, heads, queries, width)
    """
    made: Tensor = _BlockAttention.apply(query, key, value)  # type: ignore[no-untyped-call]
    return made


def _blocks(heads: int, queries: int, keys: int) -> Iterator[tuple[slice, slice]]:
    """Ranges of heads and of queries: several heads whole, or one head in parts."""
    together, rows = max(1, _CELLS // (queries * keys)), max(1, min(queries, _CELLS // keys))
    for head in range(0, heads, together):
        for row in range(0, queries, rows):
            yield slice(head, head + together), slice(row, row + rows)


def _products(x: Tensor, y: Tensor) -> Tensor:
    """Of two stacks of matrices, (n, rows, in) and (n, in, out)."""
    return frozen.product(x[0], y[0].t())[None] if len(x) == 1 else torch.bmm(x, y)


def _weights(query: Tensor, key: Tensor) -> Tensor:
    made = _products(query, key.transpose(1, 2))
    return torch._softmax(made, -1, False, out=made)  # in the place of the products: memory that is in the cache


class _BlockAttention(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        context.save_for_backward(query, key, value)
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        q, k, v, made = (x.flatten(0, 1) for x in (query * query.shape[-1] ** -0.5, key, value, out))
        for heads, rows in _blocks(len(q), q.shape[1], k.shape[1]):
            made[heads, rows] = _products(_weights(q[heads, rows], k[heads]), v[heads])
        return out

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad: Tensor) -> tuple[Tensor, ...]:
        query, key, value = context.saved_tensors
        scale = query.shape[-1] ** -0.5
        q, k, v, given = (x.flatten(0, 1) for x in (query * scale, key, value, grad))
        # The gradients of keys and values lie as (width, keys): products that are wide are faster than such that are tall.
        grad_q, grad_k, grad_v = torch.empty_like(q), k.new_zeros(k.mT.shape), v.new_zeros(v.mT.shape)
        for heads, rows in _blocks(len(q), q.shape[1], k.shape[1]):
            asked, wanted = q[heads, rows], given[heads, rows]
            weights = _weights(asked, k[heads])
            grad_v[heads] += _products(wanted.transpose(1, 2), weights)
            inner = _products(wanted, v[heads].transpose(1, 2))
            torch._softmax_backward_data(inner, weights, -1, inner.dtype, grad_input=inner)
            grad_q[heads, rows] = _products(inner, k[heads])
            grad_k[heads] += _products(asked.transpose(1, 2), inner)
            del weights, inner  # or the next ones would lie elsewhere, in memory that is not in the cache
        made = grad_q.mul_(scale), grad_k.transpose(1, 2), grad_v.transpose(1, 2)
        return tuple(x.unflatten(0, query.shape[:2]) for x in made)
