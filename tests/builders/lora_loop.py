# SPDX-License-Identifier: Apache-2.0
"""A linear layer with a LoRA on it for the training loop, as peft names and shapes one: for optimizers that want matrices."""

from __future__ import annotations

from types import SimpleNamespace

from loraforge import RunConfig
from loraforge.plugin_api.models import TrainableModel
from loraforge.training import loop

WIDE, RANK = 96, 48  # 4608 numbers a matrix: eight bits begin at 4096


class LoraToy(TrainableModel):
    """``y = (W + B A) x``; a batch's loss is its mean squared error.

    Args:
        odd: with parameters that are no matrices too: a magnitude and a convolution's kernel.
        rates: see ``Lora.rates``.
    """

    def __init__(self, odd: bool = False, rates=None, rate: float = 1.0) -> None:
        import torch

        torch.manual_seed(3)
        layer = torch.nn.Module()
        layer.lora_A = torch.nn.ModuleDict({"default": torch.nn.Linear(WIDE, RANK, bias=False)})
        layer.lora_B = torch.nn.ModuleDict({"default": torch.nn.Linear(RANK, WIDE, bias=False)})
        torch.nn.init.zeros_(layer.lora_B["default"].weight)
        layer.base = torch.nn.Linear(WIDE, WIDE, bias=False).requires_grad_(False)
        if odd:
            layer.magnitude = torch.nn.Parameter(torch.ones(WIDE))
            layer.kernel = torch.nn.Parameter(torch.ones(1, 1, 1, 1))
        model = torch.nn.Module()
        model.unet = layer
        found = {**(rates or {})}
        self.lora = SimpleNamespace(model=model, rate=lambda name: next((r for s, r in found.items() if name.startswith(s)), rate))

    def encode(self, record, text):
        return record

    def group(self, example):
        return 0

    def collate(self, examples, seed=None):
        import torch

        return {"x": torch.stack([e[0] for e in examples]), "y": torch.stack([e[1] for e in examples])}

    def weight(self, batch):
        return float(len(batch["x"]))

    def units(self, batch):
        return float(len(batch["x"]))

    def loss(self, model, batch):
        return error(model, batch["x"], batch["y"])


def error(model, x, y):
    layer = model.unet
    made = layer.base(x) + layer.lora_B["default"](layer.lora_A["default"](x))
    if hasattr(layer, "magnitude"):
        made = made * layer.magnitude * layer.kernel.flatten()
    return ((made - y) ** 2).mean()


def examples(count: int = 8) -> list:
    """Pairs that a layer of that rank can learn."""
    import torch

    torch.manual_seed(4)
    change = torch.randn(WIDE, WIDE) / WIDE**0.5
    x = torch.randn(count, WIDE)
    return list(zip(x, x @ change.T, strict=True))


def make(toy: LoraToy, train, held_out=(), on_save=lambda step: None, accelerator=None, **settings) -> tuple[loop.Loop, list]:
    """A loop over the toy, and the events that it will tell."""
    from accelerate import Accelerator

    heard: list = []
    settings = {"lr_scheduler": "constant", "warmup": 0.0, "save_steps": 0, "learning_rate": 1e-3, **settings}
    config = RunConfig(train_data_dir=".", base_model="x", **settings)
    toy.lora.config = config
    callbacks = loop.Callbacks(heard.append, on_save)
    return loop.Loop(toy, loop.Examples(train, held_out), config, accelerator or Accelerator(cpu=True), callbacks), heard
