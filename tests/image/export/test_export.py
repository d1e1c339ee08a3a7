# SPDX-License-Identifier: Apache-2.0
"""The files that runs of transformers export: names by the table, and diffusers' own loaders do what was trained."""

from __future__ import annotations

import pytest
import torch
from builders.transformer_loras import BLOCKS, CLASSES, FAMILIES, changes, delta, lora_of, read_by_diffusers, tiny
from builders.webui_files import read
from loraforge_image.export.diffusers import DiffusersExporter
from loraforge_image.export.webui import WebuiExporter
from loraforge_image.lora_files.tables import TABLES
from safetensors.torch import load_file

from loraforge import Adapter, ExportError


@pytest.fixture(scope="module")
def networks():
    return {family: tiny(family) for family in FAMILIES}


def adapter_of(family, network, chosen=BLOCKS):
    """An adapter of rank 4 and alpha 2 as a run leaves it, and what it does by module."""
    from loraforge.adapters import lora

    pairs = {name: (down, up / 100, 2.0) for name, (down, up, _) in lora_of(network, chosen, rank=4, mixed=False).items()}
    tensors, probes = {}, {}
    for name, (down, up, _) in pairs.items():
        tensors |= {f"transformer.{name}.lora_A.weight": down, f"transformer.{name}.lora_B.weight": up}
        probes[f"transformer.{name}"] = lora.probe(f"transformer.{name}", 0.5 * up @ down)
    table = TABLES[family]
    described = table.describe(torch.nn.ModuleDict({"transformer": network}), [f"transformer.{name}" for name in pairs])
    facts = {"name": "neon", "family": family, "config": {"save_precision": "fp32"}, "prediction_type": "flow", "training": {"steps": 1, "examples": 1},
             "image": {"pipeline": CLASSES[family][1], "webui": described}}  # fmt: skip
    return Adapter(tensors, 4, 2, ("x",), probes, "tiny", facts=facts), pairs


def same(found, pairs):
    assert found.keys() == pairs.keys()
    for name, pair in pairs.items():
        assert torch.allclose(found[name], delta(pair), atol=1e-5), name


@pytest.mark.parametrize("family", FAMILIES)
def test_webui_has_the_original_layers_with_the_parts_in_blocks(family, networks, tmp_path):
    network, table = networks[family], TABLES[family]
    adapter, pairs = adapter_of(family, network)
    file = WebuiExporter().export(adapter, tmp_path)
    tensors = load_file(file)
    layers = {table.find(name).original for name in pairs}
    assert {name.split(".")[0] for name in tensors} == {"lora_unet_" + layer.replace(".", "_") for layer in layers}
    for layer in layers:
        flat = "lora_unet_" + layer.replace(".", "_")
        parts = table.find(layer).parts
        assert tensors[f"{flat}.lora_down.weight"].shape[0] == 4 * len(parts)
        assert float(tensors[f"{flat}.alpha"]) == (4 * len(parts) if len(parts) > 1 else 2)
    same(changes(file, table, network), pairs)
    values = read(file)[0]["__metadata__"]
    assert values["modelspec.architecture"] == table.architecture and values["ss_base_model_version"] == table.base_version
    if family != "sd3":
        same(read_by_diffusers(family, file), pairs)


@pytest.mark.parametrize("family", FAMILIES)
def test_diffusers_has_its_own_names_with_the_scale_in_b(family, networks, tmp_path):
    adapter, pairs = adapter_of(family, networks[family])
    file = DiffusersExporter().export(adapter, tmp_path)
    tensors = load_file(file)
    assert {n.removesuffix(".lora_A.weight") for n in tensors if "lora_A" in n} == {f"transformer.{n}" for n in pairs} and len(
        tensors
    ) == 2 * len(pairs)
    same(read_by_diffusers(family, file), pairs)


@pytest.mark.parametrize("family", ["flux1", "z-image", "sd3"])
def test_parts_without_a_lora_are_rows_of_zeros(family, networks, tmp_path):
    adapter, pairs = adapter_of(family, networks[family], r"(attn|attention)\.to_v$")
    file = WebuiExporter().export(adapter, tmp_path)
    same(changes(file, TABLES[family], networks[family]), pairs)
    assert all(t.shape[0] == 4 for n, t in load_file(file).items() if "down" in n)


def test_layers_outside_of_the_blocks_are_refused(networks, tmp_path):
    adapter, _ = adapter_of("flux1", networks["flux1"], r"^(x_embedder|transformer_blocks\.0\.attn\.to_q)$")
    with pytest.raises(ExportError, match=r"would not read these modules.*x_embedder"):
        WebuiExporter().export(adapter, tmp_path)
