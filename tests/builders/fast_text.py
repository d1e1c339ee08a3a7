# SPDX-License-Identifier: Apache-2.0
"""A language model with and without what makes training fast, and its loss and gradients."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")


FAMILIES = ["llama", "qwen2", "gpt2"]


def model_of(base, architecture="llama", tmp_path=None):
    from loraforge_text.families.loading import load_model

    from builders.tiny_text import make_base

    folder = base if architecture == "llama" else make_base(tmp_path / architecture, architecture=architecture)
    return load_model(folder, "fp32", torch.device("cpu")).requires_grad_(False)


def both(folder, **settings):
    """(the plain one, the fast one) with the same LoRA, whose B is not zero."""
    from loraforge_text.base_files import read_base
    from loraforge_text.families.causal_lm import TrainableCausalLM, _tokenizer, load_model

    from loraforge import RunConfig
    from loraforge.adapters import lora

    made = []
    for fast in (False, True):
        model = load_model(folder, "fp32", torch.device("cpu"))
        torch.manual_seed(0)
        attached = lora.inject(model, RunConfig(train_data_dir=".", base_model="x", lora_dropout=0.0, **settings))
        for _, layer in attached.layers():
            layer.lora_B["default"].weight.data.normal_(std=0.1)
        made.append(TrainableCausalLM(attached, _tokenizer(folder), read_base(folder), 512, fast=fast))
    return made


def rows(lengths, seed=0, vocabulary=400):
    generator = torch.Generator().manual_seed(seed)
    return [
        {"ids": tuple(torch.randint(5, vocabulary, (n,), generator=generator).tolist()), "learned": tuple(i >= n // 2 for i in range(n))}
        for n in lengths
    ]


def loss_and_gradients(trainable, examples):
    batch = trainable.collate(examples)
    loss = trainable.loss(trainable.model.train(), batch)
    loss.backward()
    found = {name: p.grad.clone() for name, p in trainable.model.named_parameters() if p.grad is not None}
    trainable.model.zero_grad(set_to_none=True)
    return loss.detach(), {name.replace(".head.", "."): grad for name, grad in found.items()}, batch
