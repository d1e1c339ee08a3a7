# SPDX-License-Identifier: Apache-2.0
"""peft's layers stand on exactly the modules that are named."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
import peft  # noqa: E402
from builders.architectures import architectures, small  # noqa: E402

from loraforge.adapters import exact_names, lora  # noqa: E402

# Model type -> the layers that peft takes for fused experts.
TAKEN = {"ernie4_5_moe": {"gate_proj", "up_proj", "down_proj"}, "llama": set(), "mixtral": set(), "gpt2": set()}


@pytest.mark.parametrize("kind", TAKEN)
def test_what_peft_takes_for_experts(kind):
    model = small(architectures()[kind])
    names = lora.linear_names(model)
    found = exact_names.taken_for_experts(model, names)
    assert {name.rpartition(".")[2] for name in found} == TAKEN[kind]
    exact_names.inject(peft.LoraConfig(target_modules=names), model, "default")
    assert [n for n, m in model.named_modules() if isinstance(m, peft.tuners.lora.LoraLayer)] == names
    assert model.config.model_type == kind and "model_type" not in vars(model.config)


def test_this_version_of_peft_still_takes_such_names_for_experts():
    """If this fails, peft has changed, and the way round it may be gone."""
    model = small(architectures()["ernie4_5_moe"])
    wrapped = peft.get_peft_model(model, peft.LoraConfig(target_modules=lora.linear_names(model)))
    assert any(".experts.lora_A" in name for name, _ in wrapped.named_parameters())


def test_layers_that_peft_would_not_find_again_are_named():
    model = small(architectures()["laguna"])
    names = lora.linear_names(model)
    odd = exact_names.misread(model, names)
    assert odd == tuple(sorted(name for name in names if ".shared_experts." in name)) and odd
    assert not exact_names.misread(small(architectures()["llama"]), lora.linear_names(small(architectures()["llama"])))


def test_a_file_that_does_not_fit_names_what_is_wrong():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4))
    exact_names.inject(peft.LoraConfig(r=2, target_modules=["0"]), model, "x")
    exact_names.fill(model, {"0.lora_A.weight": torch.ones(2, 3), "0.lora_B.weight": torch.ones(4, 2)}, "x")
    assert bool((model[0].lora_A["x"].weight == 1).all())
    with pytest.raises(ValueError, match=r"0: \(2, 5\), \(2, 3\), 1$"):
        exact_names.fill(model, {"0.lora_A.weight": torch.ones(2, 5), "1.lora_B.weight": torch.ones(4, 2)}, "x")
