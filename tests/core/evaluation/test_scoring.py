# SPDX-License-Identifier: Apache-2.0
"""Losses of single examples on one loaded base, beside the same by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from loraforge import DataError, RunConfig
from loraforge.evaluation.scoring import Scorer

BASE = [[1.0, -2.0, 0.5], [0.25, 3.0, -1.0]]
RECORDS = [[1.0, 0.0, 2.0], None, [0.5, 4.0, -1.0], [3.0, 1.0, 1.0]]


@pytest.fixture
def made(monkeypatch):
    """A scorer over one linear layer, two adapters on it, and what was asked of the family."""
    import torch

    from loraforge.adapters import lora

    def config(**values):
        return RunConfig(train_data_dir=".", base_model="x", precision="fp32", **{"lora_rank": 2, "lora_dropout": 0.5, **values})

    def layer():
        model = torch.nn.Sequential(torch.nn.Linear(3, 2, bias=False))
        model[0].weight.data = torch.tensor(BASE)
        return model

    calls: list = []
    monkeypatch.setattr("loraforge.evaluation.scoring.quiet_libraries", lambda: calls.append(("quiet",)))

    class Trainable:
        def __init__(self, given):
            self.lora = lora.inject(layer(), given)
            self.model = self.lora.model

        def encode(self, record, text):
            calls.append(("encode", text))
            if record is None:
                raise DataError("too long")
            return record

        def on_encoded(self):
            calls.append(("encoded",))

        def collate(self, examples, seed=None):
            calls.append(("collate", list(examples), seed))
            return {"x": torch.tensor(examples), "label": "text"}

        def loss(self, model, batch):
            calls.append(("loss", model.training, torch.is_grad_enabled(), batch["label"], float(torch.rand(()))))
            return model(batch["x"]).square().sum() + 0.0

    def load(given, keys, device):
        calls.append(("load", given, keys, str(device)))
        return Trainable(given)

    adapters = {}
    for name in ("one", "two"):
        torch.manual_seed(len(name) + (name == "two"))
        trained = lora.inject(layer(), config())
        for parameter in (p for p in trained.model.parameters() if p.requires_grad):
            torch.nn.init.normal_(parameter.data)
        adapters[name] = trained.adapter()
    opened = SimpleNamespace(family=SimpleNamespace(load=load), template=SimpleNamespace(render=lambda record: f"text of {record}"))
    planned = SimpleNamespace(config=config(lora_variant="pissa", init_from_adapter="/gone", seed=5), keys="the keys")
    return Scorer(opened, planned, adapters, RECORDS), adapters, calls


def by_hand(row: int, adapter=None) -> float:
    import torch

    weight = torch.tensor(BASE)
    if adapter is not None:
        weight = weight + adapter.alpha / adapter.rank * adapter.tensors["0.lora_B.weight"] @ adapter.tensors["0.lora_A.weight"]
    return float((weight @ torch.tensor(RECORDS[row])).square().sum())


def test_losses_of_the_base_and_of_each_adapter(made):
    scorer, adapters, _ = made
    for name in (None, "one", "two", None, "one"):
        adapter = adapters.get(name)
        assert scorer.losses([3, 0, 2, 0], name) == pytest.approx([by_hand(row, adapter) for row in (3, 0, 2, 0)], rel=1e-5)


def test_the_base_is_loaded_as_it_is_and_everything_is_encoded_before_memory_is_freed(made):
    scorer, _, calls = made
    quiet, (_, given, keys, device), *rest = calls
    assert quiet == ("quiet",), "before anything is loaded"
    assert (given.lora_variant, given.init_from_adapter, given.seed, keys, device) == ("lora", None, 5, "the keys", "cpu")
    assert rest == [*(("encode", f"text of {record}") for record in RECORDS), ("encoded",)]
    assert [scorer.fits(row) for row in range(4)] == [True, False, True, True]


def test_every_example_is_measured_alone_without_dropout_and_with_the_same_draws(made):
    import torch

    from loraforge.training.loop import seed_step

    scorer, _, calls = made
    del calls[:]
    scorer.losses([0, 2], None)
    first = calls[:]
    assert [call[1:] for call in calls if call[0] == "collate"] == [([RECORDS[0]], None), ([RECORDS[2]], None)]
    assert [call[1:4] for call in calls if call[0] == "loss"] == [(False, False, "text")] * 2
    seed_step(5, 0, 0)  # as the loop does before the held-out loss: noise is the same in both
    assert next(call[4] for call in calls if call[0] == "loss") == float(torch.rand(()))
    del calls[:]
    scorer.losses([0, 2], None)
    assert calls == first
