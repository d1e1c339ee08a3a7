# SPDX-License-Identifier: Apache-2.0
"""The output head on learned positions, a part of the vocabulary at a time: plain cross entropy."""

from __future__ import annotations

import pytest
from builders.fast_text import torch


@pytest.mark.parametrize(("count", "cells"), [(1, 10**9), (7, 10**9), (300, 50)])
def test_the_chunked_head_is_plain_cross_entropy(monkeypatch, count, cells):
    from loraforge_text.kernels import linear_cross_entropy

    monkeypatch.setattr("loraforge_text.kernels.linear_cross_entropy._CELLS", cells)
    monkeypatch.setattr("loraforge_text.kernels.linear_cross_entropy._WORDS", 1)
    monkeypatch.setattr("loraforge_text.kernels.linear_cross_entropy._ROWS", 128)
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 90, bias=count == 7).requires_grad_(False)
    labels = torch.randint(0, 90, (count,))
    hidden = [(torch.randn(count, 16, generator=torch.Generator().manual_seed(1)) * 30).requires_grad_() for _ in range(2)]
    plain = torch.nn.functional.cross_entropy(head(hidden[0]), labels)
    fast = linear_cross_entropy.cross_entropy(hidden[1], head, labels)
    torch.testing.assert_close(fast, plain)
    (plain * 3).backward()
    (fast * 3).backward()
    torch.testing.assert_close(hidden[1].grad, hidden[0].grad, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(linear_cross_entropy.cross_entropy(hidden[1], head, labels), plain)


def test_a_head_that_does_more_stays_on():
    from loraforge_text.kernels import linear_cross_entropy
    from transformers import AutoModelForCausalLM, Gemma2Config, GraniteConfig  # Granite's scale may as well come before the head

    shape = {
        "vocab_size": 128,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    for config, more in (
        (Gemma2Config(**shape, head_dim=8, final_logit_softcapping=0.1), True),
        (GraniteConfig(**shape, logits_scaling=8.0), False),
    ):
        model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
        head = model.get_output_embeddings()
        head.weight.data.normal_()  # or there is nothing to cap
        taken = linear_cross_entropy.take_off(model)
        assert (taken is None) == more and (model.get_output_embeddings() is head) == more


@pytest.mark.parametrize("slope", [-5.0, 5.0])
def test_the_chunked_head_sums_logits_that_rise_from_part_to_part(monkeypatch, slope):
    from loraforge_text.kernels import linear_cross_entropy

    monkeypatch.setattr("loraforge_text.kernels.linear_cross_entropy._CELLS", 1)
    monkeypatch.setattr("loraforge_text.kernels.linear_cross_entropy._WORDS", 7)
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 90, bias=True).requires_grad_(False)
    head.bias += slope * torch.arange(90)  # exp() of all at once would be infinite
    labels = torch.randint(0, 90, (30,))
    hidden = [torch.randn(30, 16, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2)]
    plain = torch.nn.functional.cross_entropy(head(hidden[0]), labels)
    fast = linear_cross_entropy.cross_entropy(hidden[1], head, labels)
    torch.testing.assert_close(fast, plain)
    plain.backward()
    fast.backward()
    torch.testing.assert_close(hidden[1].grad, hidden[0].grad, rtol=1e-4, atol=1e-6)


def test_a_pass_that_learns_nothing_has_a_gradient_of_nothing():
    from loraforge_text.kernels import linear_cross_entropy

    head = torch.nn.Linear(16, 90, bias=False).requires_grad_(False)
    hidden = torch.randn(0, 16, requires_grad=True)
    (linear_cross_entropy.cross_entropy(hidden, head, torch.zeros(0, dtype=torch.long)) * 0).backward()
    assert hidden.grad.shape == (0, 16)


@pytest.mark.parametrize(("count", "vocabulary"), [(40, 120_000), (700, 12_000)])
def test_the_heads_logits_take_the_same_memory_for_every_vocabulary(monkeypatch, count, vocabulary):
    from loraforge_text.kernels import linear_cross_entropy

    seen = []
    product = linear_cross_entropy.frozen.product
    monkeypatch.setattr(
        linear_cross_entropy.frozen, "product", lambda x, weight, bias: seen.append((len(x), len(weight))) or product(x, weight, bias)
    )
    head = torch.nn.Linear(8, vocabulary, bias=False).requires_grad_(False)
    linear_cross_entropy.cross_entropy(torch.randn(count, 8).requires_grad_(), head, torch.randint(0, vocabulary, (count,))).backward()
    assert max(rows * words for rows, words in seen) <= 512 * 2048  # 4 MB
    assert sum(rows * words for rows, words in seen) == count * vocabulary, "every logit is made once"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_chunked_head_keeps_small_gradients_of_half_precision(dtype):
    from loraforge_text.kernels import linear_cross_entropy

    torch.manual_seed(0)
    head = torch.nn.Linear(16, 500, bias=False).requires_grad_(False).to(dtype)
    labels = torch.randint(0, 500, (400,))
    hidden = [torch.randn(400, 16, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_() for _ in range(2)]
    scale = 65536.0  # what a scaler of fp16 begins with
    (torch.nn.functional.cross_entropy(head(hidden[0]).float(), labels) * scale).backward()
    (linear_cross_entropy.cross_entropy(hidden[1], head, labels) * scale).backward()
    assert hidden[1].grad.dtype == dtype and torch.isfinite(hidden[1].grad).all()
    torch.testing.assert_close(
        hidden[1].grad.float(), hidden[0].grad.float(), rtol=0.05, atol=0.05 * float(hidden[0].grad.float().abs().max())
    )
    one, two = (h.grad.float().flatten() for h in hidden)
    assert torch.nn.functional.cosine_similarity(one, two, 0) > 0.999


@pytest.mark.parametrize(
    ("count", "vocabulary", "parts"),
    [
        (40, 60_000, [(40, 25_000), (40, 25_000), (40, 10_000)]),
        (700, 6000, [(512, 2048), (512, 2048), (512, 1904), (188, 5319), (188, 681)]),
    ],
)
def test_a_million_logits_at_a_time_of_512_rows_and_no_less_than_2048_words(monkeypatch, count, vocabulary, parts):
    from loraforge_text.kernels import linear_cross_entropy

    seen = []
    product = linear_cross_entropy.frozen.product
    monkeypatch.setattr(
        linear_cross_entropy.frozen, "product", lambda x, weight, bias: seen.append((len(x), len(weight))) or product(x, weight, bias)
    )
    head = torch.nn.Linear(2, vocabulary, bias=False).requires_grad_(False)
    with torch.no_grad():
        linear_cross_entropy.cross_entropy(torch.randn(count, 2), head, torch.randint(0, vocabulary, (count,)))
    assert seen == parts


@pytest.mark.parametrize("bias", [False, True])
def test_a_label_at_the_border_of_a_part_is_found_in_its_part(monkeypatch, bias):
    from loraforge_text.kernels import linear_cross_entropy

    monkeypatch.setattr(linear_cross_entropy, "_CELLS", 1)
    monkeypatch.setattr(linear_cross_entropy, "_WORDS", 7)
    torch.manual_seed(0)
    head = torch.nn.Linear(5, 20, bias=bias).requires_grad_(False)
    for label in (0, 6, 7, 13, 14, 19):
        hidden = [torch.randn(1, 5, generator=torch.Generator().manual_seed(label)).requires_grad_() for _ in range(2)]
        plain = torch.nn.functional.cross_entropy(head(hidden[0]), torch.tensor([label]))
        fast = linear_cross_entropy.cross_entropy(hidden[1], head, torch.tensor([label]))
        plain.backward()
        fast.backward()
        torch.testing.assert_close(fast, plain)
        torch.testing.assert_close(hidden[1].grad, hidden[0].grad)


@pytest.mark.parametrize("kind", ["plain", "learning", "integers", "other class", "none"])
def test_only_a_plain_frozen_head_is_taken_off(base, kind):
    from builders.fast_text import model_of
    from loraforge_text.kernels import linear_cross_entropy

    model = model_of(base)
    head = model.get_output_embeddings()
    if kind == "learning":
        head.weight.requires_grad_(True)
    if kind == "integers":
        head.weight = torch.nn.Parameter(torch.zeros(head.weight.shape, dtype=torch.int8), requires_grad=False)
    if kind == "other class":
        head.__class__ = type("Other", (torch.nn.Linear,), {})
    if kind == "none":
        model.get_output_embeddings = lambda: None
    taken = linear_cross_entropy.take_off(model)
    assert (taken is head) is (kind == "plain") and (taken is None) is (kind != "plain")
    if taken is not None:
        stands = model.get_output_embeddings()
        hidden = torch.randn(2, 3)
        assert stands(hidden) is hidden and stands.weight is head.weight and stands.head is head
