# SPDX-License-Identifier: Apache-2.0
"""Products with weights that do not learn give the same by either library, and the right gradients."""

from __future__ import annotations

import os

import pytest

torch = pytest.importorskip("torch")


@pytest.fixture(params=[False, True], ids=["mkl", "onednn"])
def library(request, monkeypatch):
    from loraforge.kernels import frozen

    if request.param and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(frozen, "onednn_is_faster", lambda: request.param)
    monkeypatch.setattr(frozen, "_WORTH", 0)
    return request.param


@pytest.mark.parametrize("bias", [False, True])
def test_a_frozen_layer_is_the_plain_layer(library, bias):
    from loraforge.kernels import frozen

    torch.manual_seed(0)
    plain = torch.nn.Linear(24, 40, bias=bias).requires_grad_(False)
    fast = torch.nn.Sequential(torch.nn.Linear(24, 40, bias=bias).requires_grad_(False))
    fast[0].load_state_dict(plain.state_dict())
    learning = torch.nn.Linear(8, 8)
    assert frozen.replace(torch.nn.ModuleList([fast, learning])) == int(library)
    assert type(learning) is torch.nn.Linear and isinstance(fast[0], torch.nn.Linear)
    given = [torch.randn(3, 7, 24, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2)]
    one, two = plain(given[0]), fast(given[1])
    torch.testing.assert_close(one, two)
    one.square().sum().backward()
    two.square().sum().backward()
    torch.testing.assert_close(given[0].grad, given[1].grad, rtol=1e-5, atol=1e-5)


def test_products_and_gradients_of_every_kind(library):
    from loraforge.kernels import frozen

    x, weight, grad = torch.randn(33, 20), torch.randn(17, 20), torch.randn(33, 17)
    torch.testing.assert_close(frozen.product(x, weight), x @ weight.t(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(frozen.gradient(grad, weight), grad @ weight, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(frozen.product(x.double(), weight.double()), x.double() @ weight.double().t())
    made = frozen.product(x.bfloat16(), weight.bfloat16())
    assert made.dtype == torch.bfloat16


def test_an_adapted_layer_is_left_to_its_adapter(library):
    from peft import LoraConfig, get_peft_model

    from loraforge.kernels import frozen

    model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)), LoraConfig(target_modules=["0"]))
    assert frozen.replace(model) == int(library)
    assert type(model.base_model.model[0].base_layer) is torch.nn.Linear


def test_the_number_of_kept_sizes_is_the_users_if_they_say_so(monkeypatch):
    from loraforge.kernels import frozen

    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    frozen.expect_many_sizes()
    assert os.environ["LRU_CACHE_CAPACITY"] == "7" and os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "16"
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY")


def test_any_layout_of_numbers_is_read_rightly(library):
    from loraforge.kernels import frozen

    weight = torch.randn(17, 20)
    wide, tall = torch.randn(33, 40)[:, ::2], torch.randn(20, 33).t()
    for x in (wide, tall, torch.randn(1, 20).expand(33, 20), torch.randn(33, 1).expand(33, 20)):
        torch.testing.assert_close(frozen.product(x, weight), x @ weight.t(), rtol=1e-5, atol=1e-5)
        grad = x[:, :17]
        torch.testing.assert_close(frozen.gradient(grad, weight), grad @ weight, rtol=1e-5, atol=1e-5)
    inner = torch.randn(17, 40)[:, ::2]  # a weight that is a part of another
    torch.testing.assert_close(frozen.product(wide, inner), wide @ inner.t(), rtol=1e-5, atol=1e-5)


def test_a_large_weight_is_multiplied_in_pieces(library, monkeypatch):
    from loraforge.kernels import frozen

    monkeypatch.setattr(frozen, "_PIECE", 60)
    seen = []
    plain = frozen._by_onednn
    monkeypatch.setattr(frozen, "_by_onednn", lambda x, weight, bias: seen.append(weight.numel()) or plain(x, weight, bias))
    x, weight, bias, grad = torch.randn(33, 20), torch.randn(17, 20), torch.randn(17), torch.randn(33, 17)
    torch.testing.assert_close(frozen.product(x, weight, bias), x @ weight.t() + bias, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(frozen.gradient(grad, weight), grad @ weight, rtol=1e-5, atol=1e-5)
    assert max(seen, default=0) <= 60 and len(seen) == 12 * library


def test_what_can_be_made_again_is_made_once_for_all_who_ask_and_not_where_it_was_changed():
    from loraforge.kernels import frozen

    made = []

    def double(x):
        made.append(1)
        return x * 2

    x = torch.ones(3)
    y = frozen.recompute(double(x), double, x)
    (first, needed), (second, _) = frozen.to_keep(y), frozen.to_keep(y)
    assert first is second and needed[0] is x
    assert first(x).equal(y) and second(x).equal(y) and len(made) == 2, "once at first, and once for both"
    assert first._made is None, "and then it is forgotten"
    y.add_(1)
    again, needed = frozen.to_keep(y)
    assert again is None and needed[0] is y
    with torch.inference_mode():
        z = frozen.recompute(double(x), double, x)
        assert frozen.to_keep(z) == (None, (z,))


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"padding": 1}, (9, 7)),
        ({"stride": 2, "padding": 1}, (9, 8)),
        ({"stride": (3, 2), "dilation": (1, 2)}, (11, 12)),
        ({"groups": 2, "bias": False}, (6, 6)),
        ({"padding": "same"}, (6, 5)),
        ({"padding": 1, "padding_mode": "circular"}, (6, 5)),
        ({"kernel_size": 1}, (6, 5)),
        ({"kernel_size": 1, "bias": False}, (1, 7)),
        ({"kernel_size": 1, "stride": 2}, (6, 5)),
        ({"kernel_size": 1, "groups": 2, "padding": 1}, (6, 5)),
    ],
    ids=str,
)
def test_a_frozen_convolution_is_the_plain_one_and_keeps_no_input(settings, size):
    from loraforge.kernels import frozen

    torch.manual_seed(0)
    settings = {"kernel_size": 3, **settings}
    plain = torch.nn.Conv2d(4, 6, **settings).requires_grad_(False)
    fast = torch.nn.Sequential(torch.nn.Conv2d(4, 6, **settings).requires_grad_(False))
    fast[0].load_state_dict(plain.state_dict())
    assert frozen.replace(fast) == 1
    given = [torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2)]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape) or tensor, lambda tensor: tensor):
        two = fast(given[1])
    one = plain(given[0])
    torch.testing.assert_close(one, two)
    one.square().sum().backward()
    two.square().sum().backward()
    torch.testing.assert_close(given[0].grad, given[1].grad, rtol=1e-5, atol=1e-5)
    usual = isinstance(settings.get("padding", 0), int) and "padding_mode" not in settings
    assert (given[1].shape not in kept) or not usual, "the input is not kept"


# --- limits --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("available", "has", "capability", "described", "faster"),
    [
        (True, True, "AVX512", "vendor_id : AuthenticAMD", True),
        (True, True, "AVX512", "vendor_id : GenuineIntel", False),
        (True, True, "AVX2", "vendor_id : AuthenticAMD", False),
        (False, True, "AVX512", "vendor_id : AuthenticAMD", False),
        (True, False, "AVX512", "vendor_id : AuthenticAMD", False),
    ],
)
def test_only_the_processor_decides_which_library_is_used(monkeypatch, available, has, capability, described, faster):
    from pathlib import Path
    from types import SimpleNamespace

    from loraforge.kernels import frozen

    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: available)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace(_linear_pointwise=1) if has else SimpleNamespace(), raising=False)
    monkeypatch.setattr(Path, "read_text", lambda self, **how: described)
    frozen.onednn_is_faster.cache_clear()
    assert frozen.onednn_is_faster() is faster

    def unreadable(self, **how):
        raise OSError

    monkeypatch.setattr(Path, "read_text", unreadable)
    monkeypatch.setattr(frozen.platform, "processor", lambda: described)
    frozen.onednn_is_faster.cache_clear()
    assert frozen.onednn_is_faster() is faster
    frozen.onednn_is_faster.cache_clear()


@pytest.mark.parametrize(
    ("rows", "size_out", "dtypes", "faster"),
    [(64, 64, ("float32", "float32"), True), (64, 63, ("float32", "float32"), False), (63, 64, ("float32", "float32"), False), (65, 64, ("float32", "float32"), True),
     (64, 64, ("float32", "float64"), False), (64, 64, ("bfloat16", "bfloat16"), False)],
)  # fmt: skip
def test_small_products_and_other_types_are_left_to_torch(monkeypatch, rows, size_out, dtypes, faster):
    """2**21 multiplications: 64 rows of 512 numbers, for 64 outputs."""
    from loraforge.kernels import frozen

    monkeypatch.setattr(frozen, "onednn_is_faster", lambda: True)
    x, weight = (torch.zeros(shape, dtype=getattr(torch, name)) for shape, name in zip(((rows, 512), (size_out, 512)), dtypes, strict=True))
    assert frozen._faster(x, weight, size_out) is faster
    assert frozen._faster(x.to("meta"), weight, size_out) is False
    monkeypatch.setattr(frozen, "onednn_is_faster", lambda: False)
    assert frozen._faster(x, weight, size_out) is False


@pytest.mark.parametrize(
    ("shape", "pieces"),
    [
        ((17, 20), [(0, 2), (2, 5), (5, 8), (8, 11), (11, 14), (14, 17)]),
        ((3, 20), [(0, 3)]),
        ((4, 20), [(0, 2), (2, 4)]),
        ((2, 500), [(0, 1), (1, 2)]),
    ],
)
def test_the_pieces_of_a_weight_are_about_of_one_size(monkeypatch, shape, pieces):
    """Sixty weights at most, but never less than one output."""
    from loraforge.kernels import frozen

    monkeypatch.setattr(frozen, "_PIECE", 60)
    assert [(some.start, some.stop) for some in frozen._pieces(torch.zeros(shape))] == pieces
    monkeypatch.undo()
    assert frozen._PIECE == 2**22 and frozen._WORTH == 2**21


def test_whoever_asks_last_lets_go_of_what_was_made():
    from loraforge.kernels import frozen

    made = []
    again = frozen.Recompute(lambda x: made.append(1) or x * 2)
    x = torch.ones(2)
    for _ in range(3):
        again.expect()
    first = again(x)
    assert again(x) is first and again._made is first and again(x) is first and again._made is None and len(made) == 1
    again.expect()
    assert again(x).equal(first) and len(made) == 2
    assert frozen.to_keep(x) == (None, (x,)), "of a plain tensor nothing is known"
    with torch.no_grad():
        assert not hasattr(frozen.recompute(torch.ones(2), lambda y: y, x), "loraforge_recompute")


@pytest.mark.parametrize("kind", ["plain", "learning", "bias learns", "integers", "other class", "embedding"])
def test_what_is_a_plain_layer(kind):
    from loraforge.kernels import frozen

    layer = torch.nn.Linear(4, 4).requires_grad_(False)
    if kind == "learning":
        layer.weight.requires_grad_(True)
    if kind == "bias learns":
        layer.bias.requires_grad_(True)
    if kind == "integers":
        layer.weight = torch.nn.Parameter(torch.zeros(4, 4, dtype=torch.int8), requires_grad=False)
    if kind == "other class":
        layer = type("Other", (torch.nn.Linear,), {})(4, 4).requires_grad_(False)
    if kind == "embedding":
        layer = torch.nn.Embedding(4, 4).requires_grad_(False)
    assert frozen.is_plain(layer) is (kind == "plain")


def test_a_frozen_layer_goes_torchs_way_where_it_is_not_plain(library):
    """Another type than the weights', autocast, weights that begin to learn."""
    from loraforge.kernels import frozen

    for module, x in (
        (torch.nn.Linear(6, 5), torch.randn(3, 6)),
        (torch.nn.Conv2d(4, 5, 1), torch.randn(2, 4, 3, 3)),
        (torch.nn.Conv2d(4, 5, 3), torch.randn(2, 4, 5, 5)),
    ):
        plain = module.requires_grad_(False)
        fast = torch.nn.Sequential(type(module)(*((6, 5) if x.dim() == 2 else (4, 5, module.kernel_size[0])))).requires_grad_(False)
        fast[0].load_state_dict(plain.state_dict())
        frozen.replace(fast)
        with torch.autocast("cpu", torch.bfloat16):
            assert fast(x).dtype == plain(x).dtype == torch.bfloat16
        with pytest.raises(RuntimeError):
            fast(x.double())
        fast[0].weight.requires_grad_(True)
        fast(x).sum().backward()
        assert fast[0].weight.grad is not None
        if x.dim() == 4:
            torch.testing.assert_close(fast(x[0]), plain(x[0]))


def test_nothing_is_computed_for_an_input_that_does_not_learn(monkeypatch):
    from loraforge.kernels import frozen

    monkeypatch.setattr(frozen, "gradient", lambda *given: pytest.fail("computed"))
    context = type("Context", (), {"saved_tensors": (torch.ones(2, 2),), "needs_input_grad": (False,)})()
    assert frozen._Product.backward(context, torch.ones(2, 2)) == (None, None, None)
    assert frozen._Convolution.backward(context, torch.ones(2, 2)) == (None, None, None, None)
    assert frozen._Pointwise.backward(context, torch.ones(2, 2)) == (None, None, None)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_a_frozen_layer_takes_any_number_of_dimensions_and_its_result_may_be_changed(library, lead):
    from loraforge.kernels.frozen import FrozenLinear

    layer = FrozenLinear(6, 5).requires_grad_(False)
    x = torch.randn(*lead, 6, requires_grad=True)
    out = layer(x)
    torch.testing.assert_close(out, torch.nn.functional.linear(x, layer.weight, layer.bias))
    out.clamp_(-1, 1).sum().backward()
    assert x.grad.shape == x.shape


def test_a_weight_of_two_pieces_is_never_multiplied_whole(monkeypatch):
    from loraforge.kernels import frozen

    seen = []
    monkeypatch.setattr(frozen, "_faster", lambda *given: True)
    monkeypatch.setattr(frozen, "_PIECE", 60)
    monkeypatch.setattr(
        frozen, "_by_onednn", lambda x, weight, bias: seen.append(weight.numel()) or torch.nn.functional.linear(x, weight, bias)
    )
    x, weight, bias = torch.randn(3, 20), torch.randn(6, 20), torch.randn(6)
    torch.testing.assert_close(frozen.product(x, weight, bias), x @ weight.T + bias)
    torch.testing.assert_close(frozen.gradient(x[:, :6], weight), x[:, :6] @ weight)
    assert seen == [60] * 4
    del seen[:]
    frozen.product(x, weight[:3])
    assert seen == [60]
