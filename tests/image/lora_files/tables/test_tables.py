# SPDX-License-Identifier: Apache-2.0
"""The tables against diffusers: its converters of the original checkpoints, and its transformers."""

from __future__ import annotations

import re

import pytest
import torch
from builders.transformer_loras import BLOCKS, FAMILIES, lora_of, sized, tiny
from diffusers.loaders import single_file_utils
from loraforge_image.lora_files.tables import TABLES

CONVERTERS = {
    "z-image": "convert_z_image_transformer_checkpoint_to_diffusers",
    "flux2": "convert_flux2_transformer_checkpoint_to_diffusers",
    "flux1": "convert_flux_transformer_checkpoint_to_diffusers",
    "chroma": "convert_chroma_transformer_checkpoint_to_diffusers",
    "sd3": "convert_sd3_transformer_checkpoint_to_diffusers",
}
# Blocks of the published models -> the modules and the file's layers that are trained by default: attention and feed-forward.
COUNTS = {
    "z-image": ({"layers": 30}, r"^layers\.\d+\.(attention|feed_forward)\.", 210, 150),
    "flux1": ({"transformer_blocks": 19, "single_transformer_blocks": 38}, r"\.(attn|ff|ff_context|proj_mlp|proj_out)(\.|$)", 418, 228),
    "chroma": ({"transformer_blocks": 19, "single_transformer_blocks": 38}, r"\.(attn|ff|ff_context|proj_mlp|proj_out)(\.|$)", 418, 228),
    "flux2": ({"transformer_blocks": 5, "single_transformer_blocks": 20}, r"\.(attn|ff|ff_context)\.", 100, 80),
    "qwen-image": ({"transformer_blocks": 60}, r"\.(attn|img_mlp|txt_mlp)\.", 720, 720),
}


class Missing(dict):
    """A checkpoint with something for every name that is not in the table: norms, biases, embeddings of places."""

    def pop(self, key, *default):
        # What is cut has a length that can be: 3 * 16 + 64 rows, or parts of 2 and 3.
        return super().pop(key) if key in self else torch.zeros(112 if "linear1" in key else 42, 1)


@pytest.fixture(scope="module")
def networks():
    return {family: tiny(family) for family in FAMILIES}


def everything(table):
    return {**{o: (d,) for some in (table.plain, table.outside, table.halves) for o, d in some.items()}, **table.fused}


@pytest.mark.parametrize("family", CONVERTERS)
def test_every_row_of_an_original_layer_lands_where_the_table_says(family, networks):
    """Each layer of the original model with the number of its row in every row: diffusers' converter deals them out."""
    table, network = TABLES[family], networks[family]
    names = [name for name, module in network.named_modules() if isinstance(module, torch.nn.Linear) and table.find(name)]
    original, wanted = Missing(), {}
    for number, name in enumerate(names):
        layer = table.find(name)
        if f"{layer.original}.weight" in original:
            continue
        rows = [network.get_submodule(part).out_features for part in layer.parts]
        values = 1000.0 * number + torch.arange(sum(rows), dtype=torch.float64)[:, None]
        original[f"{layer.original}.weight"] = values
        turn = layer.halves and sum(rows) == 2 * network.get_submodule(layer.parts[0]).in_features
        dealt = torch.cat(values.chunk(2)[::-1]) if turn else values
        wanted |= dict(zip(layer.parts, dealt.split(rows), strict=True))
    if family == "sd3":  # what the converter counts
        original |= {f"joint_blocks.{i}.{half}.attn.ln_q.weight": torch.zeros(1) for i in range(2) for half in ("x_block", "context_block")}
        original |= {"joint_blocks.0.x_block.attn2.ln_q.weight": torch.zeros(1), "y_embedder.mlp.2.bias": torch.zeros(1)}
    found = sized(getattr(single_file_utils, CONVERTERS[family]), {3072: 16})(original)
    assert len(wanted) == len(names) > 20
    for name, values in wanted.items():
        assert torch.equal(found[f"{name}.weight"].double(), values), name


@pytest.mark.parametrize("family", FAMILIES)
def test_every_linear_layer_of_diffusers_has_a_name_and_the_blocks_are_told_from_the_rest(family, networks):
    table, network = TABLES[family], networks[family]
    for name, module in network.named_modules():
        if not isinstance(module, torch.nn.Linear):
            continue
        layer = table.find(name)
        assert layer is not None and name in layer.parts, name
        assert layer == table.find(name.replace(".", "_")), "dots and underscores are one"
        whole = table.find(layer.original)
        assert (
            whole.parts == layer.parts
            and whole.part is None
            and layer.outside == (not re.match(r"(single_)?transformer_blocks\.|layers\.|\w+_refiner\.", name))
        )
        sizes = [network.get_submodule(part).out_features for part in layer.parts]
        assert len({size / share for size, share in zip(sizes, layer.shares, strict=True)}) == 1, "rows are shared out as the table says"
    exported = [f"transformer.{name}" for name in lora_of(network, BLOCKS)]
    assert not table.strange(exported) and table.strange([f"transformer.{name}" for name in table.outside.values() if "{i}" not in name])


@pytest.mark.parametrize("family", COUNTS)
def test_the_published_models_have_as_many_layers_as_are_known_of_them(family, networks):
    blocks, chosen, modules, layers = COUNTS[family]
    table = TABLES[family]
    names = [
        d.replace("{i}", str(i))
        for parts in everything(table).values()
        for d in parts
        for i in range(blocks.get(d.split(".")[0], 0))
        if "{i}" in d
    ]
    trained = [name for name in names if re.search(chosen, name)]
    assert len(trained) == modules and len(table.layers(f"transformer.{name}" for name in trained)) == layers


def test_what_is_no_layer_has_no_name():
    for table in TABLES.values():
        for name in ("", "double_blocks", "transformer_blocks.0", "single_blocks.x.linear1", "a.double_blocks.0.img_attn.qkv"):
            assert table.find(name) is None
