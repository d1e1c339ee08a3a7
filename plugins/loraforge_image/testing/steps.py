# SPDX-License-Identifier: Apache-2.0
"""``check_batch`` and ``check_gradients``: one training step against the same written down with diffusers and peft."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import KeySet, RunConfig, Span

from ..families.image_base import Framing, ImageBase
from ..records import ImageKeys
from .pictures import CAPTIONS, draw_pictures

if TYPE_CHECKING:
    from torch import Tensor

    from ..families import ImageFamily
    from ..families.trainable import TrainableImages

Plain = Callable[[Any, "Tensor", "Tensor", float, str], "Tensor"]

_RANK = 4


def check_batch(base: ImageBase, captions: Sequence[str] = CAPTIONS, *, size: tuple[int, int] = (96, 64), tolerance: float = 1e-5) -> None:
    """What is said of several rows together is what is said of each alone.

    Args:
        base: in float32 on the CPU.
        captions: of different lengths.
        tolerance: of the largest difference, as a part of the largest number, or of 1 where that is less.

    Raises:
        AssertionError: naming the caption whose row differs most.
    """
    import torch

    count, chance = len(captions), torch.Generator().manual_seed(2)
    noisy = torch.randn(count, *base.latent_shape(*size), generator=chance)
    # From little noise to much; a schedule of integer times keeps its own.
    levels = torch.tensor([base.objective.level((i + 0.5) / count, base.tokens(noisy.shape[1:])) for i in range(count)])
    extras = base.extras(Framing(size, (0, 0), size))
    with torch.no_grad():
        rows = [base.embed(caption) for caption in captions]

        def said(some: Sequence[int]) -> Tensor:
            more = {name: value.expand(len(some), *value.shape) for name, value in extras.items()}
            texts = base.resolve(base.join([rows[i] for i in some]))
            return base.predict(noisy[list(some)], levels[list(some)], texts, more)

        together, alone = said(range(count)), torch.cat([said([i]) for i in range(count)])
    assert together.shape == noisy.shape, f"predict must answer in the shape {tuple(noisy.shape)}, not {tuple(together.shape)}"
    apart = (together - alone).abs().flatten(1).amax(1) / max(float(alone.abs().max()), 1.0)
    worst = int(apart.argmax())
    found = f"'{captions[worst]}' is predicted otherwise among {count} captions than alone, by {float(apart[worst]):.2g}"
    assert float(apart[worst]) <= tolerance, f"{found}. Look at join, and at the mask that predict makes of what it filled up."


def check_gradients(
    family: ImageFamily,
    base_model: str | Path,
    plain: Plain,
    *,
    captions: Sequence[str] = CAPTIONS[:2],
    size: tuple[int, int] = (96, 64),
    tolerance: float = 1e-3,
) -> None:
    """A training step has the loss and the gradients of a loop without LoRAForge: diffusers' network with peft's LoRA on the same layers
    and ``plain``. With gradient checkpointing they are the same.

    Args:
        base_model: a diffusers folder.
        plain: ``plain(pipe, clean, noise, level, caption)``, the loss of one picture written down with diffusers alone, of
            (1, channels, height, width) latents as ``encode`` made them, noise, and a level.
        size: (width, height) of the pictures.
        tolerance: of a gradient's largest difference, as a part of its largest number.

    Raises:
        AssertionError: naming the loss, or the layer whose gradient differs most.
    """
    with tempfile.TemporaryDirectory() as place:
        made, batch = _trainable(family, str(base_model), Path(place), captions, size)
        loss, ours = _gradients(made, batch)
        other, theirs = _plain_gradients(made, batch, str(base_model), plain, captions)
        differ = f"the loss is {loss:.7g}, with plain diffusers {other:.7g}. Look at predict, embed and make_objective."
        assert abs(loss - other) <= 1e-4 * max(abs(other), 1e-3), differ
        _same_gradients(ours, theirs, tolerance, "plain diffusers and peft")
        made.base.enable_gradient_checkpointing()
        _same_gradients(_gradients(made, batch)[1], ours, 1e-4, "what is learned without gradient checkpointing")


def _trainable(
    family: ImageFamily, base_model: str, place: Path, captions: Sequence[str], size: tuple[int, int]
) -> tuple[TrainableImages, Mapping[str, Any]]:
    """The trainable model on the CPU with a LoRA that does something, and a batch of one picture for each caption."""
    import torch

    config = RunConfig(train_data_dir="x", base_model=base_model, lora_rank=_RANK, lora_alpha=_RANK, lora_dropout=0.0, precision="fp32")
    step = family.multiple
    keys = ImageKeys(resolution=min(size), bucket_step=step, sample_prompts=[], cache_dir=str(place / "cache"))
    made = family.load(config, KeySet({RunConfig: config, ImageKeys: keys}), torch.device("cpu"))
    rows = draw_pictures(place, captions, [size])
    examples = [made.encode(row, [Span(row.caption, True)]) for row in rows]
    chance = torch.Generator().manual_seed(1)
    with torch.no_grad():  # a fresh LoRA changes nothing, and half of it has no gradient
        for name, value in made.lora.model.named_parameters():
            if ".lora_B." in name:
                value.copy_(torch.randn(value.shape, generator=chance) / 10)
    return made, made.collate(examples, 3)


def _gradients(made: TrainableImages, batch: Mapping[str, Any]) -> tuple[float, dict[str, Tensor]]:
    """The loss, and the gradient of every parameter that has one."""
    model = made.lora.model
    model.train()
    model.zero_grad()
    loss = made.loss(model, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item(), {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def _plain_gradients(
    made: TrainableImages, batch: Mapping[str, Any], base_model: str, plain: Plain, captions: Sequence[str]
) -> tuple[float, dict[str, Tensor]]:
    """The same by diffusers, peft and ``plain``."""
    import diffusers
    import torch
    from peft import LoraConfig

    pipe = diffusers.DiffusionPipeline.from_pretrained(base_model)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False)
    called = f"{made.base.denoiser_name}."
    values = dict(made.lora.model.named_parameters())
    layers = sorted({name.partition(".lora_A.")[0].removeprefix(called) for name in values if ".lora_A." in name})
    denoiser = getattr(pipe, made.base.denoiser_name)
    denoiser.add_adapter(LoraConfig(r=_RANK, lora_alpha=_RANK, target_modules=layers))
    learned = {f"{called}{name}": value for name, value in denoiser.named_parameters() if value.requires_grad}
    with torch.no_grad():
        for name, value in learned.items():
            value.copy_(values[name])
    rows = zip(batch["clean"].split(1), batch["noise"].split(1), batch["levels"].tolist(), captions, strict=True)
    loss = torch.stack([plain(pipe, *row) for row in rows]).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item(), {name: value.grad for name, value in learned.items() if value.grad is not None}


def _same_gradients(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], tolerance: float, whose: str) -> None:
    """Raises AssertionError naming the layer that differs most."""
    only = sorted(ours.keys() ^ theirs.keys())
    assert not only, f"with {whose} other layers learn: {', '.join(only[:3])}"
    most = max((float(value.abs().max()) for value in theirs.values()), default=0.0)
    assert most > 0, "no layer has a gradient; what the layers that learn compute must reach the loss"
    # Where a layer's own gradient is nearly nothing, what is left of rounding is no difference.
    apart = {name: float((ours[name] - value).abs().max()) / max(float(value.abs().max()), 1e-3 * most) for name, value in theirs.items()}
    worst = max(apart, key=lambda name: apart[name])
    assert apart[worst] <= tolerance, f"the gradient of {worst} differs from that of {whose} by {apart[worst]:.2g} of its size"
