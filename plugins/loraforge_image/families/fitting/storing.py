# SPDX-License-Identifier: Apache-2.0
"""What ``precision``, ``offload`` and ``vae_tiling`` do to a loaded base; what is asked for in vain is said."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loraforge import ConfigError, RunConfig, speaker

from ...records import ImageKeys
from ..image_base import ImageBase

if TYPE_CHECKING:
    import torch

say = speaker(__name__)

# What of ``ImageKeys`` is kept with an adapter where it is not the default, so that it is drawn with on the card it was trained on.
KEPT = ("offload", "offload_share", "vae_tiling")


def problems(config: RunConfig, keys: ImageKeys) -> list[str]:
    """What is wrong with the keys of memory, before anything is loaded."""
    found = []
    if config.precision == "4bit" and importlib.util.find_spec("bitsandbytes") is None:
        found.append(say("precision: 4bit needs bitsandbytes: pip install 'loraforge[quantization]'. precision: fp8 needs nothing."))
    if config.precision in ("fp8", "4bit") and not keys.train_unet:
        found.append(
            say(
                "precision: {precision} rounds the denoiser, which does not learn here (train_unet: false). Use bf16 or fp32.",
                precision=config.precision,
            )
        )
    if keys.offload == "encoders" and keys.train_text_encoder:
        found.append(say("offload: encoders: the text encoders learn here, so they stay on the card. Use blocks, or none."))
    if keys.offload != "blocks" and keys.offload_share != 1:
        found.append(say("offload_share belongs to offload: blocks. Write that, or leave offload_share out."))
    return found


def kept(keys: ImageKeys) -> dict[str, Any]:
    """What drawing needs to know of these keys."""
    return {name: value for name in KEPT if (value := getattr(keys, name)) != ImageKeys.model_fields[name].default}


def check_tiles(base: ImageBase) -> None:
    """Raises:
    ConfigError: if ``vae_tiling`` asks for what the autoencoder cannot do.
    """
    vae = base.pipe.vae
    if base.settings.get("vae_tiling") and not hasattr(vae, "enable_tiling"):
        raise ConfigError(
            say("vae_tiling: the autoencoder of this base ({kind}) does not work in tiles. Leave it out.", kind=type(vae).__name__)
        )


def tile(base: ImageBase) -> None:
    """Lets the autoencoder decode in tiles where ``vae_tiling`` says so. Called when all pictures are encoded: each tile has norms and an
    attention of its own, so that its colours are others, and these are not to be learned."""
    if base.settings.get("vae_tiling"):
        base.pipe.vae.enable_tiling()


def store_denoiser(base: ImageBase, precision: str, settings: Mapping[str, Any], device: torch.device) -> Sequence[str]:
    """Rounds the weights of the denoiser's blocks and leaves as many of them in main memory as is asked for. Called when the adapter is
    on it: its own numbers keep their precision.

    Args:
        settings: ``offload`` and ``offload_share`` by name.

    Returns:
        what was done, for the log.
    """
    import torch

    from ...kernels import stored

    share = float(settings.get("offload_share", 1.0)) if settings.get("offload") == "blocks" else 0.0
    small: type[stored.Plain] = {"fp8": stored.Float8, "4bit": stored.Nf4}.get(precision, stored.Plain)
    if small is stored.Plain and not share:
        return ()
    found: list[Any] = [layer for _, layer in stored.storable(base.denoiser)]
    passed, waiting, chosen = 0, 0, []
    for layer in found:
        size = layer.weight.numel()
        passed += size
        # Whichever comes nearer to the share so far: spread over all blocks, so that copying and computing take turns.
        at_home = share * passed - waiting > size / 2 or share == 1
        waiting += size if at_home else 0
        # Four bits are made for matrices; a convolution gets eight.
        kind = stored.Float8 if small is stored.Nf4 and isinstance(layer, torch.nn.Conv2d) else small
        if at_home or kind is not stored.Plain:
            chosen.append((layer, kind, at_home))
    stored.store(chosen, device)
    return _told(precision, [layer for layer, _, _ in chosen], device)


def _told(precision: str, layers: Sequence[Any], device: torch.device) -> list[str]:
    rounded = sum(layer.stored.nbytes for layer in layers)
    numbers = sum(layer.stored_parameters for layer in layers)
    waiting = sum(layer.stored.nbytes for layer in layers if layer.stored.at_home)
    notes = []
    if precision in ("fp8", "4bit"):
        notes.append(
            say(
                "precision: {precision}: {n} layers of the denoiser take {size} instead of {before}",
                precision=precision,
                n=len(layers),
                size=_size(rounded),
                before=_size(2 * numbers),
            )
        )
    if waiting and device.type == "cpu":
        notes.append(say("offload: blocks: nothing is moved, since a CPU computes in main memory"))
    elif waiting:
        notes.append(say("offload: blocks: {size} of weights stay in main memory and come to the card when needed", size=_size(waiting)))
    return notes


def _size(amount: float) -> str:
    return f"{amount / 2**30:.1f} GB" if amount >= 2**30 else f"{amount / 2**20:.1f} MB"


def store_encoders(base: ImageBase, settings: Mapping[str, Any]) -> None:
    """Leaves the weights of the text encoders in main memory where ``offload`` says so: each comes to the card for its own product."""
    import torch

    from ...kernels import stored

    if settings.get("offload", "none") == "none":
        return
    for encoder in base.text_encoders.values():
        stored.store([(layer, stored.Plain, True) for _, layer in stored.storable(encoder, nested=True)], torch.device("cpu"))
