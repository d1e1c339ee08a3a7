# SPDX-License-Identifier: Apache-2.0
"""The feed-forward block of the last layer on learned positions only.

What the last layer makes of a position is read by the head alone, and the head is applied where something is learned. Of the other
positions only the keys and values of the last layer are needed.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import verified


def _forward(layer: Any, hidden_states: Tensor, *arguments: Any, places: Tensor | None = None, **others: Any) -> Any:
    """(1, tokens, width) -> (1, len(places), width); without places as the layer's own class does it."""
    if places is None:
        return super(type(layer), layer).forward(hidden_states, *arguments, **others)
    attended, *_ = layer.self_attn(*arguments, hidden_states=layer.input_layernorm(hidden_states), **others)
    here = hidden_states.index_select(1, places) + attended.index_select(1, places)
    return here + layer.mlp(layer.post_attention_layernorm(here))


def keep_places(model: Any) -> bool:
    """Makes ``model`` (in place), which takes rows end to end and has no head, give only the ``places`` that it is asked for, if its last
    layer is the verified one.

    Returns:
        whether it does; otherwise nothing is changed.
    """
    layers = getattr(model.get_decoder(), "layers", None)
    if not layers or not verified.is_one_of(layers[-1], verified.PLAIN_LAYERS):
        return False
    kind = type(layers[-1])
    layers[-1].__class__ = type(f"Last{kind.__name__}", (kind,), {"forward": _forward})
    return True
