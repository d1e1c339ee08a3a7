# SPDX-License-Identifier: Apache-2.0
"""Norms and gated blocks: the same figures, less kept."""

from __future__ import annotations

import pytest
from builders.fast_text import model_of, torch


def test_blocks_are_replaced_only_where_they_do_the_same(base):
    from loraforge_text.kernels import fast_blocks

    model = model_of(base)
    assert fast_blocks.replace(model) == {"norms": 2 * 2 + 1, "gated blocks": 2}  # of two layers; and the last norm

    class OtherRMSNorm(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.eps = torch.nn.Parameter(torch.rand(8), requires_grad=False), 1e-6

        def forward(self, x):
            return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * (1 + self.weight)  # Gemma's

    assert fast_blocks.replace(torch.nn.Sequential(OtherRMSNorm())) == {"norms": 0, "gated blocks": 0}


def test_fast_blocks_have_the_right_gradients():
    from loraforge_text.kernels.fast_blocks import _Gate, _Norm

    torch.manual_seed(0)
    x, y = (torch.randn(3, 5, 8, dtype=torch.double, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(_Gate.apply, (x, y))
    a, b = (torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(4)).requires_grad_() for _ in range(2))
    weight = torch.rand(8)
    _Norm.apply(a, weight, 1e-6)[0].square().sum().backward()
    (b * torch.rsqrt(b.square().mean(-1, keepdim=True) + 1e-6) * weight).square().sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)


def kept_bytes(make):
    """(what ``make`` returns, bytes of different tensors that are kept for its backward pass)."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        made = make()
    return made, sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("targets", ["attention", "all-linear"])
def test_what_a_frozen_block_can_make_again_is_not_kept_and_the_gradients_stay(base, monkeypatch, targets, checkpointing):
    from loraforge_text.kernels import fast_blocks

    from loraforge import RunConfig
    from loraforge.adapters import lora
    from loraforge.kernels import frozen

    ids = torch.arange(1, 65)[None]

    def trained(recomputed):
        model = model_of(base)
        torch.manual_seed(0)
        kinds = ["q_proj", "k_proj", "v_proj", "o_proj"] if targets == "attention" else "all-linear"
        lora.inject(model, RunConfig(train_data_dir=".", base_model="x", lora_dropout=0.25, lora_target=kinds))
        fast_blocks.replace(model)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        if not recomputed:
            monkeypatch.setattr(frozen, "recompute", lambda made, *others: made)
        model.train()
        torch.manual_seed(1)
        loss, size = kept_bytes(lambda: model(input_ids=ids, labels=ids, use_cache=False).loss)
        loss.backward()
        return loss.detach(), [p.grad for p in model.parameters() if p.grad is not None], size

    one, two = trained(True), trained(False)
    assert one[0].equal(two[0]) and len(one[1]) == len(two[1]) > 8
    for a, b in zip(one[1], two[1], strict=True):
        assert a.equal(b)
    # In the first of the two layers what goes into the norm is kept instead.
    assert checkpointing or one[2] < two[2] - 64 * model_of(base).config.hidden_size * 4 * 0.9


def test_four_bit_layers_pass_gradients_on_after_measuring(base):
    pytest.importorskip("bitsandbytes")
    from loraforge_text.families.loading import load_model

    from loraforge import RunConfig
    from loraforge.adapters import lora

    model = load_model(base, "4bit", torch.device("cpu"))
    attached = lora.inject(model, RunConfig(train_data_dir=".", base_model="x", lora_dropout=0.0))
    ids = torch.arange(1, 9)[None]
    model.eval()
    with torch.no_grad():
        model(input_ids=ids, use_cache=False)
    model.train()
    model(input_ids=ids, use_cache=False).logits.float().square().sum().backward()
    first = next(layer for _, layer in attached.layers())
    assert float(first.lora_B["default"].weight.grad.abs().sum()) > 0, "the gradient reaches the first layer"


def test_a_frozen_feed_forward_block_has_the_right_gradient():
    from loraforge_text.kernels.fast_blocks import _FrozenGated

    torch.manual_seed(0)
    gate, up, down = (torch.randn(shape, dtype=torch.double) for shape in ((6, 4), (6, 4), (4, 6)))
    x = torch.randn(2, 3, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: _FrozenGated.apply(y, gate, up, down), (x,), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("epsilon", [1e-6, 0.5])
def test_the_norm_is_that_of_llama_with_any_epsilon(dtype, epsilon):
    import copy

    from loraforge_text.kernels import fast_blocks
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    torch.manual_seed(0)
    plain = LlamaRMSNorm(8, eps=epsilon).requires_grad_(False).to(dtype)
    plain.weight.normal_()
    fast = copy.deepcopy(plain)
    assert fast_blocks.replace(torch.nn.Sequential(fast)) == {"norms": 1, "gated blocks": 0} and isinstance(fast, LlamaRMSNorm)
    given = [torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_() for _ in range(2)]
    one, two = plain(given[0]), fast(given[1])
    torch.testing.assert_close(one, two)
    weight = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(2)).to(dtype)
    (one * weight).sum().backward()
    (two * weight).sum().backward()
    torch.testing.assert_close(
        given[0].grad, given[1].grad, rtol=1e-4 if dtype == torch.float32 else 0.05, atol=1e-5 if dtype == torch.float32 else 0.02
    )


def gated_block(bias=False, act="silu"):
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    torch.manual_seed(0)
    return LlamaMLP(LlamaConfig(hidden_size=6, intermediate_size=10, num_attention_heads=1, mlp_bias=bias, hidden_act=act)).requires_grad_(
        False
    )


@pytest.mark.parametrize("case", ["plain", "bias", "autocast", "a layer that learns", "another type"])
def test_the_gated_block_is_llamas_in_every_case(case):
    import contextlib
    import copy

    from loraforge_text.kernels import fast_blocks

    plain = gated_block(bias=case == "bias")
    if case == "another type":
        plain.up_proj.double()
    fast = copy.deepcopy(plain)
    assert fast_blocks.replace(torch.nn.Sequential(fast)) == {"norms": 0, "gated blocks": 1}
    if case == "a layer that learns":
        plain.up_proj.weight.requires_grad_(True)
        fast.up_proj.weight.requires_grad_(True)
    given = [torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2)]
    results = []
    for block, x in zip((plain, fast), given, strict=True):
        with torch.autocast("cpu", torch.bfloat16) if case == "autocast" else contextlib.nullcontext():
            try:
                results.append(block(x))
            except RuntimeError:
                results.append(None)
    if case == "another type":
        assert results == [None, None]
        return
    torch.testing.assert_close(*results)
    for made in results:
        made.float().square().sum().backward()
    loose = {"rtol": 0.05, "atol": 0.01} if case == "autocast" else {"rtol": 1e-4, "atol": 1e-6}
    torch.testing.assert_close(given[0].grad, given[1].grad, **loose)
    if case == "a layer that learns":
        torch.testing.assert_close(plain.up_proj.weight.grad, fast.up_proj.weight.grad)


@pytest.mark.parametrize(("act", "replaced"), [("silu", 1), ("gelu", 0)])
def test_only_silu_is_the_gate(act, replaced):
    from loraforge_text.kernels import fast_blocks

    assert fast_blocks.replace(torch.nn.Sequential(gated_block(act=act)))["gated blocks"] == replaced
    own = gated_block()
    own.act_fn = torch.nn.SiLU()
    assert fast_blocks.replace(torch.nn.Sequential(own))["gated blocks"] == 1
    own = gated_block()
    del own.act_fn
    own.act_fn = torch.nn.functional.silu  # a function, whose code is not looked at
    assert fast_blocks.replace(torch.nn.Sequential(own))["gated blocks"] == 0


def test_a_norm_that_learns_is_left_alone():
    from loraforge_text.kernels import fast_blocks
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    model = torch.nn.ModuleList([LlamaRMSNorm(8).requires_grad_(learns) for learns in (True, False, False)])
    assert fast_blocks.replace(model)["norms"] == 2
    assert (
        type(model[0]) is LlamaRMSNorm
        and type(model[1]) is type(model[2]) is not LlamaRMSNorm
        and type(model[1]).__name__ == "FastLlamaRMSNorm"
    )
