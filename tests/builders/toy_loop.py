# SPDX-License-Identifier: Apache-2.0
"""A model of two numbers for the training loop: small enough to do every step by hand."""

from __future__ import annotations

from types import SimpleNamespace

from loraforge import RunConfig
from loraforge.plugin_api.models import TrainableModel
from loraforge.training import loop


class Toy(TrainableModel):
    """``y = x @ coefficients``; a batch's loss is its squared error, averaged by the examples' own weights."""

    def __init__(self, start=(0.5, -1.0), rates=None) -> None:
        import torch

        class Line(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.first = torch.nn.Parameter(torch.tensor(float(start[0]), dtype=torch.float64))
                self.second = torch.nn.Parameter(torch.tensor(float(start[1]), dtype=torch.float64))
                self.frozen = torch.nn.Parameter(torch.tensor(7.0), requires_grad=False)

        self.lora = SimpleNamespace(model=Line(), rate=lambda name: (rates or {}).get(name, 0.1))
        self.collated: list[tuple[list[int], int | None]] = []
        self.modes: list[bool] = []

    def encode(self, record, text):
        return record

    def group(self, example):
        return example["group"]

    def collate(self, examples, seed=None):
        import torch

        self.collated.append(([example["number"] for example in examples], seed))
        made = {key: torch.tensor([e[key] for e in examples], dtype=torch.float64) for key in ("x", "y", "weight")}
        return {**made, "rows": len(examples)}

    def weight(self, batch):
        return float(batch["weight"].sum())

    def units(self, batch):
        return 10.0 * batch["rows"]

    def loss(self, model, batch):
        self.modes.append(model.training)
        return squared((model.first, model.second), batch["x"], batch["y"], batch["weight"])


def squared(parameters, x, y, weight):
    errors = (x[:, 0] * parameters[0] + x[:, 1] * parameters[1] - y) ** 2
    return (errors * weight).sum() / weight.sum()


def rows(count: int, groups: str = "ab") -> list[dict]:
    """Examples that differ in everything, so that nothing can be exchanged unnoticed."""
    return [
        {"number": i, "x": (1.0 + i, 2.0 - 0.7 * i), "y": 3.0 * i - 4.0, "weight": 1.0 + i % 3, "group": groups[i % len(groups)]}
        for i in range(count)
    ]


def columns(examples):
    import torch

    return tuple(torch.tensor([e[key] for e in examples], dtype=torch.float64) for key in ("x", "y", "weight"))


def make(toy: Toy, train, held_out=(), accelerator=None, **settings) -> tuple[loop.Loop, list]:
    """A loop over the toy, and the list of what it will tell and call: events, ("save", step), ("sample", step)."""
    from accelerate import Accelerator

    heard: list = []
    stop = settings.pop("stop", lambda: False)
    calls = loop.Callbacks(heard.append, lambda step: heard.append(("save", step)), lambda step: heard.append(("sample", step)), stop)
    settings = {"lr_scheduler": "constant", "warmup": 0.0, "save_steps": 0, "learning_rate": 0.1, **settings}
    config = RunConfig(train_data_dir=".", base_model="x", **settings)
    return loop.Loop(toy, loop.Examples(train, held_out), config, accelerator or Accelerator(cpu=True), calls), heard
