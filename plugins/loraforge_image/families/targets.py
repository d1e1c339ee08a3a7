"""Which modules of a Stable Diffusion model carry a LoRA: those that kohya's trainer takes, so that every reader knows them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from loraforge import ConfigError, RunConfig, speaker

from ..records import ImageKeys
from .kohya_names import unmatched

say = speaker(__name__)

_TEXT = re.compile(r"encoder\.layers\.\d+\.(self_attn\.(q|k|v|out)_proj|mlp\.fc[12])$")
_ATTENTION = re.compile(r"\.attn[12]\.to_(q|k|v|out\.0)$|\.self_attn\.(q|k|v|out)_proj$")
_RESIDUAL = re.compile(r"\.(resnets|downsamplers|upsamplers)\.")
_QV = re.compile(r"\.attn[12]\.to_[qv]$|\.self_attn\.[qv]_proj$")


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
            found |= {f"{part}.{name}": config.lora_rank for name, _ in module.named_modules() if _TEXT.search(name)}
    return _narrowed(found, config.lora_target)


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


def splits_text_attention(target: str | list[str]) -> bool:
    """Whether ``lora_target`` takes some but not all of q, k, v and out of the text encoders' attention."""
    layers = [f"text_encoder.text_model.encoder.layers.{layer}.self_attn" for layer in range(32)]
    try:
        chosen = _narrowed({f"{layer}.{part}_proj": 1 for layer in layers for part in ("q", "k", "v", "out")}, target)
    except ConfigError:  # nothing of the text encoders, or nothing at all; the model's own names decide that
        return False
    return any(0 < sum(name.startswith(f"{layer}.") for name in chosen) < 4 for layer in layers)


def _narrowed(found: dict[str, int], target: str | list[str]) -> dict[str, int]:
    """Those that ``lora_target`` means."""
    if target == "all-linear":
        return found
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
        have = ", ".join(sorted({name.removesuffix(".0").rpartition(".")[2] for name in found}))
        called = target if isinstance(target, str) else "', '".join(target)
        raise ConfigError(say("lora_target: no layer of the base model is called '{value}'. There are: {have}.", value=called, have=have))
    return {name: found[name] for name in chosen}
