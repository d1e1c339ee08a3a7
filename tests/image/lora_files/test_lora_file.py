"""Files of another kind are named."""

from __future__ import annotations

import zipfile

import pytest


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
