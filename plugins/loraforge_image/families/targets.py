# SPDX-License-Identifier: Apache-2.0
"""Which layers of an image model carry a LoRA: those that its family offers, narrowed to what ``lora_target`` means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from loraforge import ConfigError, speaker

say = speaker(__name__)

_ATTENTION = re.compile(r"\.(attn\d?|attention|self_attn)\.")
_QV = re.compile(r"\.(attn\d?|attention|self_attn)\.(to_[qv]|add_[qv]_proj|[qv]_proj)$")


def linear_layers(network: Any, part: str, pattern: str, rank: int) -> dict[str, int]:
    """The linear layers of ``network``'s child ``part`` whose path ``pattern`` finds, each with ``rank``, in the network's order."""
    import torch

    found = re.compile(pattern)
    inside = getattr(network, part).named_modules()
    return {f"{part}.{name}": rank for name, module in inside if isinstance(module, torch.nn.Linear) and found.search(name)}


def narrowed(found: Mapping[str, int], target: str | list[str]) -> dict[str, int]:
    """Those that ``lora_target`` means.

    Raises:
        ConfigError: if there is none; it lists what there is.
    """
    if target == "all-linear":
        return dict(found)
    if target == "attention":
        chosen = [name for name in found if _ATTENTION.search(name)]
    elif isinstance(target, str) and re.sub(r"[\s_]", "", target) in ("q,v", "qv"):
        chosen = [name for name in found if _QV.search(name)]
    elif isinstance(target, str) and re.search(r"[\\^$*+?()\[\]|]", target):
        try:
            pattern = re.compile(target)
        except re.error as error:
            raise ConfigError(say("lora_target: '{value}' is not a regular expression: {error}.", value=target, error=error)) from None
        chosen = [name for name in found if pattern.fullmatch(name)]
    else:
        wanted = [part.strip() for part in (target.split(",") if isinstance(target, str) else target)]
        chosen = [name for name in found if any(name == part or name.endswith("." + part) for part in wanted)]
    if not chosen:
        have = ", ".join(sorted({_called(name) for name in found}))
        called = target if isinstance(target, str) else "', '".join(target)
        raise ConfigError(say("lora_target: no layer of the base model is called '{value}'. There are: {have}.", value=called, have=have))
    return {name: found[name] for name in chosen}


def _called(name: str) -> str:
    """The end of a layer's name, as ``lora_target`` takes it: with what stands before a bare number."""
    before, _, last = name.rpartition(".")
    return f"{before.rpartition('.')[2]}.{last}" if last.isdecimal() else last
