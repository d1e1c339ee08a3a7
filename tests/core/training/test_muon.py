# SPDX-License-Identifier: Apache-2.0
"""Muon for matrices and AdamW for the rest, beside the two used by hand."""

from __future__ import annotations

import pytest
from builders import lora_loop

from loraforge import ConfigError


def test_what_is_no_matrix_has_adamw_at_the_same_rate():
    import torch

    examples, toy = lora_loop.examples(), lora_loop.LoraToy(odd=True, rate=2e-3)
    made, _ = lora_loop.make(
        toy,
        examples,
        optimizer="muon",
        learning_rate=2e-3,
        weight_decay=0.1,
        batch_size=8,
        epochs=5,
        max_grad_norm=0.0,
        lr_scheduler="linear",
    )
    made.run()
    model = lora_loop.LoraToy(odd=True).lora.model
    trained = [p for p in model.parameters() if p.requires_grad]
    muon = torch.optim.Muon([p for p in trained if p.ndim == 2], weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW([p for p in trained if p.ndim != 2], weight_decay=0.1)
    x, y = (torch.stack([e[i] for e in examples]) for i in (0, 1))
    for step in range(5):
        for optimizer in (muon, adamw):
            optimizer.param_groups[0]["lr"] = 2e-3 * (5 - step) / 6
        lora_loop.error(model, x, y).backward()
        muon.step()
        adamw.step()
        model.zero_grad()
    by_name = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert by_name.keys() == made.parameters.keys() and {p.ndim for p in trained} == {1, 2, 4}
    for name, value in made.parameters.items():
        torch.testing.assert_close(value.detach(), by_name[name].detach(), rtol=1e-4, atol=2e-4)


def test_the_steps_of_muons_own_size_are_refused_beside_adamw():
    settings = {"optimizer": "muon", "optimizer_args": ["adjust_lr_fn=original"], "learning_rate": 2e-2}
    lora_loop.make(lora_loop.LoraToy(), lora_loop.examples(), **settings)
    with pytest.raises(ConfigError, match="adjust_lr_fn=original wants a far higher learning_rate than AdamW, which 2 parameters have"):
        lora_loop.make(lora_loop.LoraToy(odd=True), lora_loop.examples(), **settings)
