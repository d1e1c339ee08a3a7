# SPDX-License-Identifier: Apache-2.0
"""``loraforge lora merge``: several LoRA files in one, each at its strength; or added to the weights of a base."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import ConfigError, ExportError, RunError, atomic_dir, first_few, speaker

from ..lora_files.factors import Factors, Opened, scaled
from ..lora_files.names import of_network

if TYPE_CHECKING:
    from torch import nn

say = speaker(__name__)

_STRONGEST = 100.0


def split_strength(written: str) -> tuple[Path, float]:
    """``FILE:0.8`` -> the file and its strength; without one it is 1. A colon of the path's own is left to it.

    Raises:
        ConfigError: if the strength is no number that can be meant.
    """
    before, colon, after = written.rpartition(":")
    number = after.strip()
    if (
        not colon
        or not before
        or Path(written).exists()
        or not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf\w*)", number, re.I)
    ):
        return Path(written), 1.0
    strength = float(number)
    if not abs(strength) <= _STRONGEST:
        raise ConfigError(say("{value}: a strength lies between -{most} and {most}.", value=written, most=f"{_STRONGEST:g}"))
    return Path(before), strength


def together(files: Sequence[tuple[Opened, float]]) -> list[list[Factors]]:
    """For every layer that one of the files changes, the pairs of all, at their strengths; in the order of the names.

    Raises:
        RunError: if they change a layer of another width.
    """
    layers: dict[str, list[Factors]] = {}
    wrong = []
    for opened, strength in files:
        for one in opened.factors:
            there = layers.setdefault(one.called, [])
            if there and (one.up.shape[0] != there[0].up.shape[0] or one.down[0].numel() != there[0].down[0].numel()):
                wrong.append(f"{one.name} ({opened.path.name})")
                continue
            shaped = (
                Factors(one.name, one.called, one.down.reshape(one.rank, *there[0].down.shape[1:]), one.up, one.scale) if there else one
            )
            there.append(scaled(shaped, strength))
    if wrong:
        raise RunError(
            say(
                "these files belong to different base models: {n} layers have other widths: {names}",
                n=len(wrong),
                names=first_few(wrong, 3),
            )
        )
    return [layers[called] for called in sorted(layers)]


def into_base(
    base: str, files: Sequence[tuple[Opened, float]], out: Path, allow_pickle: bool, base_config: str | None
) -> tuple[int, list[str]]:
    """Adds the files to the weights of a base, and writes that as a diffusers folder.

    Returns:
        How many layers were changed, and the modules of the files that the base has no layer for.

    Raises:
        ModelError: if the base cannot be loaded.
        ExportError: if nothing fits, or it cannot be written.
    """
    import torch

    pipe = load_whole(base, allow_pickle, base_config)
    layers = layers_of(pipe)
    pairs = together(files)
    left, misfits, done = [], [], 0
    for several in pairs:
        module = layers.get(several[0].called)
        if module is None:
            left.append(several[0].name)
            continue
        weight: Any = module.weight
        if several[0].up.shape[0] != weight.shape[0] or several[0].down[0].numel() != weight[0].numel():
            misfits.append(several[0].name)
            continue
        change = sum(one.delta().flatten(1) for one in several)
        with torch.no_grad():
            weight.copy_((weight.double().flatten(1) + change).reshape(weight.shape))
        done += 1
    if misfits or not done:
        names = first_few(misfits or left, 3)
        raise ExportError(
            say("{base} is not the base of these files: {n} modules do not fit: {names}", base=base, n=len(misfits or left), names=names)
        )
    with atomic_dir(out) as folder:
        pipe.save_pretrained(folder, safe_serialization=True)
    return done, left


def load_whole(base: str, allow_pickle: bool = False, base_config: str | None = None) -> Any:
    """A base as diffusers' pipeline, in 32 bits.

    Raises:
        ModelError: if it cannot be loaded.
    """
    import torch

    from ..families.base_files import pipeline_name
    from ..families.loading import load_pipeline, quiet_diffusers
    from ..families.stable_diffusion.identify import identify
    from ..families.stable_diffusion.loading import load_base

    found = identify(base)
    quiet_diffusers()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old configurations
        if found.family:
            return load_base(base, None, torch.float32, found.family, prediction="auto", allow_pickle=allow_pickle, base_config=base_config)
        kind = pipeline_name(base)
        if not kind:
            raise ConfigError(say("{base}: {what}.", base=base, what=found.what))
        return load_pipeline(base, None, kind, torch.float32)


def layers_of(pipe: Any) -> Mapping[str, nn.Module]:
    """Every layer of a pipeline that a LoRA could sit on, by its canonical name."""
    import torch

    denoiser = "unet" if getattr(pipe, "unet", None) is not None else "transformer"
    parts = {name: part for name, part in pipe.components.items() if name == denoiser or name.startswith("text_encoder")}
    return {
        of_network(f"{part}.{name}", denoiser): module
        for part, whole in parts.items()
        if whole is not None
        for name, module in whole.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
    }
