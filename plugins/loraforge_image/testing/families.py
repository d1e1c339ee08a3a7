# SPDX-License-Identifier: Apache-2.0
"""``check_image_family`` and ``check_walk``: what runs, commands and estimates rely on."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraforge import Adapter, KeySet, RunConfig, Span
from loraforge.testing import check_model_family

from ..families.base_files import part_config
from ..records import ImageKeys
from .pictures import draw_pictures

if TYPE_CHECKING:
    from ..families import ImageFamily, TransformerFamily


def check_image_family(family: ImageFamily, base_model: str | Path, *, learning_rate: float = 5e-3, steps: int = 4) -> Adapter:
    """``loraforge.testing.check_model_family`` on four small pictures: recognised and examined without torch; any way to cut a step gives
    one loss and one gradient; it learns and draws; its adapter is taken off, opened, switched and trained on.

    Args:
        base_model: a base of this family, as small as there is.
        steps: how many must lower the loss.

    Returns:
        the adapter of these steps, for the checks of exporters.

    Raises:
        AssertionError: with the promise that is not kept.
    """
    step = family.multiple
    side = -(-64 // step) * step
    with tempfile.TemporaryDirectory() as place:
        config = RunConfig(train_data_dir=place, base_model=str(base_model), lora_rank=4, learning_rate=learning_rate)
        own = ImageKeys(resolution=side, bucket_step=step, sample_prompts=["a ball"], sample_steps=2, cache_dir=f"{place}/cache")
        keys = KeySet({RunConfig: config, ImageKeys: own})
        captions = ["a ball" * (number + 1) for number in range(4)]
        rows = draw_pictures(Path(place), captions, [(side, side), (side, side), (side + side // 2 // step * step, side)])
        texts = [(row, [Span(row.caption, True)]) for row in rows]
        drawn = {"steps": 2, "size": f"{side}x{side}"}
        adapter = check_model_family(family, config, keys, texts, prompts=["a ball"], settings=drawn, steps=steps, same=_alike)
    assert "preview.png" in adapter.files, "the adapter has no preview.png, which the sample pictures leave"
    return adapter


def _alike(one: Any, other: Any) -> bool:
    """Whether two pictures have the same pixels; besides them they say how they were made."""
    from PIL import Image

    with Image.open(io.BytesIO(one.data)) as a, Image.open(io.BytesIO(other.data)) as b:
        return a.tobytes() == b.tobytes()


def check_walk(family: TransformerFamily, base_model: str | Path) -> None:
    """``TransformerFamily.walk`` counts every parameter of the transformer, and calls the layers that learn what they are called, so that
    the estimate of ``check`` counts them.

    Args:
        base_model: a diffusers folder.

    Raises:
        AssertionError: saying what is counted otherwise.
    """
    from ..families.dit.memory import Walk

    config = RunConfig(train_data_dir="x", base_model=str(base_model), precision="fp32")
    base, walk = family.load_base(config, {}), Walk(24, 64)
    family.walk(part_config(Path(base_model) / base.denoiser_name / "config.json"), walk)
    counted = sum(value.numel() for value in base.denoiser.parameters())
    parts = {name: sum(value.numel() for value in part.parameters()) for name, part in base.denoiser.named_children()}
    said = f"walk counts {walk.parameters:,} parameters, the transformer has {counted:,}: {parts}"
    assert walk.parameters == counted, said
    shapes = {name: tuple(value.shape) for name, value in base.denoiser.named_parameters()}
    for name, (inputs, outputs, _) in walk.modules.items():
        there = shapes.get(f"{name}.weight")
        assert there is not None, f"walk has a layer '{name}', which the transformer has not. A layer's name is its path inside the block."
        assert there == (outputs, inputs), f"walk has {inputs} inputs and {outputs} outputs of '{name}'; its weight is {there}"
    learned = {name.removeprefix(f"{base.denoiser_name}.") for name in base.targets(config, ImageKeys(), base.network)}
    missing = sorted(learned - walk.modules.keys())
    assert not missing, f"walk lacks layers that get a LoRA: {', '.join(missing[:3])}. They are counted between enter and the next enter."
    assert not walk.block, "walk leaves no block behind the last one; what is counted there would count as inside: walk.enter('', 0)"
