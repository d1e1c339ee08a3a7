# SPDX-License-Identifier: Apache-2.0
"""What the loop relies on in a ``TrainableModel``: what it is, its examples and batches, its loss. ``learning`` tries it in the loop."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..config.schema import KeySet, RunConfig
from ..plugin_api.components import ModelFamily
from ..plugin_api.models import TrainableModel
from ..plugin_api.types import Batch, Example, Record, Span
from ..training.batching import split_batches
from .guards import equal, without_output

if TYPE_CHECKING:
    from torch import Tensor

# A relative difference that float32 sums in another order stay below, and a wrong weight does not.
LOSS_TOLERANCE = 1e-4

SEED = 7


@dataclass(frozen=True)
class Loaded:
    """A trainable model with its examples.

    Attributes:
        start: the LoRA's parameters as they were loaded.
        config: how it was loaded.
    """

    trainable: TrainableModel
    examples: Sequence[Example]
    start: Mapping[str, Tensor]
    config: RunConfig

    def batches(self, size: int, seed: int | None = None) -> Iterator[Batch]:
        """All examples in batches of at most ``size`` of one group each."""
        for part in self.parts(size):
            yield self.trainable.collate([self.examples[i] for i in part], seed)

    def parts(self, size: int) -> list[list[int]]:
        """The indices of these batches."""
        groups = [self.trainable.group(example) for example in self.examples]
        return split_batches(range(len(self.examples)), groups, size)


def load(family: ModelFamily, config: RunConfig, keys: KeySet, rows: Sequence[tuple[Record, Sequence[Span]]]) -> Loaded:
    """Loads as a run does, on the CPU, and encodes the rows.

    Raises:
        AssertionError: if what is loaded is no trainable model, more than the LoRA would learn, or an example is of another form.
    """
    import torch
    from accelerate.utils import set_seed

    from ..adapters.lora import Lora

    set_seed(config.seed)
    with without_output("load"):
        trainable = family.load(config, keys.replaced(config), torch.device("cpu"))
    assert isinstance(trainable, TrainableModel), f"load must return a loraforge.TrainableModel, not {type(trainable).__name__}"
    lora = getattr(trainable, "lora", None)
    assert isinstance(lora, Lora), "the trainable model's 'lora' must be what loraforge.adapters.lora.inject returned"
    own = lora_parameters(trainable)
    learning = {name for name, parameter in trainable.model.named_parameters() if parameter.requires_grad}
    assert own, "load must put a LoRA on at least one layer"
    strangers = sorted(learning - own.keys())
    assert not strangers, f"only the LoRA may learn, the base is frozen; these ask for a gradient too: {', '.join(strangers[:3])}"
    assert own.keys() <= learning, "all of the LoRA must learn: some of its parameters ask for no gradient"
    start = {name: parameter.detach().clone() for name, parameter in own.items()}
    with without_output("encode"):
        examples = [trainable.encode(record, spans) for record, spans in rows]
        trainable.on_encoded()
    for example in examples:
        plain = isinstance(example, Mapping) and all(isinstance(name, str) for name in example)
        assert plain, f"encode must return a mapping of names to plain values or tensors, not {type(example).__name__}"
        assert "repeat" not in example, "the name 'repeat' in an example belongs to the core, which numbers repeated examples with it"
    return Loaded(trainable, examples, start, config)


def lora_parameters(trainable: TrainableModel) -> dict[str, Any]:
    """The parameters of the LoRA by their name in the model."""
    return {
        f"{name}.{own}": parameter
        for name, layer in trainable.lora.layers()
        for own, parameter in layer.named_parameters()
        if own.startswith("lora_")
    }


def check_start(loaded: Loaded, again: Loaded) -> None:
    """Two loads with one seed start alike and make the same examples.

    Raises:
        AssertionError: if they do not.
    """
    assert equal(loaded.start, again.start), "load must start alike after the same seed: a run could not be repeated"
    assert equal(list(loaded.examples), list(again.examples)), "encode must be a function of the record and its text: two loads differ"


def check_batches(loaded: Loaded) -> None:
    """Groups, batches, weights and units are what the loop takes them for.

    Raises:
        AssertionError: with the promise that is not kept.
    """
    trainable, examples = loaded.trainable, loaded.examples
    for example in examples:
        try:
            group, other = trainable.group(example), trainable.group(example)
            hash(group)
        except TypeError:
            raise AssertionError("group must return something hashable: a length, a tuple of sides") from None
        assert group == other, "group must say the same of an example each time"
    before = copy.deepcopy(list(examples))
    for part in loaded.parts(len(examples)):
        members = [examples[i] for i in part]
        _check_collate(trainable, members)
        _check_weight(trainable, members)
        trainable.collate([{**example, "repeat": 1} for example in members], SEED)
    assert equal(before, list(examples)), "collate must leave the examples as they are: they are encoded once for the whole run"


def _check_collate(trainable: TrainableModel, members: Sequence[Example]) -> None:
    import torch
    from accelerate.utils import set_seed

    for seed in (SEED, None):
        made = []
        for state in (1, 2):
            set_seed(state)
            with without_output("collate"):
                made.append(trainable.collate(members, seed))
        batch = made[0]
        assert isinstance(batch, Mapping), f"collate must return a mapping of names to tensors and plain values, not {type(batch).__name__}"
        away = [name for name, value in batch.items() if isinstance(value, torch.Tensor) and value.device.type != "cpu"]
        assert not away, f"collate must return tensors on the CPU, the loop moves them; these are elsewhere: {', '.join(away)}"
        assert equal(*made), (
            "collate without a seed must draw always the same, or held-out losses cannot be compared"
            if seed is None
            else "collate must draw from its seed alone: with one seed it made two batches"
        )


def _check_weight(trainable: TrainableModel, members: Sequence[Example]) -> None:
    for name in ("weight", "units"):
        count = getattr(trainable, name)
        whole = count(trainable.collate(members, SEED))
        assert isinstance(whole, int | float) and math.isfinite(whole) and whole > 0, f"{name} must be a number above 0, not {whole!r}"
        parts = sum(count(trainable.collate([member], SEED)) for member in members)
        assert math.isclose(whole, parts, rel_tol=1e-6), (
            f"{name} must add up: {whole} for {len(members)} examples together, {parts} for one at a time"
        )


def check_loss(loaded: Loaded) -> None:
    """The loss is a finite scalar that follows from the batch, with gradients on the LoRA alone.

    Raises:
        AssertionError: with the promise that is not kept.
    """
    import torch
    from accelerate.utils import set_seed

    trainable = loaded.trainable
    batch = next(iter(loaded.batches(len(loaded.examples), SEED)))
    trainable.model.eval()
    with torch.no_grad():
        losses = []
        for state in (1, 2):
            set_seed(state)
            losses.append(trainable.loss(trainable.model, batch))
    loss = losses[0]
    assert isinstance(loss, torch.Tensor) and loss.ndim == 0, "loss must return a scalar tensor: the mean over what weight counts"
    assert bool(torch.isfinite(loss)), f"the loss is {float(loss)}, not a finite number"
    same = near(float(losses[0]), float(losses[1]))
    assert same, "the loss must follow from the batch: whatever is random is drawn in collate, from its seed"
    trainable.model.train()
    loss = trainable.loss(trainable.model, batch)
    assert loss.requires_grad, "the loss must have a gradient: something detaches it from the LoRA"
    loss.backward()  # type: ignore[no-untyped-call]
    own = lora_parameters(trainable)
    strangers = [name for name, parameter in trainable.model.named_parameters() if parameter.grad is not None and name not in own]
    assert not strangers, f"only the LoRA may have gradients, but these have one: {', '.join(strangers[:3])}"
    reached = any(parameter.grad is not None and bool(parameter.grad.any()) for parameter in own.values())
    assert reached, "the loss must have a gradient on the LoRA: it does not depend on it"
    trainable.model.zero_grad(set_to_none=True)


def check_fresh(loaded: Loaded) -> None:
    """A LoRA that has learned nothing changes nothing. PiSSA moves a part of the base into it, which nothing can be compared with.

    Raises:
        AssertionError: if the loss is another with the LoRA than without.
    """
    if loaded.config.lora_variant == "pissa":
        return
    layers = [layer for _, layer in loaded.trainable.lora.layers()]
    with_lora = _mean(loaded)
    for layer in layers:
        layer.enable_adapters(False)
    without = _mean(loaded)
    for layer in layers:
        layer.enable_adapters(True)
    assert near(with_lora, without), f"a fresh LoRA must change nothing: the loss is {with_lora:.6g} with it and {without:.6g} without"


def _mean(loaded: Loaded) -> float:
    """The loss on all examples as held-out ones, one at a time."""
    import torch

    trainable = loaded.trainable
    trainable.model.eval()
    with torch.no_grad():
        batches = list(loaded.batches(1))
        weights = [trainable.weight(batch) for batch in batches]
        losses = [float(trainable.loss(trainable.model, batch)) * weight for batch, weight in zip(batches, weights, strict=True)]
    return sum(losses) / sum(weights)


def near(one: float, other: float) -> bool:
    """Whether two losses are the same but for the order of their sums."""
    return math.isclose(one, other, rel_tol=LOSS_TOLERANCE, abs_tol=1e-7)
