# SPDX-License-Identifier: Apache-2.0
"""Transformer families as the test of a family takes them: a tiny base of each, and what to compare it with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Case:
    """One family.

    Attributes:
        family: makes it.
        make: ``make(folder)`` writes a tiny random base of less than 2 MB as a diffusers folder.
        plain: the loss of one picture, written down with nothing but diffusers: ``plain(pipe, clean, noise, level, caption)`` of
            (1, channels, ...) latents and a number of 0 to 1.
        blocks: a regular expression of all layers that get a LoRA by default, by their path in the transformer.
        layers: how many there are in the tiny base.
        channels: of its latents as they are kept.
        drawing: what ``check_drawing`` is called with.
        original: makes the tensors of the original model's single file of those of diffusers; None: diffusers has none.
        published: the transformer's configuration as it is published where that is not the class's own default, billions of parameters,
            and how many layers get a LoRA.
    """

    family: Callable[[], Any]
    make: Callable[..., Path]
    plain: Callable[..., Any]
    blocks: str
    layers: int
    channels: int = 16
    drawing: Mapping[str, Any] = field(default_factory=dict)
    original: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    published: tuple[Mapping[str, Any], float, int] = field(default=({}, 0.0, 0))


def cases() -> dict[str, Case]:
    """All families, by name."""
    from .chroma import CASE as chroma
    from .flux1 import CASE as flux1
    from .flux2 import CASE as flux2
    from .qwen_image import CASE as qwen_image
    from .sd35 import CASE as sd35
    from .z_image import CASE as z_image

    return {"z-image": z_image, "flux2": flux2, "flux1": flux1, "chroma": chroma, "qwen-image": qwen_image, "sd35": sd35}
