# SPDX-License-Identifier: Apache-2.0
"""A ``TrainableModel`` in the loop: it learns, and a step may be cut into batches in any way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..device import make_accelerator
from ..training.loop import Callbacks, Examples, Loop
from .environment import on_the_cpu
from .trainable import SEED, Loaded, lora_parameters, near

if TYPE_CHECKING:
    from torch import Tensor

# As ``trainable.LOSS_TOLERANCE``; gradients lose more to rounding than the loss does.
_GRADIENT_TOLERANCE = 1e-3


def make_loop(loaded: Loaded, steps: int) -> Loop:
    """The loop of a run that learns all examples in each step, and measures by the same ones."""
    with on_the_cpu():
        accelerator, config = make_accelerator(loaded.config)
    plain = {"batch_size": len(loaded.examples), "gradient_accumulation": 1, "epochs": steps, "max_steps": None, "warmup": 0}
    config = config.model_copy(update={**plain, "lr_scheduler": "constant", "optimizer": "adamw", "optimizer_args": [], "ema_decay": 0.0})
    return Loop(loaded.trainable, Examples(loaded.examples, loaded.examples), config, accelerator, Callbacks(tell=lambda event: None))


def check_held_out(loaded: Loaded, loop: Loop) -> float:
    """The held-out loss does not depend on how the examples are cut into batches.

    Returns:
        this loss.

    Raises:
        AssertionError: if it does: ``weight`` is not what ``loss`` averages over.
    """
    found = {}
    for size in cuts(loaded):
        loop.rows = size
        found[size] = measured(loop)
    loop.rows = len(loaded.examples)
    first = next(iter(found.values()))
    assert all(near(first, loss) for loss in found.values()), (
        "weight must be what the loss averages over: the held-out loss depends on how many examples share a batch, "
        + ", ".join(f"{loss:.6g} with {size}" for size, loss in found.items())
    )
    return first


def measured(loop: Loop) -> float:
    """The loss on the examples without dropout."""
    loss = loop.evaluate(0)
    assert loss is not None
    return loss


def cuts(loaded: Loaded) -> tuple[int, ...]:
    """The sizes of batches that are tried: all at once, all but one, two, one at a time."""
    count = len(loaded.examples)
    return tuple(dict.fromkeys((count, count - 1, 2, 1)))


def check_learning(loaded: Loaded, loop: Loop, before: float) -> float:
    """Some steps lower the loss on the examples that they learn.

    Returns:
        the loss after them.

    Raises:
        AssertionError: if they do not.
    """
    loaded.trainable.model.train()
    indices, steps = list(range(len(loaded.examples))), loop.schedule.steps
    for step in range(1, steps + 1):
        loop.step(indices, step)
    after = measured(loop)
    assert after < before, (
        f"{steps} steps at learning_rate {loop.config.learning_rate:g} must lower the loss on the examples that they learn: "
        f"it was {before:.6g} and is {after:.6g}"
    )
    return after


def check_cut_steps(loaded: Loaded, loop: Loop) -> None:
    """A step has the same loss and gradients however it is cut: four at once, one at a time, three and one.

    Raises:
        AssertionError: if it has not.
    """
    import torch

    model = loaded.trainable.model
    parameters = lora_parameters(loaded.trainable)
    model.train(not _drops(loaded))
    found: dict[int, tuple[float, Tensor]] = {}
    for size in cuts(loaded):
        loop.rows = size
        model.zero_grad(set_to_none=True)
        loss = float(loop.backward(list(range(len(loaded.examples))), 1)[0])
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters.values()]
        found[size] = loss, torch.cat([g.detach().flatten().float() for g in gradients])
    model.zero_grad(set_to_none=True)
    model.train()
    loop.rows = len(loaded.examples)
    size, (wanted, gradient) = next(iter(found.items()))
    for other, (loss, theirs) in found.items():
        apart = float((theirs - gradient).norm() / gradient.norm().clamp_min(1e-12))
        assert near(wanted, loss) and apart <= _GRADIENT_TOLERANCE, (
            "a step must be the same however it is cut into batches: collate may draw nothing that depends on who shares a batch, "
            f"and weight must be what the loss averages over. With {size} in a batch the loss is {wanted:.6g}, with {other} it is "
            f"{loss:.6g}; the gradients are {apart:.1%} apart"
        )


def _drops(loaded: Loaded) -> bool:
    """Whether the base drops something at random while it trains; then no two steps are alike, and the cuts are compared without."""
    import torch
    from accelerate.utils import set_seed

    trainable = loaded.trainable
    batch = next(iter(loaded.batches(len(loaded.examples), SEED)))
    trainable.model.train()
    losses = []
    with torch.no_grad():
        for state in (1, 2):
            set_seed(state)
            losses.append(float(trainable.loss(trainable.model, batch)))
    return not near(*losses)


def check_sample(loaded: Loaded, loop: Loop, folder: Path) -> None:
    """What ``sample`` shows lies in its folder, and showing it changes nothing.

    Raises:
        AssertionError: with the promise that is not kept.
    """
    before = measured(loop)
    loaded.trainable.model.train()
    folder.mkdir(parents=True, exist_ok=True)
    shown = loaded.trainable.sample(folder, 1)
    if shown is not None:
        inside = isinstance(shown, Path) and shown.is_file() and folder in shown.parents
        assert inside, f"sample must return a file in the folder that it was given, or None; not {shown!r}"
    assert loaded.trainable.model.training, "sample must leave the model in training mode: the next step follows"
    learning = all(parameter.requires_grad for parameter in lora_parameters(loaded.trainable).values())
    assert learning and near(before, measured(loop)), "sample must leave the model as it was: the next step follows"
