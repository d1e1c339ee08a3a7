# SPDX-License-Identifier: Apache-2.0
"""check_model_family on the object that load returns: each promise that the loop relies on, broken alone."""

from __future__ import annotations

import random

import pytest
from builders.toy_family import TrainableToy, network, toy, toy_config, toy_rows

from loraforge.testing import check_model_family


def loads_nothing(self, config, keys, device):
    return network()


def has_no_lora(self, config, keys, device):
    return TrainableToy(network())


def forgets_to_freeze(self, config, keys, device):
    made = super(type(self), self).load(config, keys, device)
    made.lora.model[0].weight.requires_grad_(True)
    return made


def learns_half(self, config, keys, device):
    made = super(type(self), self).load(config, keys, device)
    next(p for name, p in made.model.named_parameters() if "lora_A" in name).requires_grad_(False)
    return made


def starts_anyhow(self, config, keys, device):
    import torch

    made = super(type(self), self).load(config, keys, device)
    torch.seed()
    for _, layer in made.lora.layers():
        torch.nn.init.normal_(layer.lora_A["default"].weight)
    return made


def starts_with_something(self, config, keys, device):
    import torch

    made = super(type(self), self).load(config, keys, device)
    for _, layer in made.lora.layers():
        torch.nn.init.ones_(layer.lora_B["default"].weight)
    return made


counter = iter(range(10**6))


def encodes_differently(self, record, text):
    return {**TrainableToy.encode(self, record, text), "number": next(counter)}


def draws_globally(self, example, seed):
    return random.randrange(len(example["bytes"]) - 1), random.randrange(64)


def measures_differently(self, example, seed):
    return TrainableToy.draw(self, example, random.random() if seed is None else seed)


def refuses_repeats(self, example, seed):
    assert set(example) == {"bytes", "key"}
    return TrainableToy.draw(self, example, seed)


def spoils_examples(self, examples, seed=None):
    made = TrainableToy.collate(self, examples, seed)
    examples[0]["seen"] = examples[0].get("seen", 0) + 1
    return made


def collates_elsewhere(self, examples, seed=None):
    import torch

    return {**TrainableToy.collate(self, examples, seed), "more": torch.zeros(2, device="meta")}


def loses_shape(self, model, batch):
    return TrainableToy.loss(self, model, batch)[None]


def loses_infinity(self, model, batch):
    return TrainableToy.loss(self, model, batch) / 0


def loses_noise(self, model, batch):
    import torch

    return TrainableToy.loss(self, model, batch) * (1 + torch.rand(()))


def loses_gradient(self, model, batch):
    return TrainableToy.loss(self, model, batch).detach()


def loses_the_lora(self, model, batch):
    import torch

    return (model(batch["given"]) * 0).sum() + torch.ones(())


def thaws_the_base(self, model, batch):
    model[0].weight.requires_grad_(True)
    return TrainableToy.loss(self, model, batch)


BROKEN = {
    "loads a bare model": ({"load": loads_nothing}, "load must return a loraforge.TrainableModel, not Sequential"),
    "has no LoRA": ({"load": has_no_lora}, "'lora' must be what loraforge.adapters.lora.inject returned"),
    "leaves the base unfrozen": ({"load": forgets_to_freeze}, "only the LoRA may learn, the base is frozen.*0.weight"),
    "freezes a part of the LoRA": ({"load": learns_half}, "all of the LoRA must learn"),
    "starts anyhow": ({"load": starts_anyhow}, "load must start alike after the same seed"),
    "starts with something": ({"load": starts_with_something}, "a fresh LoRA must change nothing"),
    "encodes into a list": ({"trainable": {"encode": lambda self, record, text: [1]}}, "encode must return a mapping.*not list"),
    "takes the core's name": ({"trainable": {"encode": lambda self, record, text: {"repeat": 1}}}, "'repeat' in an example belongs to the core"),
    "encodes differently": ({"trainable": {"encode": encodes_differently}}, "encode must be a function of the record and its text"),
    "groups by a list": ({"trainable": {"group": lambda self, example: [1]}}, "group must return something hashable"),
    "groups differently": ({"trainable": {"group": lambda self, example: next(counter)}}, "group must say the same of an example each time"),
    "collates into a tuple": ({"trainable": {"collate": lambda self, examples, seed=None: ()}}, "collate must return a mapping.*not tuple"),
    "collates elsewhere": ({"trainable": {"collate": collates_elsewhere}}, "collate must return tensors on the CPU.*elsewhere: more"),
    "draws from everywhere": ({"trainable": {"draw": draws_globally}}, "collate must draw from its seed alone"),
    "measures differently": ({"trainable": {"draw": measures_differently}}, "collate without a seed must draw always the same"),
    "spoils the examples": ({"trainable": {"collate": spoils_examples}}, "collate must leave the examples as they are"),
    "weighs nothing": ({"trainable": {"weight": lambda self, batch: 0.0}}, "weight must be a number above 0, not 0.0"),
    "weighs a tensor": ({"trainable": {"weight": lambda self, batch: (batch["wanted"] >= 0).sum()}}, "weight must be a number above 0, not tensor"),
    "weighs each batch as one": ({"trainable": {"weight": lambda self, batch: 1.0}}, "weight must add up: 1.0 for 4 examples together, 4.0 for one"),
    "counts padding": ({"trainable": {"units": lambda self, batch: batch["given"].numel()}}, "units must add up"),
    "returns a loss for each": ({"trainable": {"loss": loses_shape}}, "loss must return a scalar tensor"),
    "returns no number": ({"trainable": {"loss": loses_infinity}}, "the loss is inf, not a finite number"),
    "draws in the loss": ({"trainable": {"loss": loses_noise}}, "the loss must follow from the batch.*drawn in collate"),
    "detaches the loss": ({"trainable": {"loss": loses_gradient}}, "the loss must have a gradient: something detaches it"),
    "does not use the LoRA": ({"trainable": {"loss": loses_the_lora}}, "the loss must have a gradient on the LoRA"),
    "thaws the base": ({"trainable": {"loss": thaws_the_base}}, "only the LoRA may have gradients, but these have one: 0.weight"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_trainable_model_that_breaks_a_promise_is_told(name):
    changed, message = BROKEN[name]
    config, keys = toy_config()
    with pytest.raises(AssertionError, match=f"(?s){message}"):
        check_model_family(toy(**changed), config, keys, toy_rows())


def test_repeated_examples_are_collated_too():
    config, keys = toy_config()
    with pytest.raises(AssertionError):
        check_model_family(toy(trainable={"draw": refuses_repeats}), config, keys, toy_rows())
