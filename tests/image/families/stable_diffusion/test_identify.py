# SPDX-License-Identifier: Apache-2.0
"""Which Stable Diffusion a base is, by its configurations or by the names of its tensors. Without torch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from loraforge_image.families import base_files
from loraforge_image.families.stable_diffusion import identify as module
from loraforge_image.families.stable_diffusion.identify import Base, check_family, config_folder, identify, lacking, of_tensors, unet_config

from loraforge import ModelError

TINY = base_files.EMBEDDED["tiny-sd"]
UNET = {"in_channels": 4, "block_out_channels": [8]}
XL = {**UNET, "addition_embed_type": "text_time"}


@pytest.fixture(autouse=True)
def nothing_remembered():
    for known in (identify, base_files.locate):
        known.cache_clear()


@pytest.fixture
def folder(tmp_path):
    """``folder(unet, scheduler, index, config)``: a diffusers folder with such configurations."""

    def make(unet=None, scheduler=None, index=None, config=None, encoder=False) -> Path:
        files = {"unet/config": unet, "scheduler/scheduler_config": scheduler, "model_index": index, "config": config}
        for name, values in files.items():
            if values is not None:
                (tmp_path / f"{name}.json").parent.mkdir(exist_ok=True)
                (tmp_path / f"{name}.json").write_text(json.dumps(values), encoding="utf-8")
        if encoder:
            (tmp_path / "text_encoder").mkdir()
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("made", "family", "prediction"),
    [
        ({"unet": UNET}, "sd15", "epsilon"), ({"unet": {**UNET, "cross_attention_dim": 768}}, "sd15", "epsilon"),
        ({"unet": {"block_out_channels": [8]}}, "sd15", "epsilon"),  # four channels are the default
        ({"unet": {**UNET, "use_linear_projection": True}}, "sd2", "epsilon"), ({"unet": {**UNET, "cross_attention_dim": 1024}}, "sd2", "epsilon"),
        ({"unet": UNET, "scheduler": {"prediction_type": "v_prediction", "_class_name": "DDIMScheduler"}}, "sd15", "v_prediction"),
        ({"unet": UNET, "scheduler": {"prediction_type": None}}, "sd15", "epsilon"),
        ({"unet": {**XL, "use_linear_projection": True}, "encoder": True, "scheduler": {"prediction_type": "v_prediction"}}, "sdxl", "v_prediction"),
    ],
)  # fmt: skip
def test_what_a_folder_is(made, family, prediction, folder):
    titles = {"sd15": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl": "Stable Diffusion XL"}
    place = folder(**made)
    assert identify(str(place)) == Base(place, family, titles[family], prediction, read=True)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({}, "is no diffusers folder"), ({"config": {"architectures": ["A", "B"]}, "index": {"_class_name": "X"}}, r"a language model \(A, B\)"),
        ({"config": {"architectures": "A"}}, "is no diffusers folder"), ({"index": {"_class_name": "X"}}, "is a X, which has no U-Net"),
        ({"unet": {**UNET, "in_channels": 3}}, r"inpainting or depth model \(3 input"), ({"unet": {**UNET, "in_channels": 9}}, r"\(9 input"),
        ({"unet": UNET, "scheduler": {"_class_name": "EDMEulerScheduler"}}, r"another kind of noise than Stable Diffusion \(EDMEulerScheduler\)"),
        ({"unet": UNET, "scheduler": {"_class_name": "FlowMatchX"}}, r"\(FlowMatchX\)"), ({"unet": XL}, "is a refiner of Stable Diffusion XL"),
    ],
)  # fmt: skip
def test_what_a_folder_is_not(made, said, folder):
    found = identify(str(folder(**made)))
    assert (found.family, found.prediction, found.read) == ("", "", True)
    with pytest.raises(ModelError, match=rf"^base_model x: model_family is sd15, but (?!this is).*{said}[^\n]*$"):
        check_family("x", found, "sd15")


@pytest.mark.parametrize(("read", "predicted", "family"), [(16, 16, "sd15"), (8, 4, "")])
def test_a_wider_autoencoder_makes_no_inpainting_model(read, predicted, family, folder):
    """Sixteen channels in and out, as in circulation for SD 1.5; edit models read eight and predict four."""
    assert identify(str(folder({**UNET, "in_channels": read, "out_channels": predicted}))).family == family


@pytest.mark.parametrize("widths", ["x", [8, "x"], [8, 0], [8, -1], 8, [8.5]], ids=str)
def test_widths_that_no_model_has_are_refused(widths, folder):
    with pytest.raises(ModelError, match=r"unet/config\.json of the base model: block_out_channels cannot be"):
        identify(str(folder({**UNET, "block_out_channels": widths})))
    assert identify(str(folder({**UNET, "block_out_channels": [1]}))).family == "sd15"


def test_a_prediction_that_nothing_here_makes_is_refused(folder):
    with pytest.raises(ModelError, match=r"scheduler_config\.json of the base model: prediction_type cannot be sample\.$"):
        identify(str(folder(UNET, {"prediction_type": "sample"})))


U, FIRST = "model.diffusion_model.", "model.diffusion_model.input_blocks.0.0.weight"
FILES = [
    ({"lora_unet_x": ()}, "", "is a LoRA"), ({"x.lora_A": (), U: ()}, "", "is a LoRA"), ({"x": ()}, "", "no model.diffusion_model"),
    ({FIRST: (320, 9, 3, 3)}, "", r"\(9 input channels\)"), ({FIRST: (320, 3, 3, 3)}, "", r"\(3 input channels\)"),
    ({FIRST: (4, 9, 3)}, "", "without its text encoder"), ({FIRST: (9, 4, 3, 3)}, "", "without its text encoder"),
    ({U: (), "conditioner.embedders.0.x": (), "conditioner.embedders.1.x": ()}, "sdxl", "Stable Diffusion XL"),
    ({U: (), "conditioner.embedders.0.x": ()}, "", "is a refiner"), ({U: (), "cond_stage_model.model.x": ()}, "sd2", "Stable Diffusion 2.x"),
    ({FIRST: (320, 4, 3, 3), "cond_stage_model.transformer.x": ()}, "sd15", "Stable Diffusion 1.x"),
]  # fmt: skip


@pytest.mark.parametrize(("shapes", "family", "what"), FILES)
@pytest.mark.parametrize("velocity", [False, True])
def test_what_a_single_file_is(shapes, family, what, velocity):
    import re

    found = of_tensors(Path("f"), {**shapes, **({"v_pred": ()} if velocity else {})})
    assert found.family == family and re.search(what, found.what) and found.place == Path("f") and found.read
    assert found.prediction == ("v_prediction" if velocity and family else "")


def test_a_pickle_is_not_opened_and_its_family_is_a_guess_that_counts_for_nothing(tmp_path):
    for name in ("a.CKPT", "b.pt"):
        (tmp_path / name).touch()
        found = identify(str(tmp_path / name))
        assert found == Base(
            tmp_path / name, "sd15", f"a pickled checkpoint ({name}); which family it is shows when it is read", "", read=False
        )
        check_family("x", found, "sdxl")


def test_another_family_is_named_with_what_to_write():
    with pytest.raises(ModelError) as told:
        check_family("x", Base(Path("p"), "sd2", "two"), "sd15")
    assert list(told.value.problems) == ["base_model x: model_family is sd15, but this is two.", "Set model_family: sd2."]
    check_family("x", Base(Path("p"), "sd2", "two"), "sd2")


def test_the_configuration_of_a_single_file(tmp_path, monkeypatch):
    """From the folder that the user names, or from where the published model has it: only the small files."""
    asked: list = []
    monkeypatch.setattr(module, "fetch_base", lambda *given: asked.append(given) or TINY)
    assert config_folder(Path("f"), "sd15", "tiny-sd") == TINY and not asked
    assert config_folder(Path("f"), "sd15", str(TINY)) == TINY.absolute() and not asked
    small = ("model_index.json", "*/*.json", "*processor/*", "tokenizer*/*", "README.md")
    for named, source in (
        (None, "stable-diffusion-v1-5/stable-diffusion-v1-5"),
        ("org/name", "org/name"),
        ("modelscope:x", "modelscope:x"),
    ):
        assert config_folder(Path("f"), "sd15", named) == TINY and asked.pop() == (
            source,
            None,
            small,
            (),
            "base_config" if named else "base_model",
        )
    for named in ("name", "./a"):
        with pytest.raises(ModelError, match=f"base_config: '{named}' is neither a folder nor a hub id"):
            config_folder(Path("f"), "sd15", named)
    with pytest.raises(
        ModelError, match="f is Stable Diffusion 2.x and needs a folder of the same family, but this is Stable Diffusion 1.x"
    ):
        config_folder(Path("f"), "sd2", "tiny-sd")
    assert not asked


def test_the_parts_that_a_folder_lacks(tmp_path):
    place = Path(shutil.copytree(TINY, tmp_path / "base"))
    assert lacking(place, "sd15") == [] and lacking(place, "sdxl") == ["text_encoder_2", "tokenizer_2"]
    (place / "scheduler" / "scheduler_config.json").unlink()
    shutil.rmtree(place / "tokenizer")
    (place / "vae" / "config.json").unlink()
    assert lacking(place, "sd15") == ["vae", "scheduler", "tokenizer"]


def test_the_configuration_of_the_unet_wherever_it_stands(tmp_path):
    (tmp_path / "file.safetensors").touch()
    written = json.loads((TINY / "unet" / "config.json").read_text(encoding="utf-8"))
    assert unet_config("tiny-sd", None, "sd15", None) == written
    assert unet_config(str(tmp_path / "file.safetensors"), None, "sd15", "tiny-sd") == written
