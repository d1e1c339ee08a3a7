# SPDX-License-Identifier: Apache-2.0
"""Where bases come from: embedded, folders, hubs; offline with a clear answer."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
from loraforge_text import base_files
from loraforge_text.families.causal_lm import CausalLM, load_model

from loraforge import ConfigError, ModelError, PluginError
from loraforge.plan import make_plan


@pytest.fixture(autouse=True)
def _forget():
    base_files.locate.cache_clear()
    yield
    base_files.locate.cache_clear()


def test_the_embedded_model_and_folders(base):
    assert base_files.locate("tiny-chat").name == "model" and base_files.locate(str(base)) == base
    assert CausalLM().matches("tiny-chat") and CausalLM().matches(str(base)) and CausalLM().matches("Qwen/Qwen3-0.6B")
    assert not CausalLM().matches("./no/such/folder") and not CausalLM().matches("word")


def test_offline_says_what_to_do(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError) as error:
        base_files.locate("some-org/some-model")
    text = str(error.value)
    assert (
        "not on this computer and HF_HUB_OFFLINE is set" in text and "hf download some-org/some-model" in text and "copy its folder" in text
    )


@pytest.mark.parametrize("kind", ["GatedRepoError", "RepositoryNotFoundError", "RevisionNotFoundError"])
def test_the_hubs_refusals_are_explained(monkeypatch, kind):
    import huggingface_hub
    from huggingface_hub import errors

    def refuse(*args, **kwargs):
        refusal = getattr(errors, kind)
        raise refusal.__new__(refusal, "no")  # their constructors want a response of the HTTP library of the day

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    words = {
        "GatedRepoError": "grants access on request",
        "RepositoryNotFoundError": "no such repository",
        "RevisionNotFoundError": "no revision 'v9'",
    }
    with pytest.raises(ModelError, match=words[kind]):
        base_files.locate("org/name", "v9")


def test_the_hub_is_asked_for_the_revision_and_for_safetensors_only(monkeypatch, base):
    import huggingface_hub

    asked = {}

    def download(repository, **options):
        asked.update(repository=repository, **options)
        return str(base)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert base_files.locate("org/name", "main", weights=True) == base
    assert asked["repository"] == "org/name" and asked["revision"] == "main"
    assert "*.safetensors" in asked["allow_patterns"] and not any("bin" in p or p == "*.pt" for p in asked["allow_patterns"])
    base_files.locate("org/name", "main")
    assert "*.safetensors" not in asked["allow_patterns"]


def test_the_hubs_cache_is_used_offline(monkeypatch, base, tmp_path):
    """A real cache folder, as huggingface_hub lays it out."""
    commit = "a" * 40
    snapshot = tmp_path / "models--org--name" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (tmp_path / "models--org--name" / "refs").mkdir()
    (tmp_path / "models--org--name" / "refs" / "main").write_text(commit, encoding="utf-8")
    for file in base.iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
    import huggingface_hub
    from huggingface_hub import snapshot_download

    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *a, **k: snapshot_download(*a, cache_dir=tmp_path, local_files_only=True, **k)
    )
    assert base_files.locate("org/name", weights=True) == snapshot


def test_modelscope_is_an_extra(monkeypatch, base):
    monkeypatch.setitem(sys.modules, "modelscope", None)
    with pytest.raises(ModelError, match=r"pip install 'loraforge\[modelscope\]'"):
        base_files.locate("modelscope:org/name")
    asked = {}
    fake = SimpleNamespace(snapshot_download=lambda repository, **options: asked.update(repository=repository, **options) or str(base))
    monkeypatch.setitem(sys.modules, "modelscope", fake)
    assert base_files.locate("modelscope:org/name", "v1") == base
    assert asked["repository"] == "org/name" and asked["revision"] == "v1"


def test_a_base_that_is_no_language_model_is_refused_with_what_there_is(host, project, tmp_path):
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text(json.dumps({"architectures": ["BertForMaskedLM"]}), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"no model family takes base_model .*bert'\. There are: causal-lm"):
        make_plan(host, "text", project(base_model=str(tmp_path / "bert")))
    with pytest.raises(ConfigError, match="is neither at|there is no"):
        make_plan(host, "text", project(base_model="./models/none"))
    with pytest.raises((ConfigError, PluginError), match="no model family takes base_model 'nonsense'"):
        make_plan(host, "text", project(base_model="nonsense"))


def test_pickled_weights_are_not_read(base, tmp_path):
    import torch

    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_bytes((base / "config.json").read_bytes())
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin, which are not read"):
        load_model(folder, "fp32", torch.device("cpu"))


def test_damaged_bases_are_explained(base, tmp_path):
    import torch

    for name, file, content in (("a", "config.json", "{"), ("b", "model.safetensors", "x"), ("c", "tokenizer.json", "{}")):
        folder = tmp_path / name
        folder.mkdir()
        for source in base.iterdir():
            (folder / source.name).write_bytes(source.read_bytes())
        (folder / file).write_text(content, encoding="utf-8")
        with pytest.raises(ModelError, match="cannot be read|is damaged"):
            from loraforge_text.families.encoding import tokenizer_of

            base_files.read_base(folder)
            tokenizer_of(folder)
            load_model(folder, "fp32", torch.device("cpu"))


def test_four_bit_without_its_library_says_what_to_install(base, monkeypatch):
    import importlib.util

    import torch

    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, real=importlib.util.find_spec: None if name == "bitsandbytes" else real(name)
    )
    with pytest.raises(ConfigError, match=r"pip install 'loraforge\[quantization\]'"):
        load_model(base, "4bit", torch.device("cpu"))
