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
