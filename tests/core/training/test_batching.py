# SPDX-License-Identifier: Apache-2.0
"""How many steps there are, what each of them holds, how a step is cut and shared."""

from __future__ import annotations

import pytest

from loraforge import RunConfig
from loraforge.training.batching import Schedule, epoch_steps, schedule, shard, split_batches


@pytest.mark.parametrize(
    ("settings", "examples", "processes", "per_step", "steps"),
    [
        ({"batch_size": 4, "gradient_accumulation": 2, "epochs": 3}, 20, 1, 8, 9),  # 3 steps an epoch: 8, 8, 4
        ({"batch_size": 4, "gradient_accumulation": 2, "epochs": 3}, 20, 2, 16, 6),
        ({"batch_size": 4, "gradient_accumulation": 2, "epochs": 3}, 24, 1, 8, 9),  # nothing left over
        ({"batch_size": 4, "gradient_accumulation": 2, "epochs": 3}, 25, 1, 8, 12),
        ({"batch_size": 3, "epochs": 0.5}, 12, 1, 3, 2),
        ({"batch_size": 3, "epochs": 0.1}, 6, 1, 3, 1),  # never none
        ({"batch_size": 4, "epochs": 3, "max_steps": 5}, 20, 1, 4, 5),
        ({"batch_size": 4, "epochs": 1, "max_steps": 50}, 20, 1, 4, 5),  # max_steps only shortens
    ],
)
def test_steps_of_a_run(settings, examples, processes, per_step, steps):
    made = schedule(RunConfig(train_data_dir=".", base_model="x", **settings), examples, processes)
    assert made == Schedule(examples, per_step, steps)


@pytest.mark.parametrize(("examples", "per_step", "per_epoch"), [(20, 8, 3), (24, 8, 3), (25, 8, 4), (1, 8, 1)])
def test_the_last_step_of_an_epoch_may_be_smaller(examples, per_step, per_epoch):
    assert Schedule(examples, per_step, 100).per_epoch == per_epoch


@pytest.mark.parametrize(
    ("settings", "saved"),
    [
        ({"save_epochs": 1}, [3, 6, 9, 12]),  # and not every 50 steps
        ({"save_epochs": 2}, [6, 12]),
        ({"save_epochs": 3}, [9, 12]),  # and at the end
        ({"save_epochs": 9}, [12]),
        ({"save_epochs": 1, "save_steps": 4}, [3, 4, 6, 8, 9, 12]),
        ({"save_epochs": 2, "save_steps": 0}, [6, 12]),
        ({"save_epochs": 0, "save_steps": 5}, [5, 10, 12]),
        ({"save_epochs": 1, "max_steps": 7}, [3, 6, 7]),
        ({"save_epochs": 1, "epochs": 2.5}, [3, 6, 8]),
        ({}, [12]),
    ],
)
def test_a_run_saves_where_its_passes_end(settings, saved):
    """20 examples in steps of 8: a pass is three steps, the last of them a short one."""
    made = schedule(RunConfig(train_data_dir=".", base_model="x", batch_size=4, gradient_accumulation=2, **{"epochs": 4, **settings}), 20)
    assert [step for step in range(1, made.steps + 1) if made.saves(step)] == saved and made.saved == len(saved)


@pytest.mark.parametrize("seed", range(8))
def test_whole_steps_hold_one_group_and_the_rest_is_shared(seed):
    groups = ["a"] * 11 + ["b"] * 6 + ["c"] * 4 + ["d"]
    made = epoch_steps(groups, 4, seed, 0)
    assert sorted(i for step in made for i in step) == list(range(22))
    assert sorted(map(len, made)) == [2, 4, 4, 4, 4, 4]
    pure = sorted(groups[step[0]] for step in made if len({groups[i] for i in step}) == 1 and len(step) == 4)
    assert pure == ["a", "a", "b", "c"]


def test_nothing_keeps_its_place():
    """Over the epochs every example comes at every place of its step, with every other one, and the short step at every position."""
    made = [epoch_steps(["a"] * 6 + ["b"], 3, 5, epoch) for epoch in range(60)]
    assert {[len(step) for step in epoch].index(1) for epoch in made} == {0, 1, 2}
    whole = [step for epoch in made for step in epoch if len(step) == 3]
    for place in range(3):
        assert {step[place] for step in whole} == set(range(6))
    assert {frozenset((a, b)) for step in whole for a in step for b in step if a != b} == {
        frozenset((a, b)) for a in range(6) for b in range(a)
    }
    mixed = [epoch_steps(["a"] * 3 + ["b"] * 3, 4, 5, epoch) for epoch in range(40)]
    firsts = {step[0] for epoch in mixed for step in epoch if len(step) == 4}
    assert firsts == set(range(6)), "what is left over of the groups is mixed, not one after the other"


def test_the_order_depends_on_seed_and_epoch_together():
    orders = [str(epoch_steps([0] * 20, 4, seed, epoch)) for seed in range(4) for epoch in range(4)]
    assert len(set(orders)) == 16


@pytest.mark.parametrize(
    ("indices", "size", "parts"),
    [
        ([0, 1, 2, 3, 4], 2, [[0, 2], [4], [1, 3]]),
        ([4, 3, 2], 2, [[4, 2], [3]]),
        ([0, 2, 4], 3, [[0, 2, 4]]),
        ([0, 2, 4], 1, [[0], [2], [4]]),
    ],
)
def test_a_step_is_cut_by_group_and_size(indices, size, parts):
    assert split_batches(indices, ["a", "b", "a", "b", "a"], size) == parts


@pytest.mark.parametrize(
    ("batches", "processes", "shares"),
    [
        ("xyz", 1, [[("x", True), ("y", True), ("z", True)]]),
        ("xyz", 2, [[("x", True), ("z", True)], [("y", True), ("x", False)]]),
        ("xyz", 5, [[("x", True)], [("y", True)], [("z", True)], [("x", False)], [("y", False)]]),
        ("wxyz", 2, [[("w", True), ("y", True)], [("x", True), ("z", True)]]),
        ("x", 3, [[("x", True)], [("x", False)], [("x", False)]]),
    ],
)
def test_processes_take_turns_and_repeats_do_not_count(batches, processes, shares):
    assert [shard(batches, process, processes) for process in range(processes)] == shares
