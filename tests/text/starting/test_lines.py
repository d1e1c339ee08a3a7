# SPDX-License-Identifier: Apache-2.0
"""What rows say of a first config."""

from __future__ import annotations

import math

import pytest
from loraforge_text.starting.lines import BASE, first_lines, suggest, usual_rate

from loraforge import KeySet, RunConfig, Seen


def chosen(learned: int, longest: int, base: str = "some/base") -> dict[str, object]:
    config = RunConfig(train_data_dir=".", base_model=base)
    seen = Seen(config, KeySet({RunConfig: config}), None, [], learned, {"longest_row": longest})
    return {line.key: line.value for line in suggest(seen)}


@pytest.mark.parametrize(
    ("longest", "room"), [(1, 128), (128, 128), (129, 256), (512, 512), (900, 1024), (70_000, 131_072), (2_000_000, 1_000_000)]
)
def test_the_longest_row_has_room(longest, room):
    assert chosen(100, longest)["max_seq_length"] == room


@pytest.mark.parametrize("learned", [1, 7, 39, 40, 144, 1000, 20_000])
@pytest.mark.parametrize("base", [BASE, "some/base"])
def test_passes_make_a_number_of_steps_within_bounds(learned, base):
    values = chosen(learned, 10, base)
    batch = values.get("batch_size", 4)
    fewest, most, wanted = (10, 60, 1000) if base == BASE else (3, 15, 400)
    steps = values["epochs"] * math.ceil(learned / batch)
    assert fewest <= values["epochs"] <= most
    assert values["epochs"] in (fewest, most) or abs(steps - wanted) <= math.ceil(learned / batch)
    assert 5 <= values["save_steps"] <= max(5, steps)


@pytest.mark.parametrize(("base", "rate"), [("tiny-chat", 2e-3), ("smollm2", 4e-4), ("Qwen/Qwen3-8B", 2e-4)])
def test_the_rate_is_one_that_is_usual_for_the_base(base, rate):
    assert usual_rate(base) == rate and {line.key: line.value for line in first_lines(base)}["learning_rate"] == rate
