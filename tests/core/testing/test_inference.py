# SPDX-License-Identifier: Apache-2.0
"""check_model_family after training: the adapter is taken off, opened, switched, and trained on."""

from __future__ import annotations

import pytest
from builders.toy_family import ToyInferenceModel, network, toy, toy_config, toy_rows

from loraforge.testing import check_model_family


def ignores_the_start(self, config, keys, device):
    return super(type(self), self).load(config.model_copy(update={"init_from_adapter": None}), keys, device)


def opens_the_base(self, config, adapters, device):
    model = type(self).inference(network())
    model.switch = lambda adapter: None
    return model


def doubles_the_scale(self, base_folder=None, facts=None, files=None):
    import dataclasses

    from loraforge.adapters.lora import Lora

    made = Lora.adapter(self, base_folder, facts, files)
    return dataclasses.replace(made, alpha=2 * made.alpha)


def loads_another_scale(self, config, keys, device):
    import types

    made = super(type(self), self).load(config, keys, device)
    made.lora.adapter = types.MethodType(doubles_the_scale, made.lora)
    return made


def switch(chosen):
    """A model that makes ``chosen(adapter)`` of what it is asked for."""
    return {"switch": lambda self, adapter: ToyInferenceModel.switch(self, chosen(adapter))}


def no_strength(adapter):
    return dict.fromkeys(adapter, 1.0) if isinstance(adapter, dict) else adapter


class Sticky:
    """Once switched on, an adapter stays on."""

    last = None

    def __call__(self, adapter):
        self.last = adapter or self.last
        return self.last


def forgets_by_name(self, adapter):
    """A name leaves the strengths as they were."""
    from peft.tuners.lora import LoraLayer

    from loraforge.adapters import lora

    strengths = {id(m): dict(m.scaling) for m in self.model.modules() if isinstance(m, LoraLayer)}
    lora.set_adapter(self.model, adapter)
    if isinstance(adapter, str):
        for module in self.model.modules():
            if isinstance(module, LoraLayer):
                module.scaling.update(strengths[id(module)])


def answers_at_random(self, prompts, adapter, **settings):
    import random

    return [str(random.random()) for _ in prompts]


BROKEN = {
    "knows facts that are no JSON": ({"trainable": {"facts": lambda self: {"when": object()}}}, "facts must be plain JSON values"),
    "has a fact that is no number": ({"trainable": {"facts": lambda self: {"loss": float("nan")}}}, "facts must be plain JSON values"),
    "puts files into folders": ({"trainable": {"files": lambda self: {"../x": b""}}}, "files and golden must return bytes by a name without a folder"),
    "has a file of text": ({"trainable": {"golden": lambda self, rows, template: {"x.json": "{}"}}}, "files and golden must return bytes"),
    "takes another adapter off": ({"load": loads_another_scale}, "the adapter that is taken off must do what the model does"),
    "ignores init_from_adapter": ({"load": ignores_the_start}, "load must start from init_from_adapter"),
    "opens no model": ({"open": lambda self, config, adapters, device: None}, "open must return an InferenceModel"),
    "answers too little": ({"inference": {"generate": lambda self, prompts, adapter: ["one"]}}, "generate must return one text or loraforge.File for each of 2"),
    "answers numbers": ({"inference": {"generate": lambda self, prompts, adapter: [1, 2]}}, "generate must return one text or loraforge.File"),
    "answers at random": ({"inference": {"generate": answers_at_random}}, "generate must answer the same to the same prompt"),
    "opens the base alone": ({"open": opens_the_base}, "an adapter must act on the answers"),
    "has no strengths": ({"inference": switch(no_strength)}, "with strength 0 an adapter must do nothing"),
    "is never switched off": ({"inference": switch(Sticky())}, "None must switch every adapter off"),
    "keeps a strength": ({"inference": {"switch": forgets_by_name}}, "a strength must hold for one call"),
    "takes the last adapter": ({"inference": switch(lambda a: a and ({"second": 3.0} if a == "second" else a))}, "under another name must answer the same"),
    "halves a name": ({"inference": switch(lambda a: {a: 40.0} if isinstance(a, str) else a)}, "name must mean the adapter with strength 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_family_that_breaks_a_promise_is_told(name):
    changed, message = BROKEN[name]
    config, keys = toy_config(learning_rate=0.2)  # so that every change shows in the answers
    with pytest.raises(AssertionError, match=message):
        check_model_family(toy(**changed), config, keys, toy_rows())


def test_the_same_family_without_a_fault_passes():
    config, keys = toy_config(learning_rate=0.2)
    check_model_family(toy(), config, keys, toy_rows())
