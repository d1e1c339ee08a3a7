# SPDX-License-Identifier: Apache-2.0
"""Attention a block of queries at a time."""

from __future__ import annotations

import pytest
from builders.fast_unet import torch


@pytest.mark.parametrize("cells", [2**20, 400, 1])  # all heads at once, one head at a time, one query at a time
@pytest.mark.parametrize(("queries", "keys"), [(20, 20), (7, 31)])
def test_attention_in_blocks_is_the_plain_one(queries, keys, cells, monkeypatch):
    from loraforge_image.kernels import blockwise_attention

    from loraforge.kernels import frozen

    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch has no oneDNN")
    for name, value in (("_WORTH", 0), ("onednn_is_faster", lambda: True)):
        monkeypatch.setattr(frozen, name, value)
    monkeypatch.setattr("loraforge_image.kernels.blockwise_attention._CELLS", cells)
    products, product = [], frozen.product
    monkeypatch.setattr(frozen, "product", lambda *given: products.append(given) or product(*given))
    made, weights = [], blockwise_attention._weights
    monkeypatch.setattr(blockwise_attention, "_weights", lambda *given: made.append(weights(*given)) or made[-1])
    generator = torch.Generator().manual_seed(0)
    apart = [torch.randn(2, n, 3, 10, generator=generator).transpose(1, 2) * 3 for n in (queries, keys, keys)]
    outer = torch.randn(2, queries, 30, generator=generator).unflatten(2, (3, 10)).transpose(1, 2)
    figures = []
    for attend, kind in ((torch.nn.functional.scaled_dot_product_attention, torch.double), (blockwise_attention.attend, torch.float)):
        given = [x.detach().to(kind).requires_grad_() for x in apart]
        out = attend(*given)
        figures.append([out, *torch.autograd.grad(out, given, outer.to(kind))])
    for wanted, got in zip(*figures, strict=True):
        torch.testing.assert_close(got, wanted.float(), rtol=1e-4, atol=3e-5)
    # Of six heads, forward and back: in blocks as large as they may be.
    assert len(made) == 2 * {2**20: 1, 400: 6, 1: 6 * queries}[cells] and max(x.numel() for x in made) <= max(cells, keys)
    assert len(products) == (0 if cells == 2**20 else 7 * len(made) // 2)  # of one head by oneDNN: two products forward, five back


def test_which_attention_is_made_in_blocks(monkeypatch):
    from loraforge_image.kernels import blockwise_attention
    from loraforge_image.kernels.fast_unet import _attend

    from loraforge.kernels import frozen

    asked = []
    plain = blockwise_attention.attend
    monkeypatch.setattr("loraforge_image.kernels.blockwise_attention.attend", lambda *x: asked.append(x[1].shape[2]) or plain(*x))
    picture, caption = torch.randn(1, 2, 256, 8), torch.randn(1, 2, 77, 8)
    for faster in (True, False):
        monkeypatch.setattr(frozen, "onednn_is_faster", lambda faster=faster: faster)
        for keys in (picture, caption):
            wanted = torch.nn.functional.scaled_dot_product_attention(picture, keys, keys)
            torch.testing.assert_close(_attend(picture, keys, keys), wanted, rtol=1e-5, atol=1e-5)
            _attend(picture.bfloat16(), keys.bfloat16(), keys.bfloat16())
    assert asked == [256]


def test_weights_lie_where_the_products_were(monkeypatch):
    """In memory that is in the processor's cache."""
    from loraforge_image.kernels import blockwise_attention

    made, products = [], blockwise_attention._products
    monkeypatch.setattr(blockwise_attention, "_products", lambda *given: made.append(products(*given)) or made[-1])
    query, key = torch.randn(3, 4, 8), torch.randn(3, 5, 8)
    found = blockwise_attention._weights(query, key)
    torch.testing.assert_close(found, (query @ key.mT).softmax(-1))
    assert found.data_ptr() == made[0].data_ptr()


def test_for_fewer_keys_other_types_and_other_devices_torchs_kernel_is_taken(monkeypatch):
    from loraforge_image.kernels.blockwise_attention import pays

    from loraforge.kernels import frozen

    monkeypatch.setattr(frozen, "onednn_is_faster", lambda: True)
    query, fewest = torch.zeros(1, 2, 300, 8), torch.zeros(1, 2, 128, 8)
    assert pays(query, fewest) and not pays(query, fewest[:, :, 1:])
    assert not pays(query.double(), fewest.double()) and not pays(query.to("meta"), fewest.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not pays(query, fewest)


@pytest.mark.parametrize(
    ("heads", "queries", "keys", "cells", "ranges"),
    [
        (3, 4, 5, 40, [((0, 2), (0, 4)), ((2, 4), (0, 4))]),  # two heads have 40 weights
        (2, 4, 5, 39, [((0, 1), (0, 4)), ((1, 2), (0, 4))]),
        (1, 4, 5, 15, [((0, 1), (0, 3)), ((0, 1), (3, 6))]),  # three queries have 15
        (2, 2, 5, 1, [((0, 1), (0, 1)), ((0, 1), (1, 2)), ((1, 2), (0, 1)), ((1, 2), (1, 2))]),  # never less than one
    ],
)
def test_the_blocks_hold_as_many_weights_as_they_may(heads, queries, keys, cells, ranges, monkeypatch):
    from loraforge_image.kernels import blockwise_attention

    assert blockwise_attention._CELLS * 4 == 4 * 2**20  # 4 MB
    monkeypatch.setattr(blockwise_attention, "_CELLS", cells)
    found = [((head.start, head.stop), (row.start, row.stop)) for head, row in blockwise_attention._blocks(heads, queries, keys)]
    assert found == ranges


def test_attention_in_blocks_keeps_what_it_is_given_only(monkeypatch):
    from loraforge_image.kernels import blockwise_attention

    given = [torch.randn(1, 2, 64, 8, requires_grad=True) for _ in range(3)]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.data_ptr()) or tensor, lambda tensor: tensor):
        blockwise_attention.attend(*given)
    assert sorted(kept) == sorted(x.data_ptr() for x in given)
