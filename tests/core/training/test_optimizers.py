"""The optimizer and the schedule that a config names, against torch's and transformers' own and against the formulas."""

from __future__ import annotations

import builtins

import pytest

from loraforge import RunConfig
from loraforge.training.optimizers import make_optimizer


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
    with pytest.raises(ImportError):
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
