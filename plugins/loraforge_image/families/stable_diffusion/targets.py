# SPDX-License-Identifier: Apache-2.0
"""Which modules of a Stable Diffusion model carry a LoRA: those that kohya's trainer takes, so that every reader knows them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loraforge import ConfigError, RunConfig, apply_block_ranks

from ...records import ImageKeys
from ..targets import narrowed
from .kohya_names import unmatched

TEXT = re.compile(r"encoder\.layers\.\d+\.(self_attn\.(q|k|v|out)_proj|mlp\.fc[12])$")
_RESIDUAL = re.compile(r"\.(resnets|downsamplers|upsamplers)\.")


def _unet_modules(unet: Any, rank: int, conv_rank: int) -> Iterator[tuple[str, int]]:
    """(name, rank): linear layers and 1x1 convolutions of the transformers; with ``conv_rank`` the residual blocks too, of which only 3x3
    convolutions have it."""
    import torch

    places = {"Transformer2DModel"} | ({"ResnetBlock2D", "Downsample2D", "Upsample2D"} if conv_rank else set())
    for outer, block in unet.named_modules():
        if type(block).__name__ not in places:
            continue
        for inner, module in block.named_modules():
            if isinstance(module, torch.nn.Linear):
                yield f"{outer}.{inner}", rank
            elif isinstance(module, torch.nn.Conv2d):
                yield f"{outer}.{inner}", rank if module.kernel_size == (1, 1) else conv_rank


def lora_modules(model: Any, config: RunConfig, keys: ImageKeys) -> dict[str, int]:
    """The adapted modules by full name, with their ranks, in the model's order.

    Args:
        model: holds ``unet``, and ``text_encoder`` (and ``text_encoder_2``) where these are trained.

    Raises:
        ConfigError: if ``lora_target`` matches nothing.
    """
    found: dict[str, int] = {}
    for part, module in model.named_children():
        if part == "unet":
            if keys.train_unet:
                found |= {f"{part}.{name}": rank for name, rank in _unet_modules(module, config.lora_rank, keys.conv_rank)}
        elif keys.train_text_encoder:
            found |= {f"{part}.{name}": config.lora_rank for name, _ in module.named_modules() if TEXT.search(name)}
    return narrowed(found, config.lora_target)


def readable(modules: Mapping[str, int], family: str) -> dict[str, int]:
    """Without the convolutions of ``conv_rank`` that the published models of the family lack: a narrow base like tiny-sd has a
    ``conv_shortcut`` where Stable Diffusion 1.x keeps the width, and a file with it would be refused by every reader."""
    strange = {name for name in unmatched(modules, family) if _RESIDUAL.search(name)}
    kept = {name: rank for name, rank in modules.items() if name not in strange}
    return kept or dict(modules)


def strange_convolutions(unet: Mapping[str, Any], family: str) -> list[str]:
    """What ``readable`` will leave out, from the U-Net's configuration alone, as far as that shows it: the shortcuts of the down blocks,
    which exist where the width changes."""
    widths = unet.get("block_out_channels") or ()
    shortcuts = [
        f"unet.down_blocks.{level}.resnets.0.conv_shortcut" for level in range(1, len(widths)) if widths[level] != widths[level - 1]
    ]
    return [name.removeprefix("unet.") for name in unmatched(shortcuts, family)]


def splits_text_attention(target: str | list[str], block_ranks: Sequence[str] = ()) -> bool:
    """Whether ``lora_target`` and ``block_ranks`` take some but not all of q, k, v and out of the text encoders' attention."""
    layers = [f"text_encoder.text_model.encoder.layers.{layer}.self_attn" for layer in range(32)]
    try:
        chosen = narrowed({f"{layer}.{part}_proj": 1 for layer in layers for part in ("q", "k", "v", "out")}, target)
    except ConfigError:  # nothing of the text encoders, or nothing at all; the model's own names decide that
        return False
    chosen = apply_block_ranks(chosen, block_ranks, strict=False)
    return any(0 < sum(name.startswith(f"{layer}.") for name in chosen) < 4 for layer in layers)
