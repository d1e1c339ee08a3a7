# SPDX-License-Identifier: Apache-2.0
"""What is said of a base that nobody can load: by its name, and by what lies on this computer. Nothing is asked over a connection."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from loraforge import ConfigError, ModelError, explain_base, fetch_base, licence_of
from loraforge.hub import cached
from loraforge.plan import make_plan


@pytest.fixture(autouse=True)
def _no_connection(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """A hub cache as huggingface_hub lays it out, with two models and a data set."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("models--Qwen--Qwen3-8B", "models--unsloth--Qwen3-8b", "models--org--a--b", "datasets--x--Qwen3-8B"):
        snapshot = tmp_path / "hub" / name / "snapshots" / "abc"
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text("{}", encoding="utf-8")
    return tmp_path / "hub"


@pytest.mark.parametrize("written", ["Qwen3-8B", "qwen3-8b", "QWEN3-8B"])
def test_a_name_without_its_organisation_lists_what_is_in_the_cache(cache, written):
    said = explain_base(written)
    assert f"'{written}' names no organisation" in said and "org/name" in said
    assert said.endswith("In the hub's cache on this computer: Qwen/Qwen3-8B, unsloth/Qwen3-8b.")
    assert "cache" not in explain_base("Qwen3-9B") and cached("a--b") == ["org/a--b"]


@pytest.mark.parametrize(
    ("written", "words"),
    [("qwen3:8b", "a name of Ollama's"), ("qwen3:latest", "a name of Ollama's"), ("library/llama3.2:1b-instruct", "a name of Ollama's"),
     ("m.gguf", "called like a GGUF file"), ("/x/m.Q4_K_M.gguf", "called like a GGUF file"), ("Qwen3-8B-GGUF", "is a repository of GGUF files"),
     ("org/m.GGUF", "called like a GGUF file"),
     ("model.safetensors", "holds weights only"), ("/x/y/pytorch_model.bin", "the tokenizer and all the weights: /x/y"), ("m.pth", "holds weights only"),
     ("m.onnx", "holds weights only")],
)  # fmt: skip
def test_files_and_names_of_other_programs(cache, written, words):
    assert words in explain_base(written)


def test_a_folder_above_the_base_names_it(tmp_path):
    assert explain_base(str(tmp_path)) == ""
    for name in ("a", "b"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "config.json").write_text("{}", encoding="utf-8")
    said = explain_base(str(tmp_path / "models"))
    assert said.endswith(f"one folder further down: {tmp_path / 'models' / 'a'}, {tmp_path / 'models' / 'b'}.")
    assert explain_base(str(tmp_path)).endswith(f"{tmp_path / 'models' / 'a'}, {tmp_path / 'models' / 'b'}.")
    assert explain_base(str(tmp_path / "models" / "a")) == ""


def test_a_folder_of_gguf_files_names_one(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert explain_base(str(tmp_path)).endswith(f"base_model: {tmp_path / 'm.gguf'}")


def test_a_folder_of_the_cache_gives_the_id_and_the_snapshot(cache):
    said = explain_base(str(cache / "models--Qwen--Qwen3-8B"))
    assert "write Qwen/Qwen3-8B, or " in said and str(cache / "models--Qwen--Qwen3-8B" / "snapshots" / "abc") in said


def test_a_hub_id_that_is_nearly_in_the_cache(cache, monkeypatch):
    import huggingface_hub
    from huggingface_hub import errors

    def missing(*args, **kwargs):
        raise errors.LocalEntryNotFoundError("not there")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", missing)
    with pytest.raises(ModelError, match="The cache on this computer has 'Qwen/Qwen3-8B'"):
        fetch_base("Qwen/Qwen3-8b", None, ["*.json"])
    with pytest.raises(ModelError) as error:
        fetch_base("other/thing", None, ["*.json"])
    assert "The cache on this computer has" not in str(error.value)


@pytest.mark.parametrize("written", ["Qwen/Qwen3:8b", "org/name:main"])
def test_a_tag_is_no_hub_id(written):
    with pytest.raises(ModelError, match="a name of Ollama's"):
        fetch_base(written, None, ["*.json"])


@pytest.mark.parametrize("task", ["text", "image"])
@pytest.mark.parametrize("written", ["Qwen3-8B", "qwen3:8b", "UP"])
def test_the_line_of_the_config_is_named(host, tmp_path, cache, task, written):
    (tmp_path / "up" / "inner").mkdir(parents=True)
    (tmp_path / "up" / "inner" / "config.json").write_text(json.dumps({"architectures": ["X"]}), encoding="utf-8")
    base = str(tmp_path / "up") if written == "UP" else written
    (tmp_path / "c.yaml").write_text(f"train_data_dir: .\nbase_model: {base}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        make_plan(host, task, tmp_path / "c.yaml")
    assert error.value.problems[0] == f"{tmp_path / 'c.yaml'}:2: base_model: {explain_base(base)}"


@pytest.mark.parametrize(
    ("files", "licence"),
    [
        ({"README.md": "---\nlicense: other\nlicense_name: qwen-research\n---\n# x"}, "qwen-research"),
        ({"README.md": '\ufeff---\r\ntags: [a]\r\nlicense: "apache-2.0" # ours\r\n---\r\n'}, "apache-2.0"),
        ({"README.md": "license: mit", "LICENSE": "\n   MIT License\n\nCopyright (c) 2020"}, "MIT License Copyright (c) 2020"),
        ({"README.md": "---\nlicense:\n- mit\n---\n"}, ""),
        ({}, ""),
    ],
)
def test_the_licence_that_a_base_names(tmp_path, files, licence):
    for name, text in files.items():
        (tmp_path / name).write_bytes(text.encode())
    assert licence_of(tmp_path) == licence
