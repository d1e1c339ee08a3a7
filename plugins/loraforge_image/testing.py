# SPDX-License-Identifier: Apache-2.0
"""For the tests of image families: the check that finds a wrong sign, scale of time, packing, position, shift or guidance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .families.image_base import ImageBase

if TYPE_CHECKING:
    from torch import Tensor


def check_drawing(
    base: ImageBase,
    prompts: Sequence[str] = ("a ball", "a wall, number 7"),
    *,
    cfg: float = 4.0,
    size: tuple[int, int] = (96, 64),
    sampler: str = "auto",
    steps: int = 4,
    options: Mapping[str, Any] | Callable[[Any, Sequence[str], Sequence[str]], Mapping[str, Any]] | None = None,
    negative: str = "blue",
    unpack: Callable[[Any], Tensor] | None = None,
    tolerance: float = 1e-4,
) -> None:
    """From the same noise and prompts our drawing and the base's own diffusers pipeline make the same latents.

    Args:
        base: in float32 on the CPU; a tiny random one will do. Its pipeline's scheduler may be exchanged.
        size: (width, height); not square, so that exchanged sides are found.
        options: what the pipeline's ``__call__`` is given besides prompts, steps, size, seeds, ``guidance_scale``, and
            ``negative_prompt`` where the base is guided; or in their place. A function of the pipeline, the prompts and the negative
            prompts may make it.
        negative: what a guided base draws without; a pipeline is not given an empty one, which it takes by itself.
        unpack: makes (rows, channels, ...) of what the pipeline returns as latents, where it returns them packed.

    Raises:
        AssertionError: saying how far apart they are.
    """
    import torch

    from .families import Diffusion
    from .families.drawing import draw, guides

    seeds, kept, own = list(range(5, 5 + len(prompts))), [], vars(base).get("decode")
    without = [negative] * len(prompts) if guides(base, cfg) else []
    chosen = base.objective.chosen(sampler)

    def keep(latents: Tensor) -> Tensor:
        kept.append(latents)
        return torch.zeros(1, 3, 8, 8)

    with torch.no_grad():
        base.decode = keep  # type: ignore[method-assign]
        try:
            draw(base, torch.device("cpu"), base.condition([*without, *prompts]), seeds, size, steps=steps, cfg=cfg, sampler=chosen)
        finally:
            if own is None:
                del base.decode
        if isinstance(base.objective, Diffusion):
            base.pipe.scheduler = base.objective.scheduler(chosen, steps, 0, "cpu")
        base.pipe.set_progress_bar_config(disable=True)
        more = options(base.pipe, prompts, without) if callable(options) else options or {}
        given = {"prompt": list(prompts), "guidance_scale": cfg, **({"negative_prompt": without} if any(without) else {}), **more}
        theirs = base.pipe(
            num_inference_steps=steps,
            width=size[0],
            height=size[1],
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="latent",
            **given,
        ).images
    ours, theirs = torch.cat(kept), unpack(theirs) if unpack is not None else theirs
    assert ours.shape == theirs.shape, f"our latents are {tuple(ours.shape)}, those of {type(base.pipe).__name__} {tuple(theirs.shape)}"
    apart, mean = float((ours - theirs).abs().max()), float(theirs.abs().mean())
    assert apart <= tolerance * max(mean, 1.0), f"drawn latents differ by {apart:.2g} (their mean size is {mean:.2g})"
