# SPDX-License-Identifier: Apache-2.0
"""Where the files of a base are, and how far those of strangers are believed. Without torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from pathlib import Path

import pytest
from loraforge_image.families import base_files

from loraforge import ModelError

MODEL = Path(base_files.__file__).parent.parent / "tiny_sd" / "model"


@pytest.fixture(autouse=True)
def nothing_remembered():
    base_files.locate.cache_clear()
    yield
    base_files.locate.cache_clear()


@pytest.fixture
def index(tmp_path):
    """``index(vae=["diffusers", "X"])``: writes a ``model_index.json`` and returns its folder."""

    def write(**parts) -> Path:
        (tmp_path / "model_index.json").write_text(json.dumps(parts), encoding="utf-8")
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("base", "hub", "ours"),
    [
        ("tiny-sd", False, True), ("org/name", True, True), ("modelscope:org/name", True, True), ("modelscope:name", False, True),
        ("name", False, False), ("a/b/c", False, False), ("./name", False, False), ("../name", False, False), ("/name", False, False),
        ("there", False, True), ("there/file", True, True), ("there/gone", True, True), ("./there", False, True), ("~/own", False, True),
        ("~/gone", False, False),
    ],
)  # fmt: skip
def test_what_can_be_looked_into(base, hub, ours, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "there").mkdir()
    (tmp_path / "own").mkdir()
    (tmp_path / "there" / "file").touch()
    assert (base_files.is_hub_id(base), base_files.is_ours(base)) == (hub, ours)


def test_where_a_base_is(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(base_files, "fetch_base", lambda *given: asked.append(given) or tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    assert base_files.locate("tiny-sd") == MODEL and base_files.locate("here") == tmp_path / "here"
    small = ["model_index.json", "*/*.json", "*processor/*", "tokenizer*/*", "README.md"]
    for name in ("org/name", "modelscope:name"):
        assert base_files.locate(name, "v2", ("x", "y")) == tmp_path
        name, revision, wanted, ignored = asked.pop()
        assert (
            (name, revision, wanted) == (name, "v2", [*small, "x", "y"])
            and {"*.fp16.*", "*.fp16-*", "text_encoders/*"} <= {*ignored}
            and "safety_checker/*" in ignored
        )
    with pytest.raises(ModelError, match=r"base_model 'nothing' is neither a folder, .* \(tiny-sd\), nor a hub id"):
        base_files.locate("nothing")
    assert not asked


def test_what_a_base_is_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.v2").mkdir()
    (tmp_path / "file.v2.safetensors").touch()
    wanted = {
        "tiny-sd": "tiny-sd", "org/name": "name", "modelscope:org/name": "name", "folder.v2": "folder.v2", ".": tmp_path.name,
        "file.v2.safetensors": "file.v2",
    }  # fmt: skip
    assert {base: base_files.title(base) for base in wanted} == wanted


def test_a_configuration_is_an_object_of_a_size_that_configurations_have(tmp_path):
    file = tmp_path / "config.json"
    assert base_files.read_config(file) == {}  # where there is none
    file.write_text('{"a": 1}' + " " * (20_000_000 - 8), encoding="utf-8")
    assert base_files.read_config(file) == {"a": 1}
    wrong = {'{"a": 1}' + " " * (20_000_000 - 7): "it is too large for a configuration", "[]": "it is no JSON object", "{": "Expecting"}
    for text, said in wrong.items():
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ModelError, match=rf"config\.json of the base model cannot be read: {said}"):
            base_files.read_config(file)
    file.unlink()
    file.mkdir()
    with pytest.raises(ModelError, match=r"config\.json of the base model cannot be read: it is no file but a folder\.$"):
        base_files.read_config(file)


LARGEST = [
    {"width": 1_000_000}, {"width": -1_000_000}, {"num_layers": 512}, {"width": [1] * 512}, {"a": {"b": [{"width": 10**6}]}},
    {"width": 1e9}, {"name": "x" * 600},
]  # fmt: skip
LARGER = [
    ({"width": 1_000_001}, "width cannot be 1000001"), ({"width": -1_000_001}, "width cannot be -1000001"),
    ({"num_layers": 513}, "num_layers cannot be 513"), ({"layers_per_block": [1, 513]}, "layers_per_block cannot be 513"),
    ({"width": [1] * 513}, r"width cannot be \[(1, ){19}1,"), ({"a": {"b": [{"width": 10**6 + 1}]}}, "width cannot be 1000001"),
    ({"a": {"b": 1, "c_layers": {"d": 10**7}}}, "d cannot be 10000000"),
]  # fmt: skip


@pytest.mark.parametrize("config", LARGEST, ids=range(len(LARGEST)))
def test_numbers_that_a_model_may_have(config, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert base_files.part_config(tmp_path / "config.json") == config


@pytest.mark.parametrize(("config", "said"), LARGER, ids=range(len(LARGER)))
def test_a_strangers_numbers_build_no_endless_model(config, said, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match=rf"config\.json of the base model: {said}\.$"):
        base_files.part_config(tmp_path / "config.json")


def test_of_a_value_that_no_model_has_the_beginning_is_shown():
    assert str(base_files.impossible(Path("x"), "key", "0123456789" * 7)) == f"x of the base model: key cannot be {'0123456789' * 6}."


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has none")
def test_what_never_ends_is_refused_before_it_is_read(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "inside" / "pipe")
    base_files.require_ordinary(tmp_path / "file")
    for place in (tmp_path / "inside", tmp_path / "inside" / "pipe"):
        for ask in (base_files.require_ordinary, lambda place: base_files.locate(str(place))):
            with pytest.raises(ModelError, match=rf"{re.escape(str(tmp_path / 'inside' / 'pipe'))} of the base model cannot be read: \S"):
                ask(place)


@pytest.mark.parametrize("named", ["../x", "a/x", "..\\x", "a\\x", 3, None, "/x"])
def test_a_list_of_weights_names_files_of_its_own_folder(named, tmp_path):
    file = tmp_path / "model.safetensors.index.json"
    file.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}), encoding="utf-8")
    base_files.check_shards(tmp_path)
    for weights in ({"a": "one.safetensors", "b": named}, {"a": named, "b": "one.safetensors"}, named):
        file.write_text(json.dumps({"weight_map": weights}), encoding="utf-8")
        with pytest.raises(ModelError, match=r"index\.json of the base model names files outside of its folder"):
            base_files.check_shards(tmp_path)


def test_the_header_of_a_safetensors_file(tmp_path):
    file, entry = tmp_path / "x.safetensors", b'{"a": 1}'
    for length in (8, 25_000_000):
        file.write_bytes(struct.pack("<Q", length) + entry.ljust(length) + b"tensors")
        assert base_files.header(file) == {"a": 1}
    wrong = {
        b"": "the file is empty or cut off", b"1234567": "the file is empty or cut off", struct.pack("<Q", 2) + b"[]": "it is no JSON object",
        struct.pack("<Q", 25_000_001) + entry.ljust(25_000_001): "it has no safetensors header",
        struct.pack("<Q", 17) + entry: "it has no safetensors header", struct.pack("<Q", 16) + entry * 2: "Extra data",
    }  # fmt: skip
    for content, said in wrong.items():
        file.write_bytes(content)
        with pytest.raises(ModelError, match=rf"x\.safetensors cannot be read as safetensors: {said}"):
            base_files.header(file)


def test_what_a_folder_says_of_itself(index, tmp_path):
    assert base_files.pipeline_name("tiny-sd") == "StableDiffusionPipeline"
    (tmp_path / "file.safetensors").touch()
    for found, name in ((base_files.pipeline_name(str(index(_class_name=3))), ""), (base_files.pipeline_name(str(index())), "")):
        assert found == name
    assert base_files.pipeline_name(str(index(_class_name="FluxPipeline"))) == "FluxPipeline"
    assert base_files.pipeline_name(str(tmp_path / "file.safetensors")) == ""


def test_the_parts_of_a_pipeline_and_those_that_are_gone(index):
    none, strange = [None, None], {"long": ["a", "b", "c"], "short": ["a"], "text": "ab", "number": 2}
    place = index(vae=["diffusers", "Vae"], unet=["diffusers", 7], feature_extractor=none, safety_checker=["x", "Y"], **strange)
    assert base_files.listed_parts(place) == {"vae": ("diffusers", "Vae"), "unet": ("diffusers", "7"), "safety_checker": ("x", "Y")}
    (place / "unet").mkdir()
    assert base_files.missing_parts(place) == ["vae", "unet"]  # an empty folder is none
    (place / "unet" / "config.json").touch()
    assert base_files.missing_parts(place) == ["vae"]


def test_all_that_a_pipeline_is_loaded_from(index):
    place = index()
    wanted = ["model_index.json", "tokenizer/merges.txt", "tokenizer/spiece.model", "unet/a.safetensors", "unet/config.json"]
    for name in (*wanted[1:], "unet/a.bin", "unet/README.md", "top.json", "unet/deep/config.json"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).touch()
    (place / "unet" / "folder.json").mkdir()
    assert base_files.pipeline_files(place) == [place / name for name in wanted]


def test_the_old_hash_of_a_checkpoint_is_that_of_64_kib_from_1_mib_on(tmp_path):
    """By the rule of kohya's train_util.model_hash and of WebUIs before SHA-256."""
    data = bytes(range(256)) * 5000
    (tmp_path / "a.safetensors").write_bytes(data)
    assert base_files.old_hash(tmp_path / "a.safetensors") == hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8]
