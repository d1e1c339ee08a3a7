# SPDX-License-Identifier: Apache-2.0
"""What would be in the way of the exported file when all is trained is said before anything is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from loraforge_image.export import installing
from loraforge_image.export.diffusers import DiffusersExporter, MergedExporter
from loraforge_image.export.webui import WebuiExporter, WebuiKeys
from loraforge_image.families.stable_diffusion.sd15 import SD15
from loraforge_image.records import ImageKeys

from loraforge import ConfigError, KeySet, RunConfig

RUN = RunConfig(train_data_dir="x", base_model="y", output_dir="out/cats")


def refuses(**values) -> str:
    keys = KeySet({RunConfig: RUN, ImageKeys: ImageKeys(), WebuiKeys: WebuiKeys(**values)})
    return WebuiExporter().refuses(RUN, keys)


@pytest.fixture
def webui(tmp_path):
    folder = tmp_path / "sd" / "models" / "Lora"
    folder.mkdir(parents=True)
    return folder


def test_a_folder_that_is_not_there_a_file_and_another_folder_are_told_apart(tmp_path, webui):
    (tmp_path / "a file").touch()
    (tmp_path / "empty").mkdir()
    assert refuses(webui=str(tmp_path / "nowhere")) == f"webui: there is no folder {tmp_path / 'nowhere'}."
    assert refuses(webui=str(tmp_path / "a file")).startswith(f"webui: {tmp_path / 'a file'} is a file;")
    assert "has no folder for LoRA files" in refuses(webui=str(tmp_path / "empty"))
    assert refuses(webui=str(tmp_path / "sd")) == refuses(webui=str(webui)) == refuses() == ""


def test_a_folder_that_takes_nothing(webui, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != webui)
    assert refuses(webui=str(webui)).startswith(f"webui: {webui}: nothing can be written there.")


@pytest.mark.parametrize("name", ["cats.safetensors", "cats.png", "cats.json"])
def test_a_file_of_the_same_name_is_told_unless_it_may_be_replaced(name, webui):
    (webui / name).write_bytes(b"another")
    assert refuses(webui=str(webui)).startswith(f"webui: {webui / name} is there already. --overwrite")
    assert refuses(webui=str(webui), overwrite=True) == refuses(webui=str(webui), output_name="dogs") == ""


def test_what_this_very_run_has_installed_before_it_was_interrupted_is_not_in_its_way(webui, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "out/cats/export/webui/cats.safetensors"
    mine.parent.mkdir(parents=True)
    for file in (mine, webui / "cats.safetensors"):
        file.write_bytes(b"weights")
    assert refuses(webui=str(webui)) == ""
    (tmp_path / "out/cats/manifest.sha256").touch()  # finished
    assert "is there already" in refuses(webui=str(webui))


@pytest.mark.parametrize(
    "name", ["", " ", ".hidden", "a:b", "a/b", "a\\b", 'a"b', "a<b", "what?", "a*", "a|b", "a\nb", "con", "NUL", "lpt1", "a,b", "..."]
)
def test_a_name_that_no_file_can_have_somewhere(name):
    assert refuses(output_name=name).startswith("output_name: ")


@pytest.mark.parametrize("name", ["neon_v2", "霓虹 (final)", "a.b-c", "console"])
def test_a_name_that_is_one(name):
    assert refuses(output_name=name) == "" and installing.stem_of(name) == name


def test_a_name_that_is_too_long_in_bytes_is_told_with_the_key_that_it_comes_from():
    assert refuses(output_name="霓" * 80).startswith("output_name: the file's name would be too long by ")
    assert refuses(output_name="a" * 230) == ""
    run = RUN.model_copy(update={"output_dir": "out/" + "霓" * 80})
    assert installing.name_problem(None, run.output_dir).startswith("output_dir: the file's name would be too long by ")


def test_several_problems_are_told_at_once(tmp_path):
    assert len(refuses(webui=str(tmp_path / "nowhere"), output_name="a:b").split("\n")) == 2


@pytest.mark.parametrize("what", ["check", "train"])
def test_check_and_train_say_it_at_the_line_before_anything_is_loaded(what, gallery, tmp_path, command):
    config = gallery(export=["webui"], webui=str(tmp_path / "nowhere"))
    code, _, err = command(what, "image", config)
    number = next(i for i, line in enumerate(config.read_text(encoding="utf-8").splitlines(), 1) if line.startswith("webui:"))
    assert code == 2 and f"{config}:{number}: webui: there is no folder {tmp_path / 'nowhere'}." in err


class Other:
    """A family of somebody's, without a format or a pipeline."""

    name = "other"


@pytest.mark.parametrize("exporter", [WebuiExporter(), DiffusersExporter(), MergedExporter()])
def test_a_family_that_an_exporter_cannot_write_for_is_told(exporter):
    reason = exporter.refuses_family(Other(), RUN, KeySet({RunConfig: RUN}))
    assert "'other'" in reason and "export: [" in reason and exporter.refuses_family(SD15(), RUN, KeySet({RunConfig: RUN})) == ""


@pytest.mark.parametrize("pipeline", ["StableDiffusion3Pipeline", "DiTPipeline", "StableDiffusionImg2ImgPipeline"])
def test_whether_diffusers_reads_loras_for_a_pipeline_is_known_without_importing_it(pipeline):
    import diffusers

    family = type("Family", (), {"name": "other", "pipeline": pipeline})()
    told = DiffusersExporter().refuses_family(family, RUN, KeySet({RunConfig: RUN}))
    assert bool(told) is not hasattr(getattr(diffusers, pipeline), "save_lora_weights")


def test_an_output_folder_in_which_nothing_can_be_written(gallery, host, tmp_path, monkeypatch):
    from loraforge.plan import make_plan

    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ConfigError, match=r"config\.yaml:\d+: output_dir: nothing can be written in "):
        make_plan(host, "image", gallery())


@pytest.mark.parametrize(
    ("written", "name"), [("style.safetensors", "style"), ("风格.SAFETENSORS", "风格"), ("style.v1", "style.v1"), (None, None)]
)
def test_an_ending_in_the_name_is_not_written_twice(written, name):
    assert WebuiKeys(output_name=written).output_name == name
    assert "must not be empty" in refuses(output_name=".safetensors")
