# SPDX-License-Identifier: Apache-2.0
"""``assistant_adapter``: a LoRA that undoes a base's distillation while something is trained on it, and is gone when a picture is drawn.

It acts beside the frozen layers and is not added to their weights: it comes and goes without rounding them, so a run goes on to the bit,
and it works on weights that are packed in 8 or 4 bits. What it adds is frozen, so it keeps nothing for the backward pass but what the
layers keep anyway.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import ConfigError, RunError, first_few, speaker

from ...lora_files.factors import locate_lora, open_lora
from ..image_base import ImageBase

if TYPE_CHECKING:
    import torch
    from torch import Tensor

say = speaker(__name__)


def assistant_file(wanted: str) -> Path:
    """The file that ``assistant_adapter`` means."""
    place, folder = locate_lora(Path(wanted).expanduser())
    return place / "adapter_model.safetensors" if folder else place


class Assistant:
    """A training adapter on the layers of a base.

    Args:
        base: of which only the shapes of the layers are looked at.
        wanted: what ``assistant_adapter`` names: a LoRA file, a run, an adapter folder.

    Attributes:
        line: what is to be said of it.

    Raises:
        ConfigError: if it is no LoRA, or not of this base: half of one would undo half of the distillation.
    """

    def __init__(self, base: ImageBase, wanted: str) -> None:
        from ..starts.start import layers_of, names_of, place_factors

        try:
            opened = open_lora(Path(wanted).expanduser())
        except RunError as error:
            raise ConfigError([say("assistant_adapter: {problem}", problem=problem) for problem in error.problems]) from None
        start = f"{base.denoiser_name}."
        # With a LoRA on them, layers are inside of peft's.
        found = {name.removesuffix(".base_layer"): layer for name, layer in layers_of(base).items() if ".lora_" not in name}
        layers = {name: layer for name, layer in found.items() if name.startswith(start)}
        placed, left = place_factors(opened, layers, names_of(base, layers, (), None), dict.fromkeys(layers, 0))
        strange = [*left.unknown, *left.misfits, *opened.leftover]
        if strange or not placed:
            raise ConfigError(
                say(
                    "assistant_adapter: {path} was made for another base model, or is no training adapter: {n} of its {all} modules are no "
                    "layers of this base: {names}.",
                    path=opened.path,
                    n=len(strange),
                    all=len(opened.factors),
                    names=first_few(strange, 3) or "-",
                )
            )
        self._base, self._placed = base, placed
        self.line = say(
            "assistant_adapter: {name} acts on {n} layers in training and in the held-out loss; pictures are drawn without it",
            name=opened.path.name,
            n=len(placed),
        )

    def attach(self, network: torch.nn.Module, device: Any) -> None:
        """Lets it act on the layers of ``network``, whatever stands in their places by now."""
        for name, one in self._placed.items():
            down, up = one.down.to(device, self._base.dtype), (one.scale * one.up).to(device, self._base.dtype)
            network.get_submodule(name).register_forward_hook(_Beside(self._base, down, up))


class _Beside:
    """Adds ``up @ down`` of a layer's input to its output, while the base is assisted."""

    def __init__(self, base: ImageBase, down: Tensor, up: Tensor) -> None:
        self._base, self._down, self._up = base, down, up

    def __call__(self, layer: torch.nn.Module, given: tuple[Any, ...], made: Tensor) -> Tensor | None:
        if not self._base.assisted:
            return None
        from torch.nn.functional import linear

        x = given[0].to(self._down.dtype)
        return made + linear(linear(x, self._down), self._up).to(made.dtype)
