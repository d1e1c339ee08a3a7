"""The feed-forward block of the last layer on learned positions only.

What the last layer makes of a position is read by the head alone, and the head is applied where something is learned. Of the other
positions only the keys and values of the last layer are needed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def _forward(layer: Any, hidden_states: Tensor, *arguments: Any, places: Tensor | None = None, **others: Any) -> Any:
    """(1, tokens, width) -> (1, len(places), width); without places as the layer's own class does it."""
    if places is None:
        return super(type(layer), layer).forward(hidden_states, *arguments, **others)
    attended, *_ = layer.self_attn(*arguments, hidden_states=layer.input_layernorm(hidden_states), **others)
    here = hidden_states.index_select(1, places) + attended.index_select(1, places)
    return here + layer.mlp(layer.post_attention_layernorm(here))


def keep_places(model: Any) -> bool:
    """Makes ``model`` (in place), which takes rows end to end and has no head, give only the ``places`` that it is asked for, if what it
    gives there stays the same.

    Returns:
        whether it does; otherwise nothing is changed.
    """
    from . import packed_attention

    layers = getattr(model.get_decoder(), "layers", None)
    if not layers:
        return False
    layer = layers[-1]
    kind = type(layer)
    device = next(model.parameters()).device
    ids = [torch.arange(2, 2 + length, device=device) % model.config.get_text_config().vocab_size for length in (9, 5)]
    places = torch.tensor([3, 4, 8, 11], device=device)
    try:
        with torch.no_grad():
            wanted = model(**packed_attention.line(ids), use_cache=False).logits[:, places]
            layer.__class__ = type(f"Last{kind.__name__}", (kind,), {"forward": _forward})
            got = model(**packed_attention.line(ids), places=places, use_cache=False).logits
        if got.shape == wanted.shape and torch.allclose(got.float(), wanted.float(), rtol=1e-3, atol=1e-3):
            return True
    except (RuntimeError, TypeError, ValueError, KeyError, AttributeError, IndexError):
        pass
    layer.__class__ = kind
    return False
