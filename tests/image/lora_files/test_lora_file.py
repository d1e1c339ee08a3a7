# SPDX-License-Identifier: Apache-2.0
"""Files of another kind are named."""

from __future__ import annotations

import struct
import zipfile

import pytest
import torch
from click.testing import CliRunner
from loraforge_image.inspect.command import inspect
from safetensors.torch import save_file

from loraforge import RunError


def pair():
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q."
    return {f"{name}lora_down.weight": torch.ones(4, 320), f"{name}lora_up.weight": torch.ones(320, 4), f"{name}alpha": torch.tensor(4.0)}


def refused(path):
    error = CliRunner().invoke(inspect, [str(path)]).exception
    assert isinstance(error, RunError), error
    return str(error)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("page.safetensors", b"<!DOCTYPE html><html>", "a web page"),
        ("table.csv", "图片,说明\n".encode() * 99, "a text file"),
        ("pointer.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        ("old.xls", b"\xd0\xcf\x11\xe0" + bytes(99), "an Office file"),
        ("p.pdf", b"%PDF-1.7\n", "a PDF"),
        ("p.png", b"\x89PNG\r\n\x1a\n" + bytes(9), "a picture"),
        ("model.gguf", b"GGUF" + bytes(99), "a GGUF model"),
        ("cut.zip", b"PK\x03\x04" + bytes(99), "a zip archive"),
    ],
)
def test_files_of_another_kind_are_named(name, data, said, tmp_path, command):
    (tmp_path / name).write_bytes(data)
    code, _, err = command("inspect", tmp_path / name)
    assert code != 0 and said in err and "not a LoRA file" in err and "any code" not in err


@pytest.mark.parametrize(
    ("member", "said"),
    [
        ("[Content_Types].xml", "an Office file"),
        ("a/neon.safetensors", "must be unpacked"),
        ("notes.txt", "a zip archive"),
        ("archive/data.pkl", "any code"),
    ],
)
def test_a_zip_is_judged_by_what_is_in_it(member, said, tmp_path, command):
    with zipfile.ZipFile(tmp_path / "some.xlsx", "w") as archive:
        archive.writestr("padding", "x" * 1000)
        archive.writestr(member, "x")
    code, _, err = command("inspect", tmp_path / "some.xlsx")
    assert code != 0 and said in err and ("any code" in err) == (said == "any code")


def test_what_is_no_lora_is_refused_with_a_reason(tmp_path):
    def write(name, data):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    assert "0 bytes" in refused(write("empty.safetensors", b""))
    assert "no such file" in refused(tmp_path / "absent.safetensors")
    assert "too large" in refused(write("bomb.safetensors", struct.pack("<Q", 2**62) + b"{}"))
    assert "damaged" in refused(write("short.safetensors", b"\x04\x00"))
    assert "JSON" in refused(write("deep.safetensors", struct.pack("<Q", 200_000) + b"[" * 200_000))
    assert "damaged" in refused(write("text.safetensors", struct.pack("<Q", 4) + b"\xff\xfe\x00\x00"))
    save_file(pair(), tmp_path / "whole.safetensors")
    assert "damaged" in refused(write("cut.safetensors", (tmp_path / "whole.safetensors").read_bytes()[:-100]))
    torch.save(pair(), tmp_path / "old.pt")
    assert "run any code" in refused(tmp_path / "old.pt")
    assert "run any code" in refused(write("renamed.safetensors", (tmp_path / "old.pt").read_bytes()))
    save_file({"conv.weight": torch.ones(2)}, tmp_path / "other.safetensors")
    assert "holds no LoRA" in refused(tmp_path / "other.safetensors")
    save_file({"model.diffusion_model.out.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    assert "whole model" in refused(tmp_path / "model.safetensors")
    (tmp_path / "hollow").mkdir()
    assert "adapter_model" in refused(tmp_path / "hollow")
