"""Rows end to end in one line, without padding: every token attends to its own row only.

transformers lets an attention function be registered by name. Ours cuts the line at the rows' ends and calls torch's attention for each:
no mask is made, nothing is computed for padding, and the time of a step grows with its tokens. A model that would mix the rows all the same
(a state-space layer, an attention with sinks) is found out by ``attend_to_rows`` and padded as usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

NAME = "loraforge_rows"


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
    """Makes ``model`` (in place) take rows end to end, with their lengths as ``row_lengths``, if it gives the same as with padding.

    Returns:
        whether it does; otherwise nothing is changed.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    before = getattr(model.config, "_attn_implementation", None)
    if before != "sdpa":
        return False  # flash attention knows rows by itself; an eager model has a reason for it
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _no_mask)
    device = next(model.parameters()).device
    rows = [
        torch.arange(start, start + length, device=device) % model.config.get_text_config().vocab_size
        for start, length in ((3, 7), (1, 12))
    ]
    try:
        with torch.no_grad():
            apart = [model(input_ids=row[None], use_cache=False).logits[0] for row in rows]
            model.set_attn_implementation(NAME)
            together = model(**line(rows), use_cache=False).logits[0]
        wanted = torch.cat(apart)
        # A row that saw the other one would be off by about as much as the figures themselves.
        if together.shape == wanted.shape and (together - wanted).float().norm() <= 0.03 * wanted.float().norm():
            return True
    except (RuntimeError, TypeError, ValueError, KeyError, AttributeError, IndexError):
        pass
    model.set_attn_implementation(before)
    return False


def line(rows: Sequence[Tensor]) -> dict[str, Any]:
    """The model's inputs for rows of token ids (int64, one dimension each), put end to end."""
    places = [torch.arange(len(row), device=row.device) for row in rows]
    return {
        "input_ids": torch.cat(list(rows))[None],
        "position_ids": torch.cat(places)[None],
        "row_lengths": tuple(len(row) for row in rows),
    }
