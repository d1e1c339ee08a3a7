# SPDX-License-Identifier: Apache-2.0
"""Rows end to end in one line, without padding: every token attends to its own row only.

transformers lets an attention function be registered by name. Ours cuts the line at the rows' ends and calls torch's attention for each:
no mask is made, nothing is computed for padding, and the time of a step grows with its tokens. A model that would mix the rows all the same
(a state-space layer, an attention with sinks) is not among those that ``verified`` knows, and is padded as usual.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import verified

NAME = "loraforge_rows"
_BLOCK = 96  # queries at a time, on a CPU; shorter rows are left to torch


def _blocks(length: int) -> Iterator[tuple[int, int]]:
    """Ranges of queries of about the same size, which see the keys up to their own end."""
    count = max(1, round(length / _BLOCK + 0.3))
    for number in range(count):
        yield length * number // count, length * (number + 1) // count


@functools.lru_cache(maxsize=256)
def _future(size: int) -> Tensor:
    """(size, size): minus infinity where a key lies behind the query."""
    return torch.full((size, size), -torch.inf).triu_(1)


def _folded(x: Tensor, groups: int) -> Tensor:
    """(heads, n, width) -> (groups, heads / groups * n, width): the heads that share their keys stand below each other."""
    return x.reshape(groups, -1, x.shape[-1])


class _RowAttention(torch.autograd.Function):
    """Causal attention within rows on a CPU, as plain products of matrices: for rows of a few hundred tokens they are faster than torch's
    own kernel. A block of queries meets only the keys before its end; of the weights nothing is kept."""

    @staticmethod
    def forward(context: Any, query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], scale: float) -> Tensor:
        context.save_for_backward(query, key, value)
        context.lengths, context.scale = lengths, scale
        _, heads, tokens, _ = query.shape
        out = query.new_empty(1, tokens, heads, value.shape[-1])
        key, value = key[0].contiguous(), value[0].contiguous()
        start = 0
        for length in lengths:
            for begin, end in _blocks(length):
                own, seen = slice(start + begin, start + end), slice(start, start + end)
                weights = _weights(_folded(query[0, :, own], len(key)), key[:, seen], begin, scale)
                out[0, own] = torch.bmm(weights, value[:, seen]).view(heads, end - begin, -1).transpose(0, 1)
            start += length
        return out

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = context.saved_tensors
        scale, heads, grad_q = context.scale, query.shape[1], torch.empty_like(query)
        key, value = key[0].contiguous(), value[0].contiguous()
        grad_k, grad_v = torch.zeros_like(key), torch.zeros_like(value)
        start = 0
        for length in context.lengths:
            for begin, end in _blocks(length):
                own, seen = slice(start + begin, start + end), slice(start, start + end)
                asked = _folded(query[0, :, own], len(key))
                given = _folded(grad[0, own].transpose(0, 1), len(key))
                weights = _weights(asked, key[:, seen], begin, scale)
                grad_v[:, seen].baddbmm_(weights.transpose(1, 2), given)
                inner = torch.bmm(given, value[:, seen].transpose(1, 2))
                inner = torch.ops.aten._softmax_backward_data(inner, weights, -1, inner.dtype)
                grad_q[0, :, own] = _scaled(inner, key[:, seen], scale).view(heads, end - begin, -1)
                grad_k[:, seen].baddbmm_(inner.transpose(1, 2), asked, alpha=scale)
            start += length
        return grad_q, grad_k[None], grad_v[None], None, None


def _scaled(one: Tensor, other: Tensor, scale: float) -> Tensor:
    """The products of two stacks of matrices, times ``scale``, in one go."""
    return torch.baddbmm(one.new_empty(()), one, other, beta=0, alpha=scale)


def _weights(asked: Tensor, keys: Tensor, begin: int, scale: float) -> Tensor:
    """How much each query, (groups, heads * queries, width), attends to each key, (groups, keys, width); the first query stands at place
    ``begin``."""
    groups, end = keys.shape[:2]
    made = _scaled(asked, keys.transpose(1, 2), scale)
    made.view(groups, -1, end - begin, end)[..., begin:].add_(_future(end - begin))
    return torch.softmax(made, -1)


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    row_lengths: Sequence[int] = (),
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention within each row.

    Args:
        query, key, value: (1, heads, tokens, width); keys and values may have fewer heads.
        row_lengths: of the rows that the tokens are; one row if there are none.

    Returns:
        (1, tokens, heads, width), and nothing for the weights.
    """
    if others.get("softcap") is not None or others.get("s_aux") is not None or attention_mask is not None:
        raise ValueError("an attention that is not plain")
    lengths = list(row_lengths) or [query.shape[2]]
    plain = query.device.type == "cpu" and query.dtype == torch.float32 and not dropout and sliding_window is None
    if plain and query.shape[2] >= _BLOCK * len(lengths):
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        whole: Tensor = _RowAttention.apply(query, key, value, tuple(lengths), scale)  # type: ignore[no-untyped-call]
        return whole, None
    grouped = {"enable_gqa": True} if key.shape[1] != query.shape[1] else {}
    made = []
    for q, k, v in zip(*(torch.split(x, lengths, 2) for x in (query, key, value)), strict=True):
        length = q.shape[2]
        mask = None
        if sliding_window is not None and length > sliding_window:
            place = torch.arange(length, device=q.device)
            apart = place[:, None] - place[None]
            mask = (apart >= 0) & (apart < sliding_window)
        out = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout, scale=scaling, is_causal=mask is None and length > 1, **grouped
        )
        made.append(out.transpose(1, 2))
    return torch.cat(made, 1), None


def _no_mask(*arguments: Any, **others: Any) -> None:
    """The rows' own lengths say what may be seen."""


def attend_to_rows(model: Any) -> bool:
    """Makes ``model`` (in place) take rows end to end, with their lengths as ``row_lengths``, if its parts are known to keep rows apart.

    Returns:
        whether it does; otherwise nothing is changed.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    before = getattr(model.config, "_attn_implementation", None)
    if before != "sdpa" or not verified.keeps_rows_apart(model):
        return False  # flash attention knows rows by itself; an eager model has a reason for it
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _no_mask)
    model.set_attn_implementation(NAME)
    return True


def line(rows: Sequence[Tensor]) -> dict[str, Any]:
    """The model's inputs for rows of token ids (int64, one dimension each), put end to end."""
    places = [torch.arange(len(row), device=row.device) for row in rows]
    return {
        "input_ids": torch.cat(list(rows))[None],
        "position_ids": torch.cat(places)[None],
        "row_lengths": tuple(len(row) for row in rows),
    }
