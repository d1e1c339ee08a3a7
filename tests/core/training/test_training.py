# SPDX-License-Identifier: Apache-2.0
"""The loop step by step, on a model of two numbers, beside the same done by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from builders import toy_loop

from loraforge.plugin_api.events import Evaluated, MemoryRanOut, StepFinished, StoppedEarly
from loraforge.training import loop
from loraforge.training.batching import epoch_steps


def told(heard: list, kind: type) -> list:
    return [one for one in heard if isinstance(one, kind)]


@pytest.mark.parametrize("longest", [0.0, 1e-6, 0.5, 20.0, 1e6])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(("batch_size", "gradient_accumulation"), [(2, 4), (8, 1), (3, 3)])
def test_gradients_are_clipped_as_torch_clips_them_once_per_step(monkeypatch, longest, optimizer, batch_size, gradient_accumulation):
    """Every step by hand: one weighted mean over all its examples, its gradient's norm, torch's clipping, torch's optimizer."""
    import torch

    kind = torch.optim.SGD if optimizer == "sgd" else torch.optim.AdamW
    monkeypatch.setattr(loop, "make_optimizer", lambda config, groups: kind(groups, lr=0.1))
    toy, examples = toy_loop.Toy(), toy_loop.rows(8)
    made, heard = toy_loop.make(
        toy, examples, batch_size=batch_size, gradient_accumulation=gradient_accumulation, max_grad_norm=longest, max_steps=4
    )
    made.run()
    weights = [torch.nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in (0.5, -1.0)]
    by_hand = kind(weights, lr=0.1)
    x, y, weight = toy_loop.columns(examples)
    events = told(heard, StepFinished)
    assert len(events) == 4
    for event in events:
        loss = toy_loop.squared(weights, x, y, weight)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(weights, longest or float("inf"))
        by_hand.step()
        by_hand.zero_grad()
        assert event.loss == pytest.approx(float(loss.detach()), rel=1e-5) and event.grad_norm == pytest.approx(float(norm), rel=1e-5)
        assert (event.weight, event.units) == (sum(e["weight"] for e in examples), 80.0)
    for mine, expected in zip(made.parameters.values(), weights, strict=True):
        torch.testing.assert_close(mine.detach(), expected.detach(), rtol=1e-9, atol=1e-12)


def test_what_is_told_of_a_step(monkeypatch):
    ticks = iter(range(0, 1000, 5))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(ticks)))
    made, heard = toy_loop.make(toy_loop.Toy(), toy_loop.rows(5), batch_size=2, epochs=2, lr_scheduler="linear", learning_rate=0.1)
    made.run()
    events = told(heard, StepFinished)
    assert [(e.step, e.steps) for e in events] == [(step, 6) for step in range(1, 7)]
    assert [e.epoch for e in events] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])
    assert [e.learning_rate for e in events] == pytest.approx([0.1 * (1 - k / 7) for k in range(1, 7)])  # that the step was made with
    assert {e.seconds for e in events} == {5.0} and made.losses == [e.loss for e in events] and made.done == 6


def test_every_parameter_has_the_rate_of_its_kind():
    toy = toy_loop.Toy(rates={"first": 0.1, "second": 0.4})
    made, _ = toy_loop.make(toy, toy_loop.rows(4), max_steps=1)
    groups = [(g["lr"], [id(p) for p in g["params"]]) for g in made.optimizer.param_groups]
    model = toy.lora.model
    assert groups == [(0.1, [id(model.first)]), (0.4, [id(model.second)])] and list(made.parameters) == ["first", "second"]
    made.run()
    # Adam's first step is the rate itself, whatever the gradient.
    assert (abs(float(model.first.detach()) - 0.5), abs(float(model.second.detach()) + 1.0)) == pytest.approx((0.1, 0.4), rel=1e-4)


def test_each_epoch_takes_the_steps_of_its_own_order_wherever_the_run_began():
    examples = toy_loop.rows(7, groups="aab")
    for done in (0, 2, 3, 4, 8):
        made, _ = toy_loop.make(toy_loop.Toy(), examples, batch_size=3, epochs=3, seed=9)
        expected = [part for epoch in range(3) for part in epoch_steps([e["group"] for e in examples], 3, 9, epoch)]
        assert list(made.remaining_steps(done)) == [(step, expected[step - 1]) for step in range(done + 1, 10)]


def test_what_is_drawn_is_the_same_for_all_batches_of_a_step_and_new_for_every_step():
    toy = toy_loop.Toy()
    made, _ = toy_loop.make(toy, toy_loop.rows(4), toy_loop.rows(2), batch_size=1, gradient_accumulation=4, max_steps=3)
    made.run()
    seeds = [seed for _, seed in toy.collated if seed is not None]
    assert len(seeds) == 12 and [len(set(seeds[i : i + 4])) for i in (0, 4, 8)] == [1, 1, 1] and len(set(seeds)) == 3
    assert all(0 <= seed < 2**62 for seed in seeds) and max(seeds) >= 2**48
    other = toy_loop.Toy()
    toy_loop.make(other, toy_loop.rows(4), batch_size=1, gradient_accumulation=4, max_steps=1, seed=1)[0].run()
    assert other.collated[0][1] not in seeds


def test_every_generator_follows_seed_step_and_process():
    import random

    import numpy as np
    import torch

    def drawn(*position: int) -> tuple[float, float, float]:
        loop.seed_step(*position)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    first = drawn(1, 2, 3)
    assert drawn(1, 2, 3) == first
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4), (2, 1, 3), (3, 2, 1), (1, 3, 2)):
        assert all(a != b for a, b in zip(drawn(*other), first, strict=True)), other


def test_dropout_of_a_step_does_not_depend_on_what_was_drawn_before(monkeypatch):
    import torch

    seen = []
    real = toy_loop.Toy.loss
    monkeypatch.setattr(toy_loop.Toy, "loss", lambda self, model, batch: seen.append(float(torch.rand(()))) or real(self, model, batch))
    for before in (0, 5):
        made, _ = toy_loop.make(toy_loop.Toy(), toy_loop.rows(2), toy_loop.rows(2), batch_size=1, max_steps=2)
        torch.rand(before)
        made.evaluate(0)
        made.step([0, 1], 1)
        made.step([0, 1], 2)
    assert seen[:6] == seen[6:] and len(set(seen)) == 6


def test_the_held_out_loss_is_one_mean_by_weight_over_all_without_training():
    import torch

    toy, held = toy_loop.Toy(), toy_loop.rows(7)
    made, heard = toy_loop.make(toy, toy_loop.rows(4), held, batch_size=3)
    expected = float(toy_loop.squared((0.5, -1.0), *toy_loop.columns(held)))
    assert made.evaluate(3) == pytest.approx(expected, rel=1e-12)
    assert heard == [Evaluated(3, pytest.approx(expected), 7)] and made.measured == [(3, pytest.approx(expected))]
    assert toy.modes == [False] * 3 and toy.lora.model.training, "a's in 3 + 1, b's in 3; then the model learns on"
    assert toy.collated == [([0, 2, 4], None), ([6], None), ([1, 3, 5], None)]
    assert all(p.grad is None for p in toy.lora.model.parameters()) and torch.is_grad_enabled()
    nothing, silent = toy_loop.make(toy_loop.Toy(), toy_loop.rows(4))
    assert nothing.evaluate(0) is None and not silent and not nothing.measured


@pytest.mark.parametrize(
    ("every", "done", "saved"), [(2, 0, [2, 4, 5]), (0, 0, [5]), (5, 0, [5]), (2, 2, [4, 5]), (1, 3, [4, 5]), (9, 0, [5])]
)
def test_when_a_run_measures_shows_and_saves(every, done, saved):
    made, heard = toy_loop.make(toy_loop.Toy(), toy_loop.rows(5), toy_loop.rows(2), batch_size=1, epochs=1, save_steps=every)
    made.run(done)
    names = [("step", e.step) if isinstance(e, StepFinished) else ("held out", e.step) if isinstance(e, Evaluated) else e for e in heard]
    expected = [("held out", 0), ("sample", 0)] if not done else []
    for step in range(done + 1, 6):
        expected += [("step", step)] + [(what, step) for what in ("held out", "sample", "save") if step in saved]
    assert names == expected


def test_after_every_so_many_passes_the_last_example_of_a_pass_has_been_learned():
    """Seven examples in steps of two: four steps a pass. What a save has seen, each as often as there were passes."""
    toy, seen = toy_loop.Toy(), []
    made, heard = toy_loop.make(toy, toy_loop.rows(7), toy_loop.rows(2), batch_size=2, epochs=4, save_steps=0, save_epochs=2)
    made.call = loop.Callbacks(
        heard.append, lambda step: seen.append((step, sorted(n for part, seed in toy.collated if seed is not None for n in part)))
    )
    made.run()
    assert seen == [(8, sorted([*range(7)] * 2)), (16, sorted([*range(7)] * 4))]
    assert [event.step for event in told(heard, Evaluated)] == [0, 8, 16]


@pytest.mark.parametrize(("at", "saved"), [(1, [1]), (2, [2]), (3, [2, 3]), (4, [2, 4]), (5, [2, 4, 5])])
def test_a_run_that_is_asked_to_stop_saves_once_and_says_where(at, saved):
    asked = iter(range(1, 9))
    made, heard = toy_loop.make(toy_loop.Toy(), toy_loop.rows(5), batch_size=1, epochs=1, save_steps=2, stop=lambda: next(asked) >= at)
    if at < 5:
        with pytest.raises(loop.Stopped) as stopped:
            made.run()
        assert stopped.value.step == at
    else:
        made.run()  # all is done anyway
    assert [step for what, step in (one for one in heard if isinstance(one, tuple)) if what == "save"] == saved
    assert len(told(heard, StepFinished)) == at == made.done


@pytest.mark.parametrize(
    ("losses", "patience", "out"),
    [([3, 2, 1], 1, False), ([3, 2, 2], 1, True), ([1, 2, 3], 2, True), ([1, 2, 3], 3, False), ([2, 3, 1, 1, 4], 2, True),
     ([2, 3, 1, 1], 2, False), ([1, 2, 3], 0, False), ([], 2, False), ([1], 1, False)],
)  # fmt: skip
def test_patience_counts_measurements_since_the_best(losses, patience, out):
    made, _ = toy_loop.make(toy_loop.Toy(), toy_loop.rows(4), patience=patience)
    made.measured = [(10 * i, float(loss)) for i, loss in enumerate(losses)]
    assert made.out_of_patience() is out
    if losses:
        assert made.best() == (10 * losses.index(min(losses)), min(losses)), "of equal ones the first"


def test_a_run_out_of_patience_stops_before_the_next_step(monkeypatch):
    made, heard = toy_loop.make(toy_loop.Toy(), toy_loop.rows(8), toy_loop.rows(2), batch_size=1, epochs=1, save_steps=2, patience=2)
    measured = iter([5.0, 1.0, 2.0, 3.0, 0.0])
    monkeypatch.setattr(made, "_heldout_loss", lambda: next(measured))
    made.run()
    assert heard[-1] == StoppedEarly(6, 2) and made.done == 6


def test_the_average_follows_by_a_decay_that_grows():
    import torch

    toy = toy_loop.Toy()
    made, _ = toy_loop.make(toy, toy_loop.rows(4), max_steps=5, ema_decay=0.3)
    model = toy.lora.model
    expected = torch.tensor([0.5, -1.0], dtype=torch.float64)
    for step, decay in enumerate([2 / 11, 3 / 12, 0.3, 0.3, 0.3], 1):
        made.step([0, 1, 2, 3], step)
        now = torch.stack([model.first.detach(), model.second.detach()])
        expected = decay * expected + (1 - decay) * now
        torch.testing.assert_close(torch.stack(list(made.average.values())), expected)
        with made.averaged():
            torch.testing.assert_close(torch.stack([model.first.detach(), model.second.detach()]), expected)
        assert torch.equal(torch.stack([model.first.detach(), model.second.detach()]), now)
    with pytest.raises(ValueError), made.averaged():
        raise ValueError
    assert torch.equal(torch.stack([model.first.detach(), model.second.detach()]), now), "put back whatever happens"
    off, _ = toy_loop.make(toy_loop.Toy(), toy_loop.rows(4))
    with off.averaged():
        assert off.average == {}


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_a_state_that_is_taken_up_goes_on_as_if_nothing_had_happened(ema):
    import copy

    import torch

    settings = {"batch_size": 2, "epochs": 4, "ema_decay": ema, "lr_scheduler": "cosine"}
    one, _ = toy_loop.make(toy_loop.Toy(), toy_loop.rows(6), toy_loop.rows(2), **settings)
    for step, indices in list(one.remaining_steps(0))[:5]:
        one.step(indices, step)
    one.measured, one.rows = [(0, 2.0), (5, 1.5)], 1
    state = copy.deepcopy(one.state())
    two, _ = toy_loop.make(toy_loop.Toy(start=(9.0, 9.0)), toy_loop.rows(6), toy_loop.rows(2), **settings)
    two.restore({**state, "measured": [["0", "2.0"], ["5", "1.5"]], "rows": "1"})  # as JSON may give them back
    assert two.measured == one.measured and two.rows == 1 and two.scheduler.get_last_lr() == one.scheduler.get_last_lr()
    for made in (one, two):
        for step, indices in made.remaining_steps(5):
            made.step(indices, step)
    for kept in ("parameters", "average"):
        a, b = getattr(one, kept), getattr(two, kept)
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    wide, _ = toy_loop.make(toy_loop.Toy(), toy_loop.rows(6), batch_size=2)
    wide.restore({**state, "rows": 5})
    assert wide.rows == 2, "a smaller batch_size than the run had before stays"


class TwoProcesses:
    """What one of two processes sees of accelerate; what the other one would have added to a sum is given."""

    def __init__(self, process: int, sums: dict[float, float]) -> None:
        from accelerate import Accelerator

        self._real, self.process_index, self._sums = Accelerator(cpu=True), process, sums
        self.num_processes, self.waited = 2, []

    def __getattr__(self, name: str):
        return getattr(self._real, name)

    def no_sync(self, model):
        self.waited.append(model)
        return self._real.no_sync(model)

    def reduce(self, value, how):
        import torch

        assert how == "sum" and value.dtype == torch.float64
        return torch.tensor(self._sums[float(value)], dtype=torch.float64)


def test_two_processes_average_to_the_gradient_of_one():
    """Five examples in batches of 1: process 1 has two of its own and one that is repeated and does not count."""
    import torch

    examples = toy_loop.rows(5, groups="a")
    total = sum(e["weight"] for e in examples)
    shares = [sum(examples[i]["weight"] for i in part) for part in ([0, 2, 4], [1, 3])]
    sums = {shares[0]: total, shares[1]: total, 30.0: 50.0, 20.0: 50.0}
    gradients, losses = [], []
    for process in (0, 1):
        toy, accelerator = toy_loop.Toy(), TwoProcesses(process, sums)
        made, _ = toy_loop.make(toy, examples, accelerator=accelerator, batch_size=1, gradient_accumulation=3)
        loss, weight, units = made.backward([0, 1, 2, 3, 4], 1)
        assert (weight, units) == (total, 50.0) and len(accelerator.waited) == 2, "gradients are exchanged with the last batch alone"
        gradients.append([float(p.grad) for p in made.parameters.values()])
        losses.append(float(loss))
    parameters = [torch.nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in (0.5, -1.0)]
    whole = toy_loop.squared(parameters, *toy_loop.columns(examples))
    whole.backward()
    assert [(a + b) / 2 for a, b in zip(*gradients, strict=True)] == pytest.approx([float(p.grad) for p in parameters])
    assert sum(losses) == pytest.approx(float(whole))


def test_a_process_with_nothing_that_counts_has_a_loss_of_zero():
    accelerator = TwoProcesses(1, {0.0: 1.0, 10.0: 10.0})
    made, _ = toy_loop.make(toy_loop.Toy(), toy_loop.rows(1), accelerator=accelerator, batch_size=1)
    loss, weight, _ = made.backward([0], 1)
    assert (float(loss), weight) == (0.0, 1.0) and all(float(p.grad) == 0.0 for p in made.parameters.values())


def test_several_processes_do_not_halve_since_they_would_have_to_agree():
    made, heard = toy_loop.make(toy_loop.Toy(), toy_loop.rows(4), accelerator=TwoProcesses(0, {}))
    with pytest.raises(loop.OutOfMemory) as error:
        made._within_memory(lambda: (_ for _ in ()).throw(MemoryError()), 3)
    assert (error.value.step, error.value.reason, made.rows, heard) == (3, "MemoryError", 4, [])


def test_memory_is_halved_until_one_row_is_left():
    made, heard = toy_loop.make(toy_loop.Toy(), toy_loop.rows(12), batch_size=5, gradient_accumulation=2)

    def fails():
        for parameter in made.parameters.values():
            assert parameter.grad is None, "nothing is left of the pass that failed"
            parameter.grad = parameter.detach().clone()
        raise RuntimeError("\nCUDA out of memory.\nTried to allocate much.")

    with pytest.raises(loop.OutOfMemory) as error:
        made._within_memory(fails, 7)
    assert heard == [MemoryRanOut(7, 3, 4), MemoryRanOut(7, 2, 5), MemoryRanOut(7, 1, 10)] and made.rows == 1
    assert (error.value.step, error.value.reason) == (7, "CUDA out of memory.")


@pytest.mark.parametrize(("start", "what"), [((0.0, 0.0), "gradient"), ((float("nan"), 1.0), "loss"), ((float("inf"), 1.0), "loss")])
def test_what_is_no_number_changes_nothing(monkeypatch, start, what):
    """A loss of |a|^0.5 at 0 is a number; its gradient is not."""
    import torch

    toy = toy_loop.Toy(start)
    monkeypatch.setattr(toy, "loss", lambda model, batch: model.first.abs().sqrt() + model.second.abs().sqrt())
    made, heard = toy_loop.make(toy, toy_loop.rows(4), batch_size=2, gradient_accumulation=2)
    with pytest.raises(loop.NotFinite, match=what) as error:
        made.step([3, 1], 2)
    assert (error.value.what, error.value.step, error.value.rows) == (what, 2, (3, 1)) and not heard
    now = torch.stack([toy.lora.model.first, toy.lora.model.second]).detach()
    torch.testing.assert_close(now, torch.tensor(start, dtype=torch.float64), equal_nan=True)


def test_half_precision_skips_a_gradient_that_overflows(monkeypatch):
    toy = toy_loop.Toy((0.0, 0.0))
    monkeypatch.setattr(toy, "loss", lambda model, batch: model.first.abs().sqrt() + model.second.abs().sqrt())
    made, _ = toy_loop.make(toy, toy_loop.rows(4))
    monkeypatch.setattr(made.accelerator, "scaler", SimpleNamespace(scale=lambda loss: loss))
    assert made.step([0, 1], 1).loss == 0.0  # with fp16 the scaler deals with it


@pytest.mark.parametrize("name", ["prodigy", "schedule_free", "lion", "came", "muon", "adafactor", "adamw_8bit", "adamw"])
def test_under_a_scaler_every_optimizer_steps_with_its_true_gradient_and_skips_what_overflows(name):
    """torch's own scaler of half precision, as accelerate uses it."""
    import torch
    from accelerate import Accelerator
    from builders import lora_loop

    examples, ends, rate = lora_loop.examples(), [], 1.0 if name == "prodigy" else 1e-3
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**10)):
        accelerator = Accelerator(cpu=True)
        accelerator.scaler = scaler
        made, _ = lora_loop.make(
            lora_loop.LoraToy(rate=rate), examples, accelerator=accelerator, optimizer=name, learning_rate=rate, batch_size=8, epochs=3
        )
        if scaler is not None:  # as it does with fp16
            accelerator.unscale_gradients = lambda scaler=scaler, made=made: scaler.unscale_(made.optimizer.optimizer)
        made.run()
        ends.append([p.detach().clone() for p in made.parameters.values()])
        if scaler is not None:
            before = [p.detach().clone() for p in made.parameters.values()]
            made.trainable.loss = lambda model, batch: sum(
                (p - p.detach()).abs().sqrt().sum() for p in model.parameters() if p.requires_grad
            )
            made.step(list(range(8)), 4)
            assert all(torch.equal(p, kept) for p, kept in zip(made.parameters.values(), before, strict=True))
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-5)


def test_the_time_of_a_run_is_that_of_one_warm_pass_times_its_steps(monkeypatch):
    import torch

    toy, ticks, looked = toy_loop.Toy(), iter([100.0, 102.5]), []
    monkeypatch.setattr(loop.time, "perf_counter", lambda: looked.append(len(toy.modes)) or next(ticks))
    made, heard = toy_loop.make(toy, toy_loop.rows(6), batch_size=2, epochs=4)
    toy.lora.model.eval()
    assert made.estimate_seconds() == 2.5 * 12 and not heard
    assert toy.modes == [True, True] and looked == [1, 2], "the first pass pays for warming up"
    assert all(p.grad is None for p in made.parameters.values())
    assert torch.equal(torch.stack([toy.lora.model.first, toy.lora.model.second]), torch.tensor([0.5, -1.0], dtype=torch.float64))
    broken, _ = toy_loop.make(toy_loop.Toy((float("nan"), 0.0)), toy_loop.rows(6), batch_size=2)
    monkeypatch.setattr(loop.time, "perf_counter", lambda: 0.0)
    with pytest.raises(loop.NotFinite) as error:
        broken.estimate_seconds()
    first = epoch_steps(["a", "b"] * 3, 2, 42, 0)[0]
    assert (error.value.what, error.value.step, error.value.rows) == ("loss", 0, tuple(first))


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_a_lack_of_memory(error, is_memory):
    import torch

    assert loop.ran_out_of_memory(error) is is_memory
    assert loop.ran_out_of_memory(torch.OutOfMemoryError("")) is True


def test_every_pass_begins_from_the_random_state_of_its_place(monkeypatch):
    """(seed, step, process): 0 for the estimate and for held-out losses, which are drawn alike at every step."""
    places = []
    monkeypatch.setattr(loop, "seed_step", lambda *place: places.append(place))
    made, _ = toy_loop.make(toy_loop.Toy(), toy_loop.rows(4), toy_loop.rows(2), batch_size=4, epochs=2, save_steps=1, seed=9)
    made.run()
    assert places == [(9, 0, 0), (9, 1, 0), (9, 0, 0), (9, 2, 0), (9, 0, 0)]
    del places[:]
    made.estimate_seconds()
    assert places == [(9, 0, 0)] * 2
    two, _ = toy_loop.make(toy_loop.Toy(), toy_loop.rows(2), accelerator=TwoProcesses(1, {2.0: 3.0, 10.0: 20.0}), batch_size=1, seed=9)
    del places[:]
    two.backward([0, 1], 5)
    assert places == [(9, 5, 1)]


def test_the_estimate_too_halves_a_pass_that_does_not_fit(monkeypatch):
    toy = toy_loop.Toy()
    made, heard = toy_loop.make(toy, toy_loop.rows(8, groups="a"), batch_size=4)
    real = toy.loss

    def loss(model, batch):
        if batch["rows"] > 1:
            raise MemoryError
        return real(model, batch)

    monkeypatch.setattr(toy, "loss", loss)
    made.estimate_seconds()
    assert heard == [MemoryRanOut(0, 2, 2), MemoryRanOut(0, 1, 4)]
    monkeypatch.setattr(toy, "loss", lambda model, batch: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(loop.OutOfMemory) as error:
        made.estimate_seconds()
    assert error.value.step == 0


@pytest.mark.parametrize("done", [0, 2])
def test_a_run_learns_in_training_mode_wherever_it_begins(done):
    toy = toy_loop.Toy()
    made, _ = toy_loop.make(toy, toy_loop.rows(4), toy_loop.rows(2, groups="a") if not done else (), batch_size=1, epochs=1)
    toy.lora.model.eval()
    made.run(done)
    held = [False] * (0 if done else 2)
    assert toy.modes == [*held, *[True] * (4 - done), *held]
