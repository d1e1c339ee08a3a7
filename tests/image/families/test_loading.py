# SPDX-License-Identifier: Apache-2.0
"""How the parts of a diffusers folder are asked for, and which ones are not."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from loraforge_image.families import base_files
from loraforge_image.families.loading import _listed, check_pickle, load_part, load_pipeline, type_of

from loraforge import ModelError


@pytest.fixture
def part(tmp_path):
    """``part("a.safetensors", ...)``: a folder ``unet`` with such files; returns (its folder, what ``load_part`` asked for)."""

    def make(*files: str, module: str = "diffusers.models", missing=(), allow_pickle: bool = False):
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        (place / "unet").mkdir(parents=True)
        for name in ("config.json", *files):
            (place / "unet" / name).touch()
        asked: dict = {}

        def from_pretrained(where, **options):
            asked.update(options, where=where)
            return "part", {"missing_keys": list(missing)}

        kind = SimpleNamespace(__module__=module, from_pretrained=from_pretrained)
        assert load_part(kind, place, "unet", "half", allow_pickle=allow_pickle) == "part"
        return place, asked

    return make


COMMON = {"local_files_only": True, "low_cpu_mem_usage": True, "output_loading_info": True}


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["a.safetensors"], {"use_safetensors": True}), (["a.safetensors", "a.bin"], {"use_safetensors": True}),
        (["a.fp16.safetensors"], {"use_safetensors": True, "variant": "fp16"}),
        (["a.fp16.safetensors", "a.safetensors"], {"use_safetensors": True}),
        (["a.fp16.safetensors", "a.bin"], {"use_safetensors": True, "variant": "fp16"}), ([], {"use_safetensors": False}),
    ],
    ids=str,
)  # fmt: skip
def test_safetensors_before_all_and_half_precision_where_there_is_nothing_else(files, chosen, part):
    place, asked = part(*files)
    assert asked == {**COMMON, **chosen, "where": place, "subfolder": "unet", "torch_dtype": "half"}
    place, asked = part(*files, module="transformers.models.clip")
    assert asked == {**COMMON, **chosen, "where": place / "unet", "dtype": "half"}


def test_a_pickle_is_named_unless_it_is_allowed(part, tmp_path):
    with pytest.raises(ModelError, match=r"unet: a\.bin, b\.ckpt, c\.pt, d\.pth may run code when it is read"):
        part("d.pth", "b.ckpt", "a.bin", "c.pt", "x.txt")
    assert part("a.bin", allow_pickle=True)[1]["use_safetensors"] is False
    check_pickle(tmp_path, [], False)


def test_tensors_that_are_missing_are_counted(part):
    with pytest.raises(ModelError, match="3 tensors of its unet are missing"):
        part("a.safetensors", missing="abc")


@pytest.fixture
def listed(tmp_path):
    """``listed(unet=[library, class])``: the parts that are loaded of such a pipeline."""

    def make(_class_name="Wanted", kind="Wanted", **parts):
        (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": _class_name, **parts}), encoding="utf-8")
        for name in parts:
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "config.json").touch()
        return _listed("the base", tmp_path, kind)

    return make


def test_which_parts_are_loaded(listed):
    parts = {
        "unet": ["diffusers", "A"],
        "text": ["transformers", "B"],
        "checker": ["stable_diffusion", "C"],
    }  # one of diffusers' own folders
    assert listed(**parts) == {name: tuple(part) for name, part in parts.items()}
    with pytest.raises(ModelError, match="base_model the base: text, vae would run code that the model brings"):
        listed(**{**parts, "text": ["mine", "X"], "vae": ["yours", "Y"]})
    for found, said in (("Other", "Other"), ("Wante", "Wante"), ("Wanteds", "Wanteds"), (None, "nothing")):
        with pytest.raises(ModelError, match=f"base_model the base: a Wanted is wanted, but its model_index.json says {said}"):
            listed(found, **parts)


@pytest.mark.parametrize(("text", "said"), [("one\ntwo", "one"), (" x" + "y" * 299 + "z", "x" + "y" * 299)])
def test_of_what_a_library_says_the_beginning_is_shown(text, said, listed, tmp_path, monkeypatch):
    base_files.locate.cache_clear()
    name = "StableDiffusionPipeline"
    listed(name, name, tokenizer=["transformers", "AutoTokenizer"])

    def refuse(*given, **options):
        raise RuntimeError(text)

    monkeypatch.setattr("diffusers.StableDiffusionPipeline.from_pretrained", refuse)
    with pytest.raises(ModelError, match=f"cannot be loaded: {said}$"):
        load_pipeline(str(tmp_path), None, name, None)


def test_the_types_of_weights():
    import torch

    assert [type_of(one) for one in ("fp32", "bf16", "fp16")] == [torch.float32, torch.bfloat16, torch.float16]
    assert type_of("fp8") == type_of("4bit") == torch.bfloat16  # what is rounded further is read in it first
