# SPDX-License-Identifier: Apache-2.0
"""The head of a GGUF file, beside what the gguf package reads."""

from __future__ import annotations

import random

import pytest
from builders.llama_cpp import gguf, write_base
from loraforge_text.gguf_bases import conversion
from loraforge_text.gguf_bases.gguf_file import means_gguf, read_head

from loraforge import LoraForgeError, ModelError


@pytest.fixture(scope="module")
def file(tmp_path_factory, base):
    return write_base(
        base, tmp_path_factory.mktemp("gguf") / "tiny.gguf", "Q8_0", more={"general.name": "Größe 汉", "x.y": -1.5, "x.z": True}
    )


def test_it_reads_what_the_gguf_package_reads(file):
    ours, theirs = read_head(file), gguf.GGUFReader(file)
    told = {key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    assert ours.values == told and ours.values["general.name"] == "Größe 汉"
    assert list(ours.tensors) == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        mine = ours.tensors[tensor.name]
        assert (mine.shape, mine.type, mine.start) == (tuple(tensor.shape[::-1]), int(tensor.tensor_type), int(tensor.data_offset))


def test_a_file_is_known_by_how_it_begins(file, tmp_path):
    blob = tmp_path / f"sha256-{'a' * 64}"  # as Ollama keeps it
    blob.write_bytes(file.read_bytes())
    (tmp_path / "page.gguf").write_text("<html>404</html>", encoding="utf-8")
    (tmp_path / "empty.gguf").touch()
    (tmp_path / "text").write_text("GGU", encoding="utf-8")
    assert means_gguf(blob) and not any(map(means_gguf, (tmp_path / "text", tmp_path, tmp_path / "none.gguf")))
    for name, words in {"page.gguf": "is no GGUF file: it begins otherwise", "empty.gguf": "is no whole GGUF file"}.items():
        assert means_gguf(tmp_path / name)  # what is called so is told by what it is
        with pytest.raises(ModelError, match=words):
            read_head(tmp_path / name)


def test_a_file_that_is_cut_short_is_told_wherever_it_ends(file, tmp_path):
    whole = file.read_bytes()
    random.seed(0)
    head = min(tensor.start for tensor in read_head(file).tensors.values())
    for end in [4, 8, 23, *random.sample(range(24, head), 40), head, len(whole) - 1]:
        (tmp_path / "cut.gguf").write_bytes(whole[:end])
        with pytest.raises(ModelError, match=r"Fetch it again"):
            conversion.base_of(tmp_path / "cut.gguf")


def test_no_altered_byte_is_an_accident(file, tmp_path, monkeypatch):
    """What is altered is refused in a sentence, or makes no difference here; nothing else is raised, and no memory is asked for."""
    monkeypatch.setattr(conversion, "_write_folder", lambda *given: None)
    whole = bytearray(file.read_bytes())
    head = min(tensor.start for tensor in read_head(file).tensors.values())
    random.seed(0)
    refused = 0
    for place in [*range(4, 120), *random.sample(range(120, head), 150)]:
        altered = bytearray(whole)
        altered[place] ^= random.randint(1, 255)
        (tmp_path / "altered.gguf").write_bytes(altered)
        try:
            conversion.base_of(tmp_path / "altered.gguf")
        except LoraForgeError as error:
            refused += 1
            assert str(tmp_path / "altered.gguf") in str(error)
    assert refused > 60


@pytest.mark.parametrize("version", [1, 4, 0x03000000])
def test_another_version_is_named(file, tmp_path, version):
    data = bytearray(file.read_bytes())
    data[4:8] = version.to_bytes(4, "little")
    (tmp_path / "old.gguf").write_bytes(data)
    with pytest.raises(ModelError, match=f"is GGUF of version {version}; versions 2, 3 are read"):
        read_head(tmp_path / "old.gguf")
