# SPDX-License-Identifier: Apache-2.0
"""LoKr and LoHa in a WebUI's file: read by the readers' published rule, each layer does what the live one does."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from builders.webui_files import read
from loraforge_image.export.webui import WebuiExporter
from loraforge_image.families.webui_format import WebuiTable

from loraforge import RunConfig
from loraforge.adapters import lora

LAYERS = {
    "unet.down_blocks.0.attentions.0.proj_in": torch.nn.Conv2d(16, 24, 1),
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": torch.nn.Linear(24, 32),
    "unet.down_blocks.0.resnets.0.conv1": torch.nn.Conv2d(16, 24, 3, padding=1),
}
KINDS = {
    "lokr": {"lora_variant": "lokr"},
    "lokr-whole": {"lora_variant": "lokr", "lora_rank": 64},
    "lokr-both": {"lora_variant": "lokr", "lokr_factor": 4, "lokr_decompose_both": True, "lora_rank": 1},
    "loha": {"lora_variant": "loha"},
}


class Tree(torch.nn.Module):
    """Modules under dotted names."""

    def __init__(self, layers) -> None:
        super().__init__()
        for name, layer in layers.items():
            place = self
            *path, last = name.split(".")
            for part in path:
                if not hasattr(place, part):
                    place.add_module(part, torch.nn.Module())
                place = getattr(place, part)
            place.add_module(last, type(layer)(*sizes(layer)))


def sizes(layer):
    return (
        (layer.in_features, layer.out_features)
        if isinstance(layer, torch.nn.Linear)
        else (layer.in_channels, layer.out_channels, layer.kernel_size)
    )


@pytest.fixture
def live():
    """``live(kind)``: an adapter off live layers with weights that moved, and what each layer adds to its weight."""

    def make(kind, layers=LAYERS, facts=None, **values):
        torch.manual_seed(3)
        config = RunConfig(
            train_data_dir=".", base_model="b", **{"lora_rank": 2, "lora_alpha": 3, "lora_dropout": 0.0, **KINDS[kind], **values}
        )
        model = Tree(layers)
        attached = lora.inject(model, config, modules=dict.fromkeys(layers, config.lora_rank))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05 if parameter.requires_grad else 0)
        told = {"name": "neon", "family": "sd15", "config": {"save_precision": "fp32"}, "training": {}, **(facts or {})}
        return attached.adapter(None, told), {name: layer.get_delta_weight("default").detach().numpy() for name, layer in attached.layers()}

    return make


def as_readers_do(tensors, name, shape):
    """ComfyUI's and A1111's rule, in numpy: alpha counts only where a factor is the product of two matrices."""
    part = lambda end: tensors[f"{name}.{end}"].double().numpy() if f"{name}.{end}" in tensors else None  # noqa: E731
    if part("hada_w1_a") is not None:
        scale = part("alpha") / part("hada_w1_b").shape[0]
        return (scale * (part("hada_w1_a") @ part("hada_w1_b")) * (part("hada_w2_a") @ part("hada_w2_b"))).reshape(shape)
    scale, factors = 1.0, []
    for n in (1, 2):
        whole = part(f"lokr_w{n}")
        if whole is None:
            whole = part(f"lokr_w{n}_a") @ part(f"lokr_w{n}_b")
            scale = part("alpha") / part(f"lokr_w{n}_b").shape[0]
        factors.append(whole)
    first, second = factors
    first = first.reshape(*first.shape, *(1 for _ in second.shape[2:]))
    return (scale * np.kron(first, second)).reshape(shape)


@pytest.mark.parametrize("kind", list(KINDS))
def test_each_layer_read_as_readers_do_is_the_live_one(live, tmp_path, kind):
    adapter, deltas = live(kind)
    file = WebuiExporter().export(adapter, tmp_path)
    tensors = safetensors.torch.load_file(file)
    for module, delta in deltas.items():
        name = "lora_" + module.replace(".", "_")
        np.testing.assert_allclose(as_readers_do(tensors, name, delta.shape), delta, atol=1e-6, rtol=1e-4)
        assert tensors[f"{name}.alpha"].shape == ()  # LyCORIS' own loader wants one everywhere
    assert len({key.partition(".")[0] for key in tensors}) == len(deltas)
    header, _, _ = read(file)
    said = header["__metadata__"]
    assert said["ss_network_module"] == "lycoris.kohya" and json.loads(said["ss_network_args"])["algo"] == kind.partition("-")[0]


@pytest.mark.parametrize("kind", list(KINDS))
def test_sixteen_bits_keep_a_change_that_was_hardly_trained(live, tmp_path, kind):
    import dataclasses

    adapter, deltas = live(kind, facts={"config": {}})
    last = lambda name: name.endswith(("lokr_w2", "lokr_w2_b", "hada_w2_b"))  # noqa: E731
    faint = {name: tensor * 1e-4 if last(name) else tensor for name, tensor in adapter.tensors.items()}
    adapter = dataclasses.replace(adapter, tensors=faint, probes={})
    tensors = safetensors.torch.load_file(WebuiExporter().export(adapter, tmp_path))
    assert {value.dtype for name, value in tensors.items() if not name.endswith(".alpha")} == {torch.float16}
    for module, delta in deltas.items():
        got = as_readers_do(tensors, "lora_" + module.replace(".", "_"), delta.shape)
        assert np.linalg.norm(got - 1e-4 * delta) < 3e-3 * np.linalg.norm(1e-4 * delta), module


def test_layers_that_the_original_model_fuses_stand_under_diffusers_names(live, tmp_path):
    """Kronecker factors cannot be stacked: ComfyUI takes such a name for a part of its layer."""
    table = WebuiTable("flux-1-dev/lora", "flux1", plain={"a.{i}.proj": "a.{i}.to_out"}, fused={"a.{i}.qkv": ("a.{i}.to_q", "a.{i}.to_k")})
    layers = {f"transformer.a.0.{name}": torch.nn.Linear(16, 16) for name in ("to_q", "to_k", "to_out")}
    described = table.describe(Tree(layers), layers)
    adapter, deltas = live("lokr", layers, {"family": "mine", "image": {"webui": described}})
    tensors = safetensors.torch.load_file(WebuiExporter().export(adapter, tmp_path))
    assert {key.rpartition(".")[0] for key in tensors} == set(layers)
    for module, delta in deltas.items():
        np.testing.assert_allclose(as_readers_do(tensors, module, delta.shape), delta, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", ["lokr", "loha"])
@pytest.mark.parametrize("place", ["run", "run/adapter", "run/adapter/adapter_model.safetensors"])
def test_a_run_is_converted_wherever_it_is_named(live, tmp_path, kind, place):
    from loraforge_image.lora_tools.convert import convert

    adapter, deltas = live(kind, facts={"trigger_words": ["neon city"]})
    lora.write_peft(adapter, tmp_path / "run" / "adapter")
    made = convert(tmp_path / place, "webui")
    assert made.metadata["modelspec.trigger_phrase"] == "neon city"
    for module, delta in deltas.items():
        got = as_readers_do(
            {end: torch.as_tensor(value) for end, value in made.verbatim.items()}, "lora_" + module.replace(".", "_"), delta.shape
        )
        np.testing.assert_allclose(got, delta, atol=1e-6, rtol=1e-4)
