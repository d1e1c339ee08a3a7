# SPDX-License-Identifier: Apache-2.0
"""The size of an adapter, known without torch, is that of peft's own layers."""

from __future__ import annotations

import pytest

from loraforge import RunConfig
from loraforge.config.adapter_size import adapter_size, split

KINDS = [
    *({"lora_variant": variant} for variant in ("lora", "dora", "loha", "lokr")),
    *(
        {"lora_variant": "lokr", "lokr_factor": factor, "lokr_decompose_both": both}
        for factor in (None, 4, 7, 16)
        for both in (False, True)
    ),
]


@pytest.mark.parametrize("factor", [None, 1, 2, 3, 4, 5, 8, 10, 16, 64, 1000])
def test_a_side_is_split_as_peft_splits_it(factor):
    from peft.tuners.lokr.layer import factorization

    assert [split(n, factor) for n in range(1, 400)] == [factorization(n, factor or -1) for n in range(1, 400)]


@pytest.mark.parametrize("values", KINDS, ids=str)
@pytest.mark.parametrize("rank", [1, 3, 64])
def test_numbers_of_linear_layers_and_convolutions(values, rank):
    import torch

    from loraforge.adapters import lora

    model = torch.nn.ModuleDict({"linear": torch.nn.Linear(60, 32), "conv": torch.nn.Conv2d(24, 40, 3), "point": torch.nn.Conv2d(16, 8, 1)})
    config = RunConfig(train_data_dir=".", base_model="b", lora_rank=rank, **values)
    attached = lora.inject(model, config, modules=dict.fromkeys(model, rank))
    sizes = ((60, 32, 1), (24, 40, 9), (16, 8, 1))
    assert attached.count()[0] == sum(adapter_size(config, rank, *size) for size in sizes)
