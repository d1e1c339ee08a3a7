# SPDX-License-Identifier: Apache-2.0
"""The fast U-Net against diffusers' own with peft's own LoRA."""

from __future__ import annotations

import pytest
from builders.fast_unet import torch


def unet_with_lora(family, tmp_path, fast, dora=False, convolutions=2):
    import peft
    from builders.tiny_images import make_sd
    from diffusers import UNet2DConditionModel
    from loraforge_image.families.stable_diffusion.targets import _unet_modules
    from loraforge_image.kernels import fast_unet

    from loraforge.kernels import frozen
    from loraforge.kernels import lora as lora_kernels
    from loraforge.kernels.lora import FastLoraConv2d, FastLoraLinear

    folder = tmp_path / family
    if not folder.is_dir():
        make_sd(folder, family)
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet").requires_grad_(False)
    modules = dict(_unet_modules(unet, 4, convolutions))
    torch.manual_seed(0)
    peft.inject_adapter_in_model(peft.LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=list(modules), use_dora=dora), unet)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in unet.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.05, generator=generator)
    kinds = []
    if fast:
        lora_kernels.replace(unet)
        plain = [type(module).__name__ for module in unet.modules()]
        wanted = sum(plain.count(kind) for kind in ("Attention", "GEGLU", "SiLU", "GroupNorm", "LayerNorm"))
        assert fast_unet.replace(unet) == wanted > 50 and frozen.replace(unet) > (1 if convolutions else 12)
        kinds = [type(module) for module in unet.modules()]
        assert kinds.count(FastLoraLinear) > 10 and (family != "sd15" or kinds.count(FastLoraConv2d) > 1)
    return unet.train()


def figures(unet, family):
    generator = torch.Generator().manual_seed(1)
    extra = {}
    if family == "sdxl":
        extra = {"added_cond_kwargs": {"text_embeds": torch.randn(2, 16, generator=generator), "time_ids": torch.ones(2, 6)}}
    noisy = torch.randn(2, 4, 8, 16, generator=generator)
    context = torch.randn(2, 77, unet.config.cross_attention_dim, generator=generator)
    out = unet(noisy, torch.tensor([20, 700]), context, **extra).sample
    out.square().mean().backward()
    return out.detach(), {name: p.grad for name, p in unet.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
@pytest.mark.parametrize(("dora", "convolutions"), [(False, 2), (True, 2), (False, None)])
def test_prediction_and_gradients_are_those_of_the_plain_network(family, dora, convolutions, tmp_path):
    (out, grads), (fast_out, fast_grads) = (
        figures(unet_with_lora(family, tmp_path, fast, dora, convolutions), family) for fast in (False, True)
    )
    torch.testing.assert_close(out, fast_out, rtol=1e-4, atol=1e-5)
    assert grads.keys() == fast_grads.keys() and len(grads) > 50
    for name, grad in grads.items():
        torch.testing.assert_close(grad, fast_grads[name], rtol=2e-3, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("widened", [True, False])  # as on AMD's and on Intel's processors
@pytest.mark.parametrize("width", [10, 16, 40])
def test_widened_heads_are_the_same_attention(width, widened, monkeypatch):
    from diffusers.models.attention_processor import Attention
    from loraforge_image.kernels.fast_unet import FastAttention, _widened

    from loraforge.kernels import frozen

    monkeypatch.setattr(frozen, "onednn_is_faster", lambda: widened)
    assert _widened(torch.zeros(2, 3, 9, width)).shape[-1] == (-(-width // 16) * 16 if widened else width)
    torch.manual_seed(0)
    attn = Attention(query_dim=3 * width, heads=3, dim_head=width, cross_attention_dim=12)
    hidden, context = torch.randn(2, 9, 3 * width), torch.randn(2, 5, 12)
    wanted = attn(hidden, context)
    attn.set_processor(FastAttention())
    torch.testing.assert_close(attn(hidden, context), wanted, rtol=1e-5, atol=1e-6)


def test_gates_have_the_right_gradient():
    from loraforge_image.kernels.fast_unet import _Gate

    x = torch.randn(2, 3, 8, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(_Gate.apply, (x,))


ODD = [
    {"qk_norm": "layer_norm"}, {"norm_num_groups": 4}, {"spatial_norm_dim": 4, "query_dim": 32}, {"cross_attention_norm": "layer_norm"},
    {"residual_connection": True}, {"rescale_output_factor": 2.0}, {"rescale_output_factor": 0.5}, {"fused": True}, {"other": True},
]  # fmt: skip


@pytest.mark.parametrize("odd", [{}, *ODD], ids=str)
def test_attention_with_parts_of_its_own_is_left_alone(odd):
    from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
    from loraforge_image.kernels import fast_unet

    settings = {name: value for name, value in odd.items() if name not in ("fused", "other")}
    processor = AttnProcessor() if "other" in odd else AttnProcessor2_0()
    attn = Attention(**{"query_dim": 16, "heads": 2, "dim_head": 8, "processor": processor, **settings})
    if "fused" in odd:
        attn.fuse_projections()
    fast_unet.replace(torch.nn.Sequential(attn))  # norms inside of it learn
    assert (attn.processor is processor) is bool(odd)


def test_gates_that_compute_elsewhere_and_norms_that_learn_are_left_alone():
    from diffusers.models.activations import GEGLU
    from loraforge_image.kernels import fast_unet

    def replaced(*modules):
        return fast_unet.replace(torch.nn.Sequential(*modules))

    norm, group = torch.nn.LayerNorm(4), torch.nn.GroupNorm(2, 4)
    assert replaced(norm, group, GEGLU(4, 4).to("meta"), type("Own", (torch.nn.LayerNorm,), {})(4).requires_grad_(False)) == 0
    assert replaced(torch.nn.SiLU(), norm.requires_grad_(False), group.requires_grad_(False), GEGLU(4, 4)) == 4


def test_where_autocast_chooses_the_types_a_norms_result_is_kept():
    from loraforge_image.kernels import fast_unet

    from loraforge.kernels import frozen

    norm = torch.nn.Sequential(torch.nn.LayerNorm(4).requires_grad_(False))
    fast_unet.replace(norm)
    x = torch.randn(2, 4, requires_grad=True)
    assert frozen.to_keep(norm(x))[0] is not None
    with torch.autocast("cpu", torch.bfloat16):  # the backward pass, which would make it again, is outside
        assert frozen.to_keep(norm(x))[0] is None


def test_convolutions_keep_no_input_and_norms_and_activations_no_result(tmp_path, monkeypatch):
    from loraforge.kernels import frozen

    def kept(convolutions, again):
        found = {}

        def pack(tensor):
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
            return tensor

        unet = unet_with_lora("sd15", tmp_path, True, convolutions=None)
        for module in unet.modules():
            if isinstance(module, frozen.FrozenConv2d) and not convolutions:
                module.__class__ = torch.nn.Conv2d
        if not again:
            monkeypatch.setattr(frozen, "recompute", lambda made, *others: made)
        own = {p.untyped_storage().data_ptr() for p in unet.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            made = unet(torch.randn(2, 4, 32, 32), torch.tensor([20, 700]), torch.randn(2, 77, unet.config.cross_attention_dim)).sample
        size = sum(storage.nbytes() for place, storage in found.items() if place not in own)
        del made
        return size

    both, without_convolutions, without_both = kept(True, True), kept(False, True), kept(False, False)
    assert both < 0.95 * without_convolutions and without_convolutions < 0.98 * without_both
