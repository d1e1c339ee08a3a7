# SPDX-License-Identifier: Apache-2.0
"""check_model_family in the loop: a step may be cut in any way, some steps learn, and showing what was learned changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders.toy_family import TrainableToy, toy, toy_config, toy_rows

from loraforge.testing import check_model_family


def counts_rows(self, batch):
    return float(len(batch["given"]))


def draws_by_the_batch(self, examples, seed=None):
    """Each example's noise follows from its place in the batch, in training only."""
    if seed is None:
        return TrainableToy.collate(self, examples, seed)
    return TrainableToy.collate(self, [{**example, "key": place} for place, example in enumerate(examples)], seed)


def climbs(self, model, batch):
    loss = TrainableToy.loss(self, model, batch)
    return loss if not model.training else -loss


def shows_elsewhere(self, folder, step):
    return Path(__file__)


def shows_a_name(self, folder, step):
    return "shown.png"


def stops_training(self, folder, step):
    self.model.eval()


def forgets(self, folder, step):
    import torch

    for _, layer in self.lora.layers():
        torch.nn.init.zeros_(layer.lora_B["default"].weight)


def freezes(self, folder, step):
    from loraforge.adapters import lora

    lora.set_adapter(self.model, None)
    for _, layer in self.lora.layers():
        layer._disable_adapters = False


BROKEN = {
    "takes the mean of means": ({"weight": counts_rows}, "weight must be what the loss averages over: the held-out loss depends on"),
    "draws by the place in the batch": ({"collate": draws_by_the_batch}, "a step must be the same however it is cut into batches"),
    "learns the wrong way": ({"loss": climbs}, "10 steps at learning_rate 0.02 must lower the loss"),
    "shows a file of somebody else's": ({"sample": shows_elsewhere}, "sample must return a file in the folder that it was given"),
    "shows a name": ({"sample": shows_a_name}, "sample must return a file in the folder that it was given, or None; not 'shown.png'"),
    "leaves training mode": ({"sample": stops_training}, "sample must leave the model in training mode"),
    "forgets what was learned": ({"sample": forgets}, "sample must leave the model as it was"),
    "freezes the LoRA": ({"sample": freezes}, "sample must leave the model as it was"),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_trainable_model_that_breaks_a_promise_is_told(name):
    changed, message = BROKEN[name]
    config, keys = toy_config()
    with pytest.raises(AssertionError, match=message):
        check_model_family(toy(changed), config, keys, toy_rows())


def test_a_loss_whose_mean_is_right_only_outside_of_training_is_told():
    def loss(self, model, batch):
        mean = TrainableToy.loss(self, model, batch)
        return mean * len(batch["given"]) if model.training else mean

    config, keys = toy_config()
    with pytest.raises(AssertionError, match="weight must be what the loss averages over. With 4 in a batch the loss is"):
        check_model_family(toy({"loss": loss}), config, keys, toy_rows())


def test_nothing_to_show_is_fine():
    config, keys = toy_config()
    check_model_family(toy({"sample": lambda self, folder, step: None}), config, keys, toy_rows())
