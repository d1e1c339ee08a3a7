# SPDX-License-Identifier: Apache-2.0
"""inspect on LoRAs for transformers: what it says of diffusers is what diffusers' own loader does; ComfyUI's counts are those measured."""

from __future__ import annotations

import re

import pytest
import torch
from builders.transformer_loras import BLOCKS, FAMILIES, LAYOUTS, delta, fused, lora_of, read_by_diffusers, tiny, write
from loraforge_image.inspect.summary import summarise
from loraforge_image.lora_files.lora_file import read_lora
from loraforge_image.lora_files.tables import TABLES
from safetensors.torch import load_file, save_file

# ComfyUI's own code (February 2026) on files of these very models: modules read, of those in the blocks.
COMFYUI = {
    "kohya": {}, "diffusers": {}, "comfyui": {}, "comfyui with alpha": {}, "lycoris": {}, "onetrainer, dotted": {},
    "ai-toolkit": {"flux2": 0, "flux1": 0, "chroma": 0, "sd3": 0},
    "musubi": {"z-image": 11, "flux2": 0, "flux1": 0, "chroma": 0, "sd3": 0},
    "onetrainer": {"z-image": 0, "qwen-image": 0},
    "bare": {"sd3": 0},
    "bare, original": {"z-image": 11, "flux2": 0, "flux1": 0, "chroma": 0, "sd3": 0},
    "peft": {"z-image": 0, "flux2": 0, "flux1": 0, "chroma": 0, "qwen-image": 0},
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Every layout of every family: the file, the modules in it, what each does, and inspect's summary."""
    folder, made = tmp_path_factory.mktemp("files"), {}
    for family in FAMILIES:
        table, network = TABLES[family], tiny(family)
        lora = lora_of(network, BLOCKS)
        for layout, (_, original, _, _) in LAYOUTS.items():
            file = write(
                layout, table, lora, network, folder / f"{family}-{layout}.safetensors", {"modelspec.architecture": table.architecture}
            )
            modules = fused(table, lora, network) if original else lora
            made[family, layout] = (file, modules, lora, summarise(read_lora(file)))
    return made


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_diffusers_does_what_is_said_of_it(family, layout, files):
    file, modules, lora, summary = files[family, layout]
    assert summary["family"] == family and summary["modules"] == len(modules) and set(summary["parts"]) == {"transformer"}
    said = summary["readers"]["diffusers"]
    try:
        found = read_by_diffusers(family, file / "adapter_model.safetensors" if file.is_dir() else file)
    except Exception:
        assert said["verdict"] == "refuses" and said["modules"] == 0
        return
    table = TABLES[family]
    read = {table.find(name).original if LAYOUTS[layout][1] else name for name in found}
    assert said["modules"] == len(read)
    wrong = [name for name in found if not torch.allclose(found[name], delta(lora[name]), atol=1e-4)]
    assert (said["verdict"] == "wrong") == bool(wrong)


@pytest.mark.parametrize("layout", ["diffusers", "comfyui", "ai-toolkit", "bare", "bare, original", "peft"])
@pytest.mark.parametrize("family", FAMILIES)
def test_factors_with_the_adapters_name_are_what_diffusers_makes_of_them(family, layout, files, tmp_path):
    """DiffSynth's files; ComfyUI asks for the name with every layer, Forge with none."""
    source, modules, _, _ = files[family, layout]
    weights = load_file(source / "adapter_model.safetensors" if source.is_dir() else source)
    file = tmp_path / "a.safetensors"
    architecture = {"modelspec.architecture": TABLES[family].architecture}
    save_file({re.sub(r"(lora_[AB])\.", r"\1.default.", name): value for name, value in weights.items()}, file, architecture)
    readers = summarise(read_lora(file))["readers"]
    try:
        found = read_by_diffusers(family, file)
    except Exception:
        found = {}
    table = TABLES[family]
    read = {table.find(name).original if LAYOUTS[layout][1] else name for name in found}
    assert readers["diffusers"]["modules"] == len(read) and (readers["diffusers"]["verdict"] == "refuses") == (not read)
    assert readers["Forge"]["modules"] == 0 and readers["ComfyUI"]["modules"] == COMFYUI[layout].get(family, len(modules))


def test_a_control_lora_of_the_makers_is_not_called_unreadable(tmp_path):
    """Both programs look for these very tensors and convert the file."""
    tensors, _ = figures(["img_in", "double_blocks.0.img_attn.proj"], 3072, 3072, kind=("lora_A", "lora_B"))
    tensors |= {"img_in.lora_B.bias": torch.zeros(3072), "double_blocks.0.img_attn.proj.lora_B.bias": torch.zeros(3072)}
    tensors |= {f"single_blocks.{n}.norm.{which}_norm.scale": torch.ones(128) for n in range(9) for which in ("key", "query")}
    save_file(tensors, tmp_path / "a.safetensors")
    said = summarise(read_lora(tmp_path / "a.safetensors"))
    assert said["family"] == "flux1" and {name: one["verdict"] for name, one in said["readers"].items()} == {
        "A1111": "refuses", **dict.fromkeys(("Forge", "ComfyUI", "SD.Next", "kohya", "diffusers"), "unknown")
    }  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_comfyui_reads_as_many_modules_as_were_measured(family, layout, files):
    _, modules, _, summary = files[family, layout]
    said, wanted = summary["readers"]["ComfyUI"], COMFYUI[layout].get(family, len(modules))
    assert said["modules"] == wanted
    if wanted == 0:
        assert said["verdict"] == "refuses" and "no error says so" in said["findings"][0]["text"]


@pytest.mark.parametrize(
    ("family", "layout", "expected"),
    [
        ("flux1", "kohya", {"A1111": 0, "Forge": "all", "kohya": "all", "SD.Next": "all"}),
        ("flux1", "diffusers", {"A1111": 0, "Forge": "all", "kohya": None, "SD.Next": "all"}),
        ("flux1", "ai-toolkit", {"Forge": 0, "kohya": None, "SD.Next": None}),
        ("flux1", "onetrainer", {"Forge": "all", "kohya": 0}),
        ("chroma", "kohya", {"A1111": 0, "Forge": "all", "kohya": "all", "SD.Next": None}),
        ("chroma", "diffusers", {"Forge": 0}),
        ("sd3", "kohya", {"A1111": None, "Forge": "all", "kohya": "all", "SD.Next": "all"}),
        ("sd3", "diffusers", {"A1111": "all", "Forge": 0}),
        ("z-image", "kohya", {"A1111": 0, "Forge": 0, "kohya": 0, "SD.Next": None}),
        ("flux2", "diffusers", {"A1111": 0, "Forge": 0, "kohya": 0}),
        ("qwen-image", "kohya", {"A1111": 0, "Forge": 0, "kohya": 0}),
    ],
)
def test_the_other_programs(family, layout, expected, files):
    summary = files[family, layout][3]
    for reader, wanted in expected.items():
        assert summary["readers"][reader]["modules"] == (summary["modules"] if wanted == "all" else wanted), reader
    advised = any("an export in the WebUI format" in finding["text"] for finding in summary["readers"]["SD.Next"]["findings"])
    assert not (layout == "kohya" and advised), "it is one"


def test_the_text_names_the_model_the_naming_and_the_count(command, files, tmp_path):
    file = files["z-image", "musubi"][0]
    code, out, _ = command("inspect", file)
    assert code == 0 and "Z-Image" in out and "kohya, diffusers' names" in out and "loses modules: 11 of " in out
    code, out, _ = command("inspect", files["flux1", "peft"][0])
    assert code == 0 and "FLUX.1" in out and "peft" in out


def figures(names, rows, inputs, metadata=None, kind=("lora_down", "lora_up")):
    tensors = {}
    for name in names:
        tensors |= {f"{name}.{kind[0]}.weight": torch.zeros(1, inputs), f"{name}.{kind[1]}.weight": torch.zeros(rows, 1)}
    return tensors, metadata or {}


@pytest.mark.parametrize(
    ("names", "rows", "inputs", "metadata", "family"),
    [
        (["lora_unet_double_blocks_0_img_mlp_0"], 12288, 3072, {}, "flux1"),
        (["lora_unet_double_blocks_0_img_mlp_0"], 18432, 3072, {}, "flux2"),
        (["lora_unet_single_blocks_0_linear1"], 27648, 3072, {}, "flux2"),
        (["lora_unet_single_blocks_0_linear1"], 21504, 3072, {}, "flux1"),
        (["lora_unet_single_blocks_0_linear1"], 21504, 3072, {"ss_base_model_version": "chroma"}, "chroma"),
        (["lora_unet_double_blocks_0_img_attn_qkv"], 12288, 4096, {}, "flux2"),
        (["lora_unet_double_blocks_0_img_attn_qkv"], 9216, 3072, {"ss_base_model_version": "flux2_klein_4b"}, "flux2"),
        (["lora_unet_double_blocks_0_img_attn_qkv"], 9216, 3072, {}, "flux1"),
        (
            ["transformer.transformer_blocks.59.attn.to_q", "transformer.transformer_blocks.59.attn.add_q_proj"],
            3072,
            3072,
            {},
            "qwen-image",
        ),
        (["diffusion_model.layers.0.feed_forward.w1"], 10240, 3840, {"ss_base_model_version": "zimage"}, "z-image"),
        (["base_model.model.model.layers.0.feed_forward.w1"], 4608, 1024, {}, "language"),  # LFM2
    ],
)
def test_models_of_one_kind_are_told_apart_by_their_shapes(names, rows, inputs, metadata, family, tmp_path):
    tensors, values = figures(names, rows, inputs, metadata)
    save_file(tensors, tmp_path / "a.safetensors", values)
    assert summarise(read_lora(tmp_path / "a.safetensors"))["family"] == family


def test_layers_outside_of_the_blocks_and_t5_are_counted(tmp_path):
    tensors, _ = figures(
        ["lora_unet_img_in", "lora_unet_double_blocks_0_img_attn_proj", "lora_te2_encoder_block_0_layer_0_SelfAttention_k"], 16, 16
    )
    save_file(tensors, tmp_path / "a.safetensors")
    said = summarise(read_lora(tmp_path / "a.safetensors"))["readers"]
    assert said["diffusers"]["modules"] == 1 and said["ComfyUI"]["modules"] == 3
    assert [f["severity"] for f in said["diffusers"]["findings"]] == ["drops", "drops"]
