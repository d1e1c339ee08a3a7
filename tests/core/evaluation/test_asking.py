# SPDX-License-Identifier: Apache-2.0
"""Who is asked when, what a time budget leaves, and how far it is said to be; with a model of strings and a clock of numbers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from loraforge import Answer, Span
from loraforge.evaluation import asking
from loraforge.evaluation.asking import Questioner
from loraforge.evaluation.examples import fair_order


class Row:
    def __init__(self, name: str) -> None:
        self.name = name

    def content_hash(self) -> str:
        return self.name


OPENED = SimpleNamespace(template=SimpleNamespace(render=lambda row: [Span(row.name), Span("answer", learn=True)]))


class Clock:
    """Goes on by what the model says."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Model:
    """Takes a second for every step, and two steps for every batch; one of its rows is answered after the first."""

    def __init__(self, clock, batch_size=None, watched=True) -> None:
        self.clock, self.asked = clock, []
        if batch_size:
            self.batch_size = batch_size
        if watched:
            self.watch = None

    def generate(self, prompts, adapter, **settings):
        self.asked.append((adapter, "".join(prompts)))
        for ended in (1, len(prompts)):
            self.clock.now += 1
            if getattr(self, "watch", None):
                self.watch(min(ended, len(prompts)))
        return [Answer(f"{prompt}{adapter or ''}") for prompt in prompts]


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(asking, "time", made)
    return made


def questioner(model, total, minutes=0.0):
    ticks = []
    return Questioner(OPENED, model, {"max_tokens": 3}, total, lambda *told: ticks.append(told), minutes), ticks


def test_both_sides_answer_a_batch_before_the_next_and_the_first_batch_is_small(clock):
    model = Model(clock, batch_size=4)
    made, ticks = questioner(model, 18)
    asked = made.both([Row(c) for c in "abcdefgh"], [7, 6, 5, 4, 3, 2, 1, 0], "mine")
    assert model.asked == [(side, batch) for batch in ("hg", "fedc", "ba") for side in (None, "mine")]
    assert asked.places == list(range(8)) and not asked.cut
    assert asked.answers == {"base": [*"abcdefgh"], "adapter": [f"{c}mine" for c in "abcdefgh"]}
    made.again([Row("x"), Row("y")], "mine", asked)
    assert asked.again == ["xmine", "ymine"] and model.asked[-1] == ("mine", "xy")
    assert ticks[0] == (0, 18) and ticks[-1] == (18, 18) and ticks == sorted(ticks) and (1, 18) in ticks, "from within a batch too"
    assert model.watch is None


def test_a_model_of_one_prompt_at_a_time_is_asked_so(clock):
    model = Model(clock, watched=False)
    asked = questioner(model, 4)[0].both([Row("a"), Row("b")], [1, 0], "mine")
    assert model.asked == [(None, "b"), ("mine", "b"), (None, "a"), ("mine", "a")] and asked.places == [0, 1]


@pytest.mark.parametrize(("seconds", "answered"), [(3.5, ""), (4.5, "gh"), (7.5, "gh"), (8.5, "cdefgh"), (60, "abcdefgh")])
@pytest.mark.parametrize("watched", [True, False])
def test_when_time_is_up_only_pairs_count(seconds, answered, watched, clock):
    """Two seconds a batch and side. Who can be watched ends within the batch; who cannot is asked no further."""
    model = Model(clock, 4, watched)
    made, _ = questioner(model, 16, seconds / 60)
    asked = made.both([Row(c) for c in "abcdefgh"], [7, 6, 5, 4, 3, 2, 1, 0], "mine")
    late = "" if watched else {3.5: "gh", 7.5: "cdefgh"}.get(seconds, "")  # the batch that was begun is answered
    assert "".join(asked.answers["base"]) == (late or answered) and asked.cut == (seconds < 60)
    assert [f"{a}mine" for a in asked.answers["base"]] == asked.answers["adapter"] and len(asked.places) == len(asked.answers["base"])
    assert not watched or clock.now - 100 <= seconds + 1
    assert getattr(model, "watch", None) is None
    if asked.cut:
        made.again([Row("x")], "mine", asked)
        assert asked.again == []


def test_an_error_of_the_model_comes_through(clock):
    model = Model(clock, 4)
    model.generate = lambda *given, **more: (_ for _ in ()).throw(MemoryError)
    with pytest.raises(MemoryError):
        questioner(model, 2, 1)[0].both([Row("a")], [0], "mine")
    assert model.watch is None


# --- the order -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("new", "known"), [(40, 14), (5, 5), (1, 30), (9, 0), (0, 9), (0, 0)])
def test_every_beginning_has_its_share_of_both_kinds(new, known):
    rows = [Row(f"n{i}") for i in range(new)] + [Row(f"k{i}") for i in range(known)]
    order = fair_order(rows, {f"k{i}" for i in range(known)})
    assert sorted(order) == list(range(new + known))
    for count in range(1, len(order) + 1):
        assert abs(sum(i >= new for i in order[:count]) - count * known / (new + known)) <= 1


def test_the_order_is_drawn_and_depends_on_the_rows_alone():
    rows = [Row(f"n{i}") for i in range(200)]
    order = fair_order(rows, ())
    names = [rows[i].name for i in order]
    assert order != list(range(200)) and 70 < sum(order[:100]) / 100 < 130, "from everywhere"
    assert [rows[::-1][i].name for i in fair_order(rows[::-1], ())] == names
