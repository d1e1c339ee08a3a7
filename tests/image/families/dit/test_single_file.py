# SPDX-License-Identifier: Apache-2.0
"""A transformer in one file: recognised by its tensors, loaded by diffusers' converters, the rest from ``base_config``; or refused."""

from __future__ import annotations

import json
import shutil

import pytest
from builders.dit import cases
from builders.dit.parts import one_file
from loraforge_image.families.dit import families
from loraforge_image.families.dit.single_file import Layout, prefix_of, stripped
from loraforge_image.records import ImageKeys

from loraforge import ConfigError, KeySet, ModelError, RunConfig

# What is refused, and what is said of a file, does not depend on the family.
TWO = pytest.mark.parametrize("case", ["flux1", "z-image"], indirect=True)


def config_for(file, **keys):
    config = RunConfig(train_data_dir="x", base_model=str(file), precision="fp32")
    return config, KeySet({RunConfig: config, ImageKeys: ImageKeys(resolution=64, bucket_step=16, **keys)})


def problems_of(case, file, **keys) -> str:
    config, given = config_for(file, **keys)
    with pytest.raises(ConfigError) as caught:
        case.family().examine(config, given, [])
    return "\n".join(caught.value.problems)


@pytest.mark.parametrize("family", families(), ids=lambda family: family.name)
@pytest.mark.parametrize("other", ["StableDiffusionXLPipeline", "PixArtSigmaPipeline", None])
def test_a_folder_that_model_family_misnames_is_refused_before_anything_is_loaded(family, other, tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": other} if other else {}), encoding="utf-8")
    config, given = config_for(tmp_path)
    with pytest.raises(ConfigError) as caught:
        family.examine(config, given, [])
    (said,) = caught.value.problems
    assert f"model_family is {family.name}, which trains a {family.pipeline}" in said and (other or "nothing") in said


def test_both_layouts_are_recognised_and_loaded_whole(case, tiny, tmp_path):
    import torch

    folder, family = tiny(case), case.family()
    wanted = family.load_base(config_for(folder)[0], {}).denoiser.state_dict()
    layouts = {
        "diffusers.safetensors": (dict, ""),
        **({"original.safetensors": (case.original, "model.diffusion_model.")} if case.original else {}),
    }
    for name, (rename, prefix) in layouts.items():
        file = one_file(folder, tmp_path / name, rename, prefix)
        assert [one.name for one in families() if one.matches(str(file))] == [family.name]
        assert family.title in family.describe_base(str(file))
        config, keys = config_for(file, base_config=str(folder))
        family.examine(config, keys, [])
        assert family.settings(keys[ImageKeys])["base_config"] == str(folder)
        assert family.base_files(config)[0] == file
        found = family.load_base(config, family.settings(keys[ImageKeys])).denoiser.state_dict()
        assert found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_base_config_is_needed_and_has_to_be_of_the_family(case, tiny, tmp_path, sd_bases):
    folder = tiny(case)
    file = one_file(folder, tmp_path / "x.safetensors")
    said = problems_of(case, file)
    assert str(file) in said and "base_config names the diffusers folder" in said and case.family().source in said
    assert "neither a folder nor a hub id" in problems_of(case, file, base_config="./nowhere")
    assert f"needs a folder of a {case.family().pipeline}" in problems_of(case, file, base_config=str(sd_bases("sd15")))
    shutil.copytree(folder, tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "vae")
    assert "lacks vae" in problems_of(case, file, base_config=str(tmp_path / "half"))
    assert "belongs to single files" in problems_of(case, folder, base_config=str(folder))


@TWO
def test_a_file_that_is_not_whole_or_of_another_size_is_refused(case, tiny, tmp_path):
    import safetensors.torch
    import torch

    folder, family = tiny(case), case.family()
    tensors = safetensors.torch.load_file(one_file(folder, tmp_path / "x.safetensors"))
    name = next(key for key in tensors if key.endswith("to_q.weight"))
    damaged = {
        f"tensor of its transformer is missing: {name}": {key: value for key, value in tensors.items() if key != name},
        "of its tensors is none of this model's: extra.weight": {**tensors, "extra.weight": torch.zeros(2)},
        f"{name} (3 x 2, ": {**tensors, name: torch.zeros(3, 2)},
    }
    for said, content in damaged.items():
        file = tmp_path / f"{len(content)}-{len(said)}.safetensors"
        safetensors.torch.save_file(content, file)
        with pytest.raises(ModelError) as caught:
            family.load_base(config_for(file)[0], {"base_config": str(folder)})
        text = "\n".join(caught.value.problems)
        assert said in text and str(file) in text and str(folder) in text


@TWO
def test_packed_files_and_strangers_are_refused_before_anything_is_loaded(case, tiny, tmp_path):
    import safetensors.torch
    import torch

    folder = tiny(case)
    tensors = safetensors.torch.load_file(one_file(folder, tmp_path / "x.safetensors"))
    name = next(key for key in tensors if key.endswith("to_q.weight"))
    safetensors.torch.save_file({**tensors, name.replace(".weight", ".scale_weight"): torch.ones(1)}, tmp_path / "packed.safetensors")
    assert "is stored in 8 or 4 bits with scales (1 tensor" in problems_of(case, tmp_path / "packed.safetensors", base_config=str(folder))
    safetensors.torch.save_file({"a.weight": torch.ones(1)}, tmp_path / "strange.safetensors")
    family = case.family()
    assert not family.matches(str(tmp_path / "strange.safetensors"))
    assert f"not those of a {family.title}'s transformer" in problems_of(case, tmp_path / "strange.safetensors", base_config=str(folder))


@TWO
def test_a_pickle_is_read_only_if_it_is_allowed(case, tiny, tmp_path):
    import safetensors.torch
    import torch

    folder, family = tiny(case), case.family()
    tensors = safetensors.torch.load_file(one_file(folder, tmp_path / "x.safetensors"))
    file = tmp_path / "x.pt"
    torch.save(tensors, file)
    assert "may run code when it is read" in problems_of(case, file, base_config=str(folder))
    config, keys = config_for(file, base_config=str(folder), allow_pickle=True)
    family.examine(config, keys, [])
    found = family.load_base(config, family.settings(keys[ImageKeys])).denoiser.state_dict()
    assert all(torch.equal(found[key], value) for key, value in tensors.items())
    with pytest.raises(ModelError, match="may run code"):
        family.load_base(config, {"base_config": str(folder)})


@TWO
def test_what_lies_beside_the_transformer_is_said(case, tiny, tmp_path):
    import safetensors.torch
    import torch

    folder = tiny(case)
    tensors = safetensors.torch.load_file(one_file(folder, tmp_path / "x.safetensors", prefix="model.diffusion_model."))
    file = tmp_path / "all.safetensors"
    safetensors.torch.save_file({**tensors, "vae.decoder.conv_in.weight": torch.zeros(2), "text_encoders.x.weight": torch.zeros(2)}, file)
    config, keys = config_for(file, base_config=str(folder))
    said = case.family().remarks(config, keys[ImageKeys])[-1]
    assert "holds more than the transformer (text_encoders, vae)" in said
    case.family().load_base(config, {"base_config": str(folder)})


def test_every_family_knows_its_own_file_and_no_other(tiny, tmp_path):
    for name, case in cases().items():
        file = one_file(tiny(case), tmp_path / f"{name}.safetensors")
        assert [family.name for family in families() if family.matches(str(file))] == [name]


def test_layouts_and_prefixes():
    layout = Layout(("a", "b"), ("c",))
    assert layout.fits({"a", "b", "d"}) and not layout.fits({"a"}) and not layout.fits({"a", "b", "c"})
    assert prefix_of(["model.diffusion_model.a", "vae.b"]) == "model.diffusion_model." and prefix_of(["a"]) == ""
    assert stripped({"diffusion_model.a": 1, "b": 2}) == {"a": 1}


@TWO
def test_a_folder_of_pickles_needs_leave(case, tiny, tmp_path):
    import safetensors.torch
    import torch

    shutil.copytree(tiny(case), tmp_path / "base")
    place = tmp_path / "base" / "transformer"
    weights = place / "diffusion_pytorch_model.safetensors"
    torch.save(safetensors.torch.load_file(weights), place / "diffusion_pytorch_model.bin")
    weights.unlink()
    assert "transformer/diffusion_pytorch_model.bin may run code" in problems_of(case, tmp_path / "base")
    config, keys = config_for(tmp_path / "base", allow_pickle=True)
    family = case.family()
    family.examine(config, keys, [])
    family.load_base(config, family.settings(keys[ImageKeys]))
    assert json.loads((tmp_path / "base" / "model_index.json").read_text())["_class_name"] == family.pipeline


def test_the_whole_model_is_exported_with_what_was_learned(case, tiny, tmp_path):
    import safetensors.torch
    import torch
    from loraforge_image.export.diffusers import MergedExporter

    from loraforge import Adapter

    folder, family = tiny(case), case.family()
    file = one_file(folder, tmp_path / "x.safetensors", case.original or dict, "model.diffusion_model.")
    before = safetensors.torch.load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    name = next(key for key in before if key.endswith("to_q.weight") and "refiner" not in key).removesuffix(".weight")
    down, up = torch.randn(2, before[f"{name}.weight"].shape[1]), torch.randn(before[f"{name}.weight"].shape[0], 2)
    adapter = Adapter(
        tensors={f"transformer.{name}.lora_A.weight": down, f"transformer.{name}.lora_B.weight": up},
        rank=2,
        alpha=1,
        targets=("to_q",),
        probes={},
        base_model=str(file),
        facts={"family": family.name, "image": {"pipeline": family.pipeline, "base_config": str(folder)}},
    )
    MergedExporter().export(adapter, tmp_path / "whole")
    after = safetensors.torch.load_file(tmp_path / "whole" / "transformer" / "diffusion_pytorch_model.safetensors")
    assert [key for key in before if not before[key].equal(after[key])] == [f"{name}.weight"]
    torch.testing.assert_close(after[f"{name}.weight"], before[f"{name}.weight"] + up @ down / 2)
    assert family.matches(str(tmp_path / "whole"))


def test_another_plugins_family_is_told_beforehand_what_cannot_be_merged(case, tiny, tmp_path):
    from loraforge_image.export.diffusers import MergedExporter

    strange = type("Strange", (type(case.family()),), {"name": "strange"})()
    file = one_file(tiny(case), tmp_path / "x.safetensors")
    exporter = MergedExporter()
    assert "single files of the built-in families only" in exporter.refuses_family(strange, *config_for(file))
    assert not exporter.refuses_family(case.family(), *config_for(file)) and not exporter.refuses_family(strange, *config_for(tiny(case)))
