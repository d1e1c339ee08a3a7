# SPDX-License-Identifier: Apache-2.0
"""``check_drawing``: our loop of steps against the base's own pipeline."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..families.image_base import ImageBase

if TYPE_CHECKING:
    from torch import Tensor

Options = Mapping[str, Any] | Callable[[Any, Sequence[str], Sequence[str]], Mapping[str, Any]]


@dataclass(frozen=True)
class _Drawing:
    """One comparison of what is drawn; the fields are the arguments of ``check_drawing``."""

    base: ImageBase
    prompts: Sequence[str]
    cfg: float
    size: tuple[int, int]
    sampler: str
    steps: int
    options: Options | None
    negative: str
    unpack: Callable[[Any], Tensor] | None
    tolerance: float

    def apart(self, **other: Any) -> float:
        """How far the latents are apart, as a part of what may be; with ``other`` in place of some arguments."""
        import torch

        one = replace(self, **other)
        with torch.no_grad():
            ours, theirs = one._ours(), one._theirs()
        theirs = theirs if self.unpack is None else self.unpack(theirs)
        pipeline = type(self.base.pipe).__name__
        assert ours.shape == theirs.shape, f"our latents are {tuple(ours.shape)}, those of {pipeline} {tuple(theirs.shape)}"
        return float((ours - theirs).abs().max()) / (self.tolerance * max(float(theirs.abs().mean()), 1.0))

    def _without(self) -> list[str]:
        from ..families.drawing import guides

        return [self.negative] * len(self.prompts) if guides(self.base, self.cfg) else []

    def _seeds(self) -> list[int]:
        return list(range(5, 5 + len(self.prompts)))

    def _ours(self) -> Tensor:
        import torch

        from ..families.drawing import draw

        base, kept, own = self.base, [], vars(self.base).get("decode")

        def keep(latents: Tensor) -> Tensor:
            kept.append(latents)
            return torch.zeros(1, 3, 8, 8)

        base.decode = keep  # type: ignore[method-assign]
        try:
            texts, chosen = base.condition(self.prompts, self._without()), base.objective.chosen(self.sampler)
            draw(base, torch.device("cpu"), texts, self._seeds(), self.size, steps=self.steps, cfg=self.cfg, sampler=chosen)
        finally:
            if own is None:
                del base.decode
            else:
                base.decode = own  # type: ignore[method-assign]
        return torch.cat(kept)

    def _theirs(self) -> Any:
        import torch

        from ..families import Diffusion

        base, without = self.base, self._without()
        if isinstance(base.objective, Diffusion):
            base.pipe.scheduler = base.objective.scheduler(base.objective.chosen(self.sampler), self.steps, 0, "cpu")
        base.pipe.set_progress_bar_config(disable=True)
        more = self.options(base.pipe, self.prompts, without) if callable(self.options) else self.options or {}
        given = {"prompt": list(self.prompts), "guidance_scale": self.cfg, **({"negative_prompt": without} if any(without) else {}), **more}
        generators = [torch.Generator().manual_seed(seed) for seed in self._seeds()]
        given = {"num_inference_steps": self.steps, "width": self.size[0], "height": self.size[1], "generator": generators, **given}
        return base.pipe(output_type="latent", **given).images

    def hint(self) -> str:
        """Where to look, by what agrees."""
        simpler: list[tuple[str, str, list[dict[str, Any]]]] = [
            ("One prompt at a time", "join, and what predict makes of several rows", [{"prompts": [one]} for one in self.prompts]),
            ("With steps=1", "the levels that are drawn through: shift, mu, drawn_mu, sigmas", [{"steps": 1}]),
        ]
        if self._without():
            simpler.insert(0, ("With negative=''", "embed_negative", [{"negative": ""}]))
            simpler.insert(1, ("With cfg=1", "guide, embed_negative and guided", [{"cfg": 1.0}]))
        for kind, place, changes in simpler:
            with contextlib.suppress(Exception):  # options of the author may not bear it
                if all(self.apart(**change) <= 1 for change in changes):
                    return f"{kind} they agree: look at {place}."
        return "Look at predict (sign, scale of time, packing, position ids) and at embed."


def check_drawing(
    base: ImageBase,
    prompts: Sequence[str] = ("a ball", "a wall, number 7"),
    *,
    cfg: float = 4.0,
    size: tuple[int, int] = (96, 64),
    sampler: str = "auto",
    steps: int = 4,
    options: Options | None = None,
    negative: str = "blue",
    unpack: Callable[[Any], Tensor] | None = None,
    tolerance: float = 1e-4,
) -> None:
    """From the same noise and prompts our drawing and the base's own diffusers pipeline make the same latents.

    Args:
        base: in float32 on the CPU. Its pipeline's scheduler may be exchanged.
        size: (width, height); not square, so that exchanged sides are found.
        options: what the pipeline's ``__call__`` is given besides prompts, steps, size, seeds, ``guidance_scale``, and
            ``negative_prompt`` where the base is guided; or in their place. A function of the pipeline, the prompts and the negative
            prompts may make it.
        negative: what a guided base draws without; a pipeline is not given an empty one, which it takes by itself.
        unpack: makes (rows, channels, ...) of what the pipeline returns as latents, where it returns them packed.
        tolerance: of the largest difference, as a part of the mean size of what the pipeline draws, or of 1 where that is less.

    Raises:
        AssertionError: saying how far apart they are, and where to look.
    """
    drawing = _Drawing(base, prompts, cfg, size, sampler, steps, options, negative, unpack, tolerance)
    apart = drawing.apart()
    if not apart <= 1:
        raise AssertionError(f"drawn latents differ by {apart * tolerance:.2g} of what they are. {drawing.hint()}")
