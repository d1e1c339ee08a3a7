# SPDX-License-Identifier: Apache-2.0
"""The optimizer that a config names: beside the package used plainly by hand, and over a run that is measured, saved and taken up."""

from __future__ import annotations

import builtins

import pytest
from builders import lora_loop

from loraforge import ConfigError, RunConfig
from loraforge.config.optimizers.profiles import PROFILES
from loraforge.plugin_api.events import Evaluated, StepFinished
from loraforge.runs.folder import load_state, save_state
from loraforge.training.optimizers import make_optimizer, parameter_groups


def config(**values) -> RunConfig:
    return RunConfig(train_data_dir=".", base_model="x", **values)


def one() -> list:
    import torch

    return [torch.nn.Parameter(torch.tensor([1.0, -2.0]))]


@pytest.mark.parametrize("named", ["adamw", "adamw_8bit", "adafactor"])
def test_what_is_named_is_made_with_the_configs_rate_and_decay(named):
    import torch
    from transformers.optimization import Adafactor

    bitsandbytes = pytest.importorskip("bitsandbytes")
    kinds = {"adamw": torch.optim.AdamW, "adamw_8bit": bitsandbytes.optim.AdamW8bit, "adafactor": Adafactor}
    made = make_optimizer(config(optimizer=named, learning_rate=0.03, weight_decay=0.2), one())
    assert type(made) is kinds[named]
    (group,) = made.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.03, 0.2)
    if named == "adafactor":  # the config's rate is the rate: nothing is scaled by the weights, by the step or by a warm-up of its own
        assert (group["scale_parameter"], group["relative_step"], group["warmup_init"]) == (False, False, False)


def test_the_usual_optimizer_needs_no_bitsandbytes(monkeypatch):
    real = builtins.__import__

    def missing(name, *rest):
        if name.partition(".")[0] == "bitsandbytes":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    for named in ("adamw", "adafactor"):
        make_optimizer(config(optimizer=named), one())
    with pytest.raises(ConfigError, match="bitsandbytes"):
        make_optimizer(config(optimizer="adamw_8bit"), one())


@pytest.mark.parametrize(("device", "fused"), [("cpu", True), ("meta", False)])
def test_one_pass_over_the_weights_where_the_device_has_it(device, fused):
    import torch

    apart = torch.nn.Parameter(torch.zeros(2, device=device))
    for parameters in ([apart], [{"params": [apart]}], [*one(), apart], [{"params": one()}, {"params": [apart]}]):
        assert make_optimizer(config(), parameters).defaults["fused"] is fused


def test_groups_keep_rates_of_their_own():
    made = make_optimizer(config(learning_rate=0.5), [{"params": one(), "lr": 0.1}, {"params": one(), "lr": 0.2}, {"params": one()}])
    assert [group["lr"] for group in made.param_groups] == [0.1, 0.2, 0.5]


def test_adamw_is_the_papers():
    """Loshchilov and Hutter 2019, algorithm 2, by hand: two steps with decay."""
    import torch

    (weight,) = parameters = one()
    made = make_optimizer(config(learning_rate=0.1, weight_decay=0.3), parameters)
    expected, mean, square = weight.detach().clone(), torch.zeros(2), torch.zeros(2)
    for step, gradient in enumerate([torch.tensor([0.5, -1.0]), torch.tensor([-2.0, 0.25])], 1):
        weight.grad = gradient.clone()
        made.step()
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        expected = expected * (1 - 0.1 * 0.3)
        expected = expected - 0.1 * (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
    torch.testing.assert_close(weight.detach(), expected)


# --- each of them in the loop ------------------------------------------------------------------------------------------------


def plain(name: str, groups, rate: float):
    """The package's own, as its README uses it."""
    import torch

    if name == "adamw_8bit":
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(groups, lr=rate, weight_decay=0.01)
    if name == "adafactor":
        from transformers.optimization import Adafactor

        return Adafactor(groups, lr=rate, weight_decay=0.01, scale_parameter=False, relative_step=False, warmup_init=False)
    if name == "prodigy":
        from prodigyopt import Prodigy

        return Prodigy(groups, lr=rate, weight_decay=0.01, d_coef=0.5, use_bias_correction=True)
    if name == "schedule_free":
        from schedulefree import AdamWScheduleFree

        return AdamWScheduleFree(groups, lr=rate, weight_decay=0.01, warmup_steps=3)
    if name == "lion":
        from lion_pytorch import Lion

        return Lion(groups, lr=rate, weight_decay=0.01)
    if name == "came":
        from came_pytorch import CAME

        return CAME(groups, lr=rate, weight_decay=0.01)
    if name == "muon":
        return torch.optim.Muon(groups, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    return torch.optim.AdamW(groups, lr=rate, weight_decay=0.01)


RATES = {
    "adamw": 1e-3,
    "adamw_8bit": 1e-3,
    "adafactor": 1e-3,
    "prodigy": 1.0,
    "schedule_free": 2e-3,
    "lion": 3e-4,
    "came": 1e-4,
    "muon": 2e-3,
}
ARGS = {"prodigy": ["d_coef=0.5", "use_bias_correction=True", "weight_decay=0.01"], "schedule_free": ["weight_decay=0.01"]}


def settings(name: str, **more) -> dict:
    decay = {} if name in ARGS else {"weight_decay": 0.01}
    return {"optimizer": name, "learning_rate": RATES[name], "optimizer_args": ARGS.get(name, []), "save_steps": 2, "batch_size": 4, "epochs": 6,
            "gradient_accumulation": 2, "max_grad_norm": 0.3, **decay, **more}  # fmt: skip


@pytest.mark.parametrize("name", PROFILES)
def test_six_steps_are_those_of_the_package_used_by_hand(name):
    """Gradients of two passes, clipped, and in between measures that must not show."""
    import torch

    examples, toy = lora_loop.examples(), lora_loop.LoraToy(rate=RATES[name])
    made, heard = lora_loop.make(toy, examples, examples[:3], **settings(name, warmup=3 if name == "schedule_free" else 0))
    by_hand = lora_loop.LoraToy().lora.model
    trained = [p for p in by_hand.parameters() if p.requires_grad]
    optimizer = plain(name, trained, RATES[name])
    x, y = (torch.stack([e[i] for e in examples]) for i in (0, 1))
    if name == "schedule_free":
        optimizer.train()
    losses, found = [], []
    for _ in range(6):
        loss = lora_loop.error(by_hand, x, y)
        losses.append(float(loss.detach()))
        found.append(RATES[name] * optimizer.param_groups[0].get("d", 1.0))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 0.3)
        optimizer.step()
        optimizer.zero_grad()
    made.run()
    steps = [event for event in heard if isinstance(event, StepFinished)]
    assert [event.loss for event in steps] == pytest.approx(losses, rel=1e-5)
    if name != "schedule_free":
        assert [event.learning_rate for event in steps] == pytest.approx(found, rel=1e-3)
    else:
        optimizer.eval()
        assert [event.learning_rate for event in steps] == pytest.approx([RATES[name] * k / 3 for k in (1, 2, 3, 3, 3, 3)])
    with made.averaged():
        # A rounding of the sum over two passes turns the sign of a gradient of nothing, and Lion looks at signs alone; Muon and the eight
        # bits round it further. A step is 3e-4 and 2e-3 long.
        tolerance = {"lion": 7e-4, "adamw_8bit": 2e-4, "muon": 2e-4}.get(name, 2e-5)
        for mine, expected in zip(made.parameters.values(), trained, strict=True):
            torch.testing.assert_close(mine.detach(), expected.detach(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("name", PROFILES)
def test_a_run_that_is_taken_up_ends_to_the_bit_as_one_that_never_stopped(name, odd, tmp_path):
    """Through the files of a checkpoint, with other moments of measuring and saving afterwards."""
    import torch

    examples = lora_loop.examples()

    def save(step: int) -> None:
        if step == 4:
            save_state(tmp_path, whole.state(), {})

    whole, heard = lora_loop.make(lora_loop.LoraToy(odd, rate=RATES[name]), examples, examples[:3], save, **settings(name, epochs=9))
    whole.run()
    again, more = lora_loop.make(lora_loop.LoraToy(odd, rate=RATES[name]), examples, examples[:3], **settings(name, epochs=9, save_steps=3))
    again.restore(load_state(tmp_path)[0])
    again.run(4)
    for one, other in zip(whole.parameters.values(), again.parameters.values(), strict=True):
        assert torch.equal(one, other)
    last = [[event for event in events if isinstance(event, StepFinished | Evaluated)][-1].loss for events in (heard, more)]
    assert last[0] == last[1]
    with whole.averaged(), again.averaged():
        assert all(torch.equal(one, other) for one, other in zip(whole.parameters.values(), again.parameters.values(), strict=True))


@pytest.mark.parametrize("name", PROFILES)
def test_the_loss_falls(name):
    examples = lora_loop.examples()
    made, heard = lora_loop.make(
        lora_loop.LoraToy(rate=RATES[name]), examples, **settings(name, epochs=40 if name == "prodigy" else 15, save_steps=0)
    )
    made.run()
    losses = [event.loss for event in heard if isinstance(event, StepFinished)]
    assert losses[-1] < 0.97 * losses[0]


def test_schedule_free_measures_and_saves_the_average_and_trains_on_beside_it():
    """The point that is measured is x of the paper: the mean of all z, here of equal weights."""
    import torch

    examples, kept = lora_loop.examples(), []
    toy = lora_loop.LoraToy(rate=2e-3)
    made, _ = lora_loop.make(toy, examples, examples[:3], **settings("schedule_free", save_steps=1, epochs=4))
    real = made.evaluate

    def evaluate(step: int):
        if step:
            kept.append({name: p.detach().clone() for name, p in made.parameters.items()})
        return real(step)

    made.evaluate = evaluate
    points = []
    step = made.step

    def after(indices, number):
        event = step(indices, number)
        points.append({name: made.optimizer.state[p]["z"].clone() for name, p in made.parameters.items()})
        assert made.optimizer.param_groups[0]["train_mode"] is True
        return event

    made.step = after
    made.run()
    for number, measured in enumerate(kept, 1):
        for name, value in measured.items():
            torch.testing.assert_close(value, torch.stack([z[name] for z in points[:number]]).mean(0), rtol=1e-4, atol=1e-6)


def test_what_the_class_refuses_is_no_traceback(monkeypatch):
    monkeypatch.setattr("loraforge.config.optimizers.arguments.problems", lambda *given: [])
    for name, args in {"adamw": "betas=2,3", "prodigy": "d0=-1", "lion": "betas=3,4", "came": "odd=1"}.items():
        with pytest.raises(ConfigError, match=f"optimizer_args: {name} does not take {args}"):
            make_optimizer(config(optimizer=name, optimizer_args=[args]), one())


def test_nothing_is_printed_by_a_package(capsys):
    make_optimizer(config(optimizer="prodigy", weight_decay=0.1), one())
    assert capsys.readouterr().out == ""


# --- rates of their own ------------------------------------------------------------------------------------------------------


def test_lora_plus_is_pefts():
    """Beside ``create_loraplus_optimizer`` on a model of peft's: the same rate for every parameter."""
    import torch
    from peft import LoraConfig, get_peft_model
    from peft.optimizers import create_loraplus_optimizer

    model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 4)), LoraConfig(r=2, target_modules=["0", "1"]))
    theirs = create_loraplus_optimizer(model, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16.0)
    expected = {p: group["lr"] for group in theirs.param_groups for p in group["params"]}
    settings = config(learning_rate=1e-3, lora_plus_ratio=16)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    made = make_optimizer(settings, parameter_groups(settings, parameters, lora_loop.LoraToy(rate=1e-3).lora))
    assert {p: group["lr"] for group in made.param_groups for p in group["params"]} == expected and len(expected) == 4


def test_every_rate_is_told_and_moves_by_the_schedule():
    examples = lora_loop.examples()
    toy = lora_loop.LoraToy(rates={"unet.lora_A": 5e-4}, rate=1e-3, odd=True)
    made, heard = lora_loop.make(
        toy, examples, lora_plus_ratio=16, learning_rate=1e-3, lr_scheduler="linear", batch_size=8, epochs=3, save_steps=0
    )
    made.run()
    steps = [event for event in heard if isinstance(event, StepFinished)]
    for event, share in zip(steps, (0.75, 0.5, 0.25), strict=True):
        assert event.learning_rate == pytest.approx(1e-3 * share)
        assert event.rates == pytest.approx({"unet": 5e-4 * share, "lora_B": 1.6e-2 * share})


def test_lora_plus_is_taken_up_to_the_bit(tmp_path):
    import torch

    examples, many = lora_loop.examples(), {"lora_plus_ratio": 8, "batch_size": 8, "epochs": 6, "lr_scheduler": "cosine", "save_steps": 3}
    toys = [lora_loop.LoraToy(rate=1e-3) for _ in range(2)]
    whole, _ = lora_loop.make(toys[0], examples, on_save=lambda step: step == 3 and save_state(tmp_path, whole.state(), {}), **many)
    whole.run()
    again, _ = lora_loop.make(toys[1], examples, **many)
    again.restore(load_state(tmp_path)[0])
    again.run(3)
    assert all(torch.equal(one, other) for one, other in zip(whole.parameters.values(), again.parameters.values(), strict=True))


def test_an_optimizer_that_finds_one_rate_for_all_is_given_one():
    toy = lora_loop.LoraToy(rates={"unet.lora_A": 0.5}, rate=1.0)
    with pytest.raises(ConfigError, match="finds one learning rate for all parameters; several are set: 0.5, 1"):
        lora_loop.make(toy, lora_loop.examples(), optimizer="prodigy", learning_rate=1.0)
