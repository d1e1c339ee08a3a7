# SPDX-License-Identifier: Apache-2.0
"""make_adapter: what it makes is what a run makes, as far as an exporter can tell."""

from __future__ import annotations

import pytest
import torch

from loraforge import ExportError
from loraforge.adapters import lora
from loraforge.testing import make_adapter

KINDS = [
    {},
    {"rank": 2, "alpha": 3},
    {"dora": True},
    {"conv": True},
    {"dora": True, "conv": True, "rank": 1},
    {"ranks": {"model.layers.0.self_attn.q_proj": 6}},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_it_is_written_verified_and_read_back(kind, tmp_path):
    made = make_adapter(**kind)
    lora.write_peft(made, tmp_path)  # which verifies it by its probes
    back = lora.read_peft(tmp_path)
    assert (back.rank, back.alpha, back.dora, back.ranks, back.targets) == (made.rank, made.alpha, made.dora, made.ranks, made.targets)
    assert all(torch.equal(back.tensors[name], tensor) for name, tensor in made.tensors.items()) and len(made.tensors) == len(back.tensors)


def test_a_wrong_scale_is_refused(tmp_path):
    import dataclasses

    with pytest.raises(ExportError, match="would not do what was trained"):
        lora.write_peft(dataclasses.replace(make_adapter(), alpha=7), tmp_path)


@pytest.mark.parametrize("kind", [{}, {"conv": True}, {"dora": True}], ids=str)
def test_it_fits_layers_of_its_shapes(kind):
    """peft loads it and changes each weight by alpha / rank * B @ A."""
    from torch import nn

    made = make_adapter(**kind)
    model = nn.Module()
    for name in made.modules:
        parent = model
        for part in name.split(".")[:-1]:
            if not hasattr(parent, part):
                parent.add_module(part, nn.Module())
            parent = getattr(parent, part)
        a, b = made.tensors[f"{name}.lora_A.weight"], made.tensors[f"{name}.lora_B.weight"]
        layer = nn.Conv2d(a.shape[1], b.shape[0], tuple(a.shape[2:])) if a.ndim == 4 else nn.Linear(a.shape[1], b.shape[0])
        parent.add_module(name.rpartition(".")[2], layer)
    lora.load_adapters(model, {"made": made})
    for name in made.modules:
        delta = model.get_submodule(name).get_delta_weight("made").flatten(1)
        assert not lora.differs(made, name, delta)


def test_equal_seeds_make_equal_adapters():
    one, again, other = make_adapter(), make_adapter(), make_adapter(seed=1)
    name = "model.layers.0.self_attn.q_proj.lora_A.weight"
    assert torch.equal(one.tensors[name], again.tensors[name]) and not torch.equal(one.tensors[name], other.tensors[name])


def test_modules_facts_and_files_can_be_ones_own():
    made = make_adapter(
        modules={"unet.a.to_q": (8, 6)}, facts={"task": "image", "trigger_words": ["x"]}, files={"preview.png": b"p"}, base_model="b"
    )
    assert made.modules == ("unet.a.to_q",) and made.targets == ("to_q",) and made.tensors["unet.a.to_q.lora_A.weight"].shape == (4, 6)
    assert made.facts["task"] == "image" and made.facts["config"] == {} and made.files == {"preview.png": b"p"} and made.base_model == "b"
