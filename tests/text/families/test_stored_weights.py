# SPDX-License-Identifier: Apache-2.0
"""What a base's folder shows before anything is loaded."""

from __future__ import annotations

import json
import shutil

import pytest
from loraforge_text.base_files import BaseFiles
from loraforge_text.families import stored_weights

from loraforge import ModelError

METHODS = {
    "gptq": {"quant_method": "gptq", "bits": 4}, "awq": {"quant_method": "awq", "bits": 4}, "compressed-tensors": {"quant_method": "compressed-tensors"},
    "aqlm": {"quant_method": "aqlm"}, "hqq": {"quant_method": "hqq"}, "torchao": {"quant_method": "torchao"}, "bitnet": {"quant_method": "bitnet"},
    "?": {"bits": 2},
}  # fmt: skip


def refusal(folder, config=None, precision="fp32"):
    with pytest.raises(ModelError) as error:
        stored_weights.refuse_unusable(BaseFiles(folder, config or {}), precision)
    return str(error.value)


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("inside", [None, "text_config"])
def test_a_form_that_only_answers_is_refused(tmp_path, kind, inside):
    config = {"quantization_config": METHODS[kind]}
    told = refusal(tmp_path, {inside: config} if inside else config)
    assert f"is stored as {kind} (quantization_config in config.json), a form for answering" in told and "Take the original weights" in told


@pytest.mark.parametrize(
    ("settings", "precision", "fits"),
    [
        ({"quant_method": "fp8"}, "bf16", True), ({"quant_method": "fp8"}, "4bit", False), ({"quant_method": "mxfp4"}, "fp32", True),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "4bit", True), ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "4bit", False),
        ({"load_in_4bit": True}, "fp32", True), ({}, "4bit", True),
    ],
)  # fmt: skip
def test_forms_that_can_be_given_back(tmp_path, settings, precision, fits):
    config = {"quantization_config": settings}
    if fits:
        stored_weights.refuse_unusable(BaseFiles(tmp_path, config), precision)
    else:
        assert "cannot be put into 4 bits while it is loaded. Set precision: bf16" in refusal(tmp_path, config, precision)


def test_a_base_with_an_adapter_beside_it_is_refused_with_both_ways_out(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "Qwen/Qwen3-8B"}), encoding="utf-8")
    told = refusal(tmp_path)
    assert f"set base_model: Qwen/Qwen3-8B and init_from_adapter: {tmp_path}" in told and "move adapter_config.json" in told
    (tmp_path / "adapter_config.json").write_text("[", encoding="utf-8")
    assert "set base_model: org/name" in refusal(tmp_path)


def shards(base, folder):
    """The base in three files and an index."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    where = {name: f"model-{1 + i * 3 // len(names):05}-of-00003.safetensors" for i, name in enumerate(names)}
    for file in set(where.values()):
        save_file({name: tensors[name] for name in names if where[name] == file}, folder / file, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}), encoding="utf-8")
    return folder


def test_a_base_in_several_files_is_looked_through(base, tmp_path):
    folder = shards(base, tmp_path / "base")
    stored_weights.refuse_unusable(BaseFiles(folder), "fp32")
    (folder / "model-00002-of-00003.safetensors").unlink()
    assert "1 of 3 weight files that model.safetensors.index.json lists is missing: model-00002-of-00003.safetensors." in refusal(folder)
    last = folder / "model-00003-of-00003.safetensors"
    size = last.stat().st_size
    last.write_bytes(last.read_bytes()[:-1000])
    told = refusal(folder)
    assert "is missing" in told and f"model-00003-of-00003.safetensors is cut short: it has {size - 1000:,} of {size:,} bytes." in told
    for file in folder.glob("*.safetensors"):
        file.unlink()
    stored_weights.refuse_unusable(BaseFiles(folder), "fp32")  # nothing has been fetched yet


def test_an_index_that_names_a_tensor_that_its_file_lacks(base, tmp_path):
    folder = shards(base, tmp_path / "base")
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
    index["weight_map"]["model.layers.9.up.weight"] = "model-00001-of-00003.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert "model-00001-of-00003.safetensors lacks 1 tensor that model.safetensors.index.json says is in it: model.layers.9.up.weight" in (
        refusal(folder)
    )


def test_a_base_in_one_file_that_is_cut_short(base, tmp_path):
    folder = shutil.copytree(base, tmp_path / "base")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-8])
    assert "model.safetensors is cut short" in refusal(folder)
    for damaged in (b"", data[:7], b"x" * 50):
        (folder / "model.safetensors").write_bytes(damaged)
        assert f"model.safetensors ({len(damaged)} bytes) is damaged" in refusal(folder)


def test_check_says_it_too(base, tmp_path, command, project):
    folder = shards(base, tmp_path / "base")
    (folder / "model-00002-of-00003.safetensors").unlink()
    code, _, err = command("check", "text", project(base_model=str(folder)))
    assert code == 2 and "1 of 3 weight files" in err
