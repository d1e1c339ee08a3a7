# SPDX-License-Identifier: Apache-2.0
"""The faster LoRA layer does what peft's own does: values, gradients, and where it must step aside."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")


def layers(dtype=torch.float32, bias=True, **config):
    """(peft's layer, the same one made fast), with a trained-looking B."""
    import peft

    from loraforge.kernels.lora import FastLoraLinear, replace

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(12, 20, bias=bias)).to(dtype).requires_grad_(False)
    settings = {"r": 3, "lora_alpha": 7, "lora_dropout": 0.0, "target_modules": ["0"], **config}
    peft.inject_adapter_in_model(peft.LoraConfig(**settings), model)
    model[0].lora_B["default"].weight.data.normal_()
    for parameter in model[0].parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # as ``attach`` does it
    other = copy.deepcopy(model)
    replace(other[0])
    assert type(other[0]) is FastLoraLinear
    return model[0], other[0]


def outcome(layer, x, frozen_input=False):
    x = x.clone().requires_grad_(not frozen_input)
    out = layer(x)
    out.square().sum().backward()
    return [out.detach(), *([] if frozen_input else [x.grad]), layer.lora_A["default"].weight.grad, layer.lora_B["default"].weight.grad]


@pytest.mark.parametrize("config", [{}, {"use_rslora": True}, {"bias": False}], ids=str)
@pytest.mark.parametrize("frozen_input", [False, True])
def test_values_and_gradients_are_those_of_peft(config, frozen_input):
    one, two = layers(**config)
    x = torch.randn(2, 5, 12)
    for a, b in zip(outcome(one, x, frozen_input), outcome(two, x, frozen_input), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_the_narrow_products_too_go_to_the_faster_library_and_are_the_same(dropout, monkeypatch):
    from loraforge.kernels import frozen

    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch has no oneDNN")
    made, seen, plain = [], [], frozen._by_onednn
    monkeypatch.setattr(frozen, "_WORTH", 0)
    monkeypatch.setattr(frozen, "_by_onednn", lambda x, weight, bias: seen.append(weight.shape) or plain(x, weight, bias))
    x = torch.randn(2, 5, 12)
    for faster in (False, True):
        monkeypatch.setattr(frozen, "onednn_is_faster", lambda faster=faster: faster)
        layer = layers(lora_dropout=dropout)[1]
        torch.manual_seed(1)
        made.append(outcome(layer, x))
        # The base forward and back; A x, and the gradients of A, of B and of what lies between them; with dropout also that of its input.
        assert len(seen) == faster * (7 if dropout else 6)
    for a, b in zip(*made, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_half_precision_bases_are_the_same_to_their_precision():
    one, two = layers(torch.bfloat16)
    x = torch.randn(2, 5, 12)
    with torch.autocast("cpu", torch.bfloat16):
        a, b = outcome(one, x.bfloat16()), outcome(two, x.bfloat16())
    assert [t.dtype for t in a] == [t.dtype for t in b] and b[-1].dtype == torch.float32
    for left, right in zip(a, b, strict=True):
        torch.testing.assert_close(left.float(), right.float(), rtol=0.05, atol=0.2)


def test_dropout_drops_the_adapters_input_only_and_the_gradient_follows_the_same_mask():
    _, layer = layers(lora_dropout=0.4)
    x = torch.randn(64, 12)
    base = layer.base_layer(x)
    mean = torch.stack([layer(x) - base for _ in range(600)]).mean(0).detach()
    layer.eval()
    wanted = (layer(x) - base).detach()
    assert (mean - wanted).norm() < 0.1 * wanted.norm(), "on average nothing is lost"
    layer.train()

    def run(x):
        torch.manual_seed(3)
        return layer(x)

    assert run(x).equal(run(x)) and not run(x).equal(layer(x))
    double = copy.deepcopy(layer).double()
    torch.manual_seed(1)

    def fixed(x):
        torch.manual_seed(5)
        return double(x)

    assert torch.autograd.gradcheck(fixed, (x[:4].double().requires_grad_(),))


def test_of_dropout_a_bit_for_each_number_is_kept():
    _, layer = layers(lora_dropout=0.4)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        layer(torch.randn(64, 12))
    assert [tensor.numel() for tensor in kept if tensor.dtype == torch.uint8] == [64 * 12 // 8]


@pytest.mark.parametrize("change", ["disabled", "merged", "dora", "two", "trained base"])
def test_what_is_not_plain_goes_pefts_way(change):
    import peft

    one, two = layers(use_dora=change == "dora")
    for layer in (one, two):
        if change == "disabled":
            layer.enable_adapters(False)
        if change == "merged":
            layer.merge()
        if change == "two":
            layer.update_layer("more", r=2, lora_alpha=4, init_lora_weights=False, config=peft.LoraConfig(r=2))
            torch.manual_seed(2)
            for part in (layer.lora_A, layer.lora_B):
                part["more"].weight.data.normal_()
            layer.set_adapter(["default", "more"])
        if change == "trained base":
            layer.base_layer.weight.requires_grad_(True)
    x = torch.randn(3, 12)
    torch.testing.assert_close(one(x), two(x), rtol=1e-5, atol=1e-5)
    if change == "trained base":
        two(x).sum().backward()
        assert two.base_layer.weight.grad is not None
    assert two._plain() is None


def test_an_adapted_model_is_fast_and_keeps_its_names():
    from loraforge import RunConfig
    from loraforge.adapters import lora
    from loraforge.kernels.lora import FastLoraLinear

    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    attached = lora.inject(model, RunConfig(train_data_dir=".", base_model="x"), modules={"0": 16, "2": 16})
    assert all(type(layer) is FastLoraLinear for _, layer in attached.layers()) and [name for name, _ in attached.layers()] == ["0", "2"]
    assert sorted(attached.adapter().tensors) == [f"{n}.lora_{x}.weight" for n in "02" for x in "AB"]


# --- by hand -------------------------------------------------------------------------------------------------------------------


def channels(**config):
    """(peft's layer on a 1x1 convolution, the same one made fast)."""
    import peft

    from loraforge.kernels.lora import FastLoraConv2d, replace

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(6, 5, 1, bias=config.pop("bias", True))).requires_grad_(False)
    peft.inject_adapter_in_model(
        peft.LoraConfig(**{"r": 3, "lora_alpha": 7, "lora_dropout": 0.0, "target_modules": ["0"], **config}), model
    )
    model[0].lora_B["default"].weight.data.normal_()
    other = copy.deepcopy(model)
    assert replace(other) == 1 and type(other[0]) is FastLoraConv2d
    return model[0], other[0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frozen_input", [False, True])
def test_a_pointwise_convolution_is_pefts_too(bias, frozen_input):
    one, two = channels(bias=bias)
    x = torch.randn(2, 6, 4, 3)
    for a, b in zip(outcome(one, x, frozen_input), outcome(two, x, frozen_input), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_convolution_with_dropout_drops_in_training_only():
    _, layer = channels(lora_dropout=0.5)
    assert layer._plain() is None and layer.eval()._plain() == "default" and channels()[1].train()._plain() == "default"


@pytest.mark.parametrize(
    ("settings", "fast"),
    [({"kernel_size": 1}, True), ({"kernel_size": 3}, False), ({"kernel_size": 1, "stride": 2}, False), ({"kernel_size": 1, "padding": 1}, False),
     ({"kernel_size": 1, "groups": 2}, False), ({"kernel_size": 1, "dilation": 2}, False)],
)  # fmt: skip
def test_only_convolutions_that_are_linear_layers_on_channels(settings, fast):
    from loraforge.kernels.lora import _is_pointwise

    assert _is_pointwise(torch.nn.Conv2d(4, 4, **settings)) is fast


def test_who_has_another_forward_pass_keeps_it():
    import peft

    from loraforge.kernels.lora import replace

    model = torch.nn.ModuleList([torch.nn.Linear(4, 4), torch.nn.Linear(4, 4), torch.nn.Embedding(4, 4), torch.nn.Conv2d(4, 4, 3)])
    peft.inject_adapter_in_model(peft.LoraConfig(target_modules=["0", "1", "2", "3"]), model)
    model[0].forward = lambda x: x
    kinds = [type(layer) for layer in model]
    assert replace(model) == 1 and [type(layer) is kind for layer, kind in zip(model, kinds, strict=True)] == [True, False, True, True]
    assert replace(model) == 0, "once"


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5, 0.9])
def test_the_mask_keeps_the_share_that_it_says(share, monkeypatch):
    from loraforge.kernels.lora import _mask

    torch.manual_seed(0)
    mask, kept = _mask(torch.zeros(400, 1001), share)
    assert mask.shape == (400, 1001) and mask.dtype == torch.uint8 and set(mask.unique().tolist()) == {0, 1}
    assert kept == pytest.approx(1 - share, abs=2**-17) and float(mask.float().mean()) == pytest.approx(kept, abs=0.003)
    again, _ = _mask(torch.zeros(400, 1001), share)
    assert not again.equal(mask), "each call draws anew"
    torch.manual_seed(0)
    assert _mask(torch.zeros(400, 1001), share)[0].equal(mask), "and follows torch's seed"
    asked = []
    monkeypatch.setattr(torch.Tensor, "bernoulli_", lambda self, kept: asked.append(kept) or self)
    elsewhere, kept = _mask(torch.zeros(2, 3, device="meta"), share)  # another device draws for itself
    assert [kept] == asked == [1 - share] and elsewhere.shape == (2, 3) and elsewhere.dtype == torch.uint8
    # Neighbours and rows are independent of each other: four decisions come out of one number.
    centred = mask.double() - mask.double().mean()
    for apart in (1, 2, 3, 4, 1001):
        flat = centred.flatten()
        assert abs(float((flat[:-apart] * flat[apart:]).mean() / centred.var())) < 0.01


@pytest.mark.parametrize("count", [1, 7, 8, 9, 64])
def test_a_mask_is_packed_into_bits_and_back(count):
    from loraforge.kernels.lora import _packed, _unpacked

    mask = (torch.arange(count) % 3 == 0).to(torch.uint8).view(1, count)
    x = torch.zeros(1, count, dtype=torch.bfloat16)
    packed = _packed(mask)
    assert packed.numel() == -(-count // 8) and _unpacked(packed, x).equal(mask.to(torch.bfloat16))


def test_dropout_by_hand():
    """x W' + bias + scale / kept * (mask * x) A' B', and its gradients by torch's own differentiation of that."""
    from loraforge.kernels.lora import _mask

    _, layer = layers(lora_dropout=0.4)
    x = torch.randn(5, 12, requires_grad=True)
    torch.manual_seed(9)
    mask, kept = _mask(x.detach(), 0.4)
    torch.manual_seed(9)
    got = outcome(layer, x.detach())
    a, b = (part["default"].weight.detach().requires_grad_() for part in (layer.lora_A, layer.lora_B))
    made = torch.nn.functional.linear(x, layer.base_layer.weight, layer.base_layer.bias) + 7 / 3 / kept * (mask * x) @ a.T @ b.T
    made.square().sum().backward()
    for mine, wanted in zip(got, (made.detach(), x.grad, a.grad, b.grad), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-4)


def test_what_was_made_of_something_kept_is_made_again_for_the_gradient():
    from loraforge.kernels import frozen

    for make_layers, shape in ((layers, (3, 12)), (channels, (2, 6, 3, 3))):
        one, two = make_layers()
        source = torch.randn(*shape)
        plain = (source * 2).requires_grad_()
        wanted = outcome(one, plain.detach())
        made = []

        def double(x, made=made):
            made.append(1)
            return x * 2

        x = source.clone().requires_grad_()
        given = frozen.recompute(double(x), double, x)
        two(given).square().sum().backward()
        assert len(made) == 2
        torch.testing.assert_close(x.grad, 2 * wanted[1], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(two.lora_A["default"].weight.grad, wanted[2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("reason", ["arguments", "lora bias", "no adapter of its own"])
def test_further_cases_that_go_pefts_way(reason):
    one, two = layers(lora_bias=reason == "lora bias")
    x = torch.randn(3, 12)
    if reason == "lora bias":
        assert two._plain() is None
    if reason == "no adapter of its own":
        for layer in (one, two):
            layer._active_adapter = ["unknown"]
        assert two._plain() is None
    if reason == "arguments":
        names = ["__base__", "default", "__base__"]
        torch.testing.assert_close(one.eval()(x, adapter_names=names), two.eval()(x, adapter_names=names))
    torch.testing.assert_close(one(x), two(x))


@pytest.mark.parametrize("make_layers", [layers, channels])
def test_autocast_brings_the_input_into_its_type_first(monkeypatch, make_layers):
    from loraforge.kernels import lora

    applied = []
    for name in ("_LoraLinear", "_LoraChannels"):
        real = getattr(lora, name).apply
        monkeypatch.setattr(getattr(lora, name), "apply", lambda x, *more, real=real: applied.append(x.dtype) or real(x, *more))
    one, two = (layer.to(torch.bfloat16) for layer in make_layers())
    x = torch.randn(3, 12) if make_layers is layers else torch.randn(2, 6, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(two(x), one(x), rtol=0.05, atol=0.1)
    assert applied == [torch.bfloat16]
    two(x.bfloat16())
    assert applied == [torch.bfloat16] * 2
    two.enable_adapters(False)
    with torch.autocast("cpu", torch.bfloat16):
        two(x)
    assert len(applied) == 2


@pytest.mark.parametrize(("numbers", "drawn"), [(1, 1), (4, 1), (5, 2), (8, 2), (1000, 250)])
def test_one_number_is_drawn_for_four_decisions(monkeypatch, numbers, drawn):
    import numpy

    from loraforge.kernels.lora import _mask

    sizes = []
    real = numpy.random.Generator

    class Spy:
        def __init__(self, bits):
            self.real = real(bits)

        def integers(self, low, high, size, **more):
            sizes.append((low, high, size, more))
            return self.real.integers(low, high, size, **more)

    monkeypatch.setattr(numpy.random, "Generator", Spy)
    assert _mask(torch.zeros(numbers), 0.5)[0].shape == (numbers,)
    assert sizes == [(-(2**63), 2**63 - 1, drawn, {"endpoint": True})]
