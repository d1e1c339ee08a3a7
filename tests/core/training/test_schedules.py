# SPDX-License-Identifier: Apache-2.0
"""The schedule that a config names, against transformers' own and against the formulas."""

from __future__ import annotations

import itertools
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


def rates(steps: int, **values) -> list[float]:
    import torch

    optimizer = torch.optim.SGD(one(), lr=0.2)
    scheduler = make_scheduler(config(**values), optimizer, steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("values", "special"),
    [
        ({"lr_scheduler": "cosine_with_restarts", "lr_scheduler_cycles": 3}, {"num_cycles": 3}),
        ({"lr_scheduler": "cosine_with_restarts"}, {"num_cycles": 1}),
        ({"lr_scheduler": "polynomial", "lr_scheduler_power": 2.5}, {"power": 2.5, "lr_end": 0.0}),
        ({"lr_scheduler": "warmup_stable_decay", "lr_scheduler_decay": 0.3}, {"num_decay_steps": 12}),
        ({"lr_scheduler": "warmup_stable_decay", "lr_scheduler_decay": 7}, {"num_decay_steps": 7}),
        ({"lr_scheduler": "warmup_stable_decay", "lr_scheduler_decay": 100}, {"num_decay_steps": 37}),  # no longer than there is
    ],
)
def test_curves_are_transformers(values, special):
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD(one(), lr=0.2)
    theirs = get_scheduler(values["lr_scheduler"], optimizer, num_warmup_steps=4, num_training_steps=41, scheduler_specific_kwargs=special)
    expected = [0.2 * theirs.lr_lambdas[0](step) for step in range(1, 41)]
    assert rates(40, warmup=4, **values) == pytest.approx(expected)
    assert max(expected) == pytest.approx(0.2) and expected[-1] < 0.03


def test_a_restart_comes_back_to_the_peak_and_a_stable_rate_stays():
    restarts = rates(99, lr_scheduler="cosine_with_restarts", lr_scheduler_cycles=4, warmup=0)
    peaks = [step + 1 for step in range(1, 98) if restarts[step - 1] < restarts[step] > restarts[step + 1]]
    assert peaks == [25, 50, 75] and all(restarts[step - 1] == pytest.approx(0.2) for step in peaks)
    stable = rates(50, lr_scheduler="warmup_stable_decay", warmup=0.1)
    assert [k / 5 * 0.2 for k in range(1, 5)] == pytest.approx(stable[:4]) and stable[4:41] == pytest.approx([0.2] * 37)
    assert all(after < before for before, after in itertools.pairwise(stable[40:]))


@pytest.mark.parametrize("warmup", [0, 5])
def test_rex_is_its_papers(warmup):
    """Chen, Wolfe and Kyrillidis 2021, with the values of its reflected exponential: half of the way leaves two thirds of the rate."""
    steps = 19 + warmup
    found = rates(steps, lr_scheduler="rex", warmup=warmup)
    for step in range(warmup, steps):
        z = (step + 1 - warmup) / 20
        assert found[step] == pytest.approx(0.2 * (1 - z) / (1 / 2 + 1 / 2 * (1 - z)))
    assert found[warmup + 9] == pytest.approx(0.2 * 2 / 3) and found[:warmup] == pytest.approx([0.04 * k for k in range(1, warmup + 1)])


@pytest.mark.parametrize("name", ["cosine_with_restarts", "polynomial", "warmup_stable_decay", "rex", "cosine", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0, 0.5, 9])
def test_the_shortest_runs_learn_in_every_step(name, steps, warmup):
    found = rates(steps, lr_scheduler=name, warmup=warmup, lr_scheduler_cycles=2, lr_scheduler_decay=0.9)
    assert all(0 < rate <= 0.2 for rate in found)


@pytest.mark.parametrize("name", ["cosine_with_restarts", "polynomial", "warmup_stable_decay", "rex"])
def test_a_schedule_that_is_taken_up_goes_on(name):
    import torch

    def begun(done: int):
        optimizer = torch.optim.SGD(one(), lr=0.2)
        scheduler = make_scheduler(config(lr_scheduler=name, lr_scheduler_cycles=2), optimizer, 12)
        for _ in range(done):
            optimizer.step()
            scheduler.step()
        return optimizer, scheduler

    whole = begun(9)[0].param_groups[0]["lr"]
    optimizer, scheduler = begun(5)
    again, taken = begun(0)
    again.load_state_dict(optimizer.state_dict())
    taken.load_state_dict(scheduler.state_dict())
    for _ in range(4):
        again.step()
        taken.step()
    assert again.param_groups[0]["lr"] == whole
