"""The schedule that a config names, against transformers' own and against the formulas."""

from __future__ import annotations

import math

import pytest

from loraforge import RunConfig
from loraforge.training.schedules import make_scheduler


def config(**values) -> RunConfig:
    return RunConfig(train_data_dir=".", base_model="x", **values)


def one() -> list:
    import torch

    return [torch.nn.Parameter(torch.tensor([1.0, -2.0]))]


def cosine(done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done))


@pytest.mark.parametrize(
    ("name", "warmup", "steps", "warming", "after"),
    [
        ("cosine", 0.0, 10, 0, cosine),
        ("cosine", 0.2, 10, 2, cosine),
        ("cosine", 0.25, 10, 3, cosine),  # a share is rounded up
        ("cosine", 1, 10, 1, cosine),  # a number of steps, not all of them
        ("cosine", 0.99, 10, 10, cosine),
        ("linear", 3, 8, 3, lambda done: 1 - done),
        ("linear", 100, 8, 8, lambda done: 1 - done),  # no longer than the run
        ("constant", 0.0, 6, 0, lambda done: 1.0),
        ("constant", 0.5, 6, 3, lambda done: 1.0),  # plain "constant" of transformers would jump
        ("constant_with_warmup", 2, 6, 2, lambda done: 1.0),
    ],
)
def test_the_rate_of_every_step(name, warmup, steps, warming, after):
    """Step k of a warm-up of w has k/w of the rate, so that none is wasted on 0; what comes down would reach 0 one step after the last."""
    import torch

    optimizer = torch.optim.SGD(one(), lr=0.2)
    scheduler = make_scheduler(config(lr_scheduler=name, warmup=warmup), optimizer, steps)
    rates = []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    shares = [k / warming if k < warming else after((k - warming) / (steps + 1 - warming)) for k in range(1, steps + 1)]
    assert rates == pytest.approx([0.2 * share for share in shares])
