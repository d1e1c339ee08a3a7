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
    generator = torch.Generator().manual_seed(0)
    apart = [torch.randn(2, n, 3, 10, generator=generator).transpose(1, 2) * 3 for n in (queries, keys, keys)]
    outer = torch.randn(2, queries, 30, generator=generator).unflatten(2, (3, 10)).transpose(1, 2)
    figures = []
    for attend, kind in ((torch.nn.functional.scaled_dot_product_attention, torch.double), (blockwise_attention.attend, torch.float)):
        given = [x.detach().to(kind).requires_grad_() for x in apart]
        made = attend(*given)
        figures.append([made, *torch.autograd.grad(made, given, outer.to(kind))])
    for wanted, got in zip(*figures, strict=True):
        torch.testing.assert_close(got, wanted.float(), rtol=1e-4, atol=3e-5)


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


def test_attention_in_blocks_keeps_what_it_is_given_only(monkeypatch):
    from loraforge_image.kernels import blockwise_attention

    given = [torch.randn(1, 2, 64, 8, requires_grad=True) for _ in range(3)]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.data_ptr()) or tensor, lambda tensor: tensor):
        blockwise_attention.attend(*given)
    assert sorted(kept) == sorted(x.data_ptr() for x in given)
