# SPDX-License-Identifier: Apache-2.0
"""Ways of splitting texts, found by what tokenizer.json says and proved by llama.cpp itself."""

from __future__ import annotations

import json

import pytest
from builders.gguf_bases import PUBLISHED, base_with, byte_level, no_adapter, sentence_piece, served_by
from builders.llama_cpp import gguf
from loraforge_text.export import gguf_proof, gguf_vocabulary
from loraforge_text.export.gguf_model import GgufModel

from loraforge import ExportError

DIGIT, DIGITS = r"\p{N}", r"\p{N}{1,3}"
WAYS = {
    "gpt-2": lambda: byte_level(plain=True),
    "smollm": lambda: byte_level(DIGIT, plain=True),
    "smaug-bpe": lambda: byte_level(PUBLISHED["llama3"]),
    "llama-bpe": lambda: byte_level(PUBLISHED["llama3"], ignore_merges=True),
    "qwen2": lambda: byte_level(PUBLISHED["qwen2"]),
    "qwen35": lambda: byte_level(PUBLISHED["qwen35"]),
    "tekken": lambda: byte_level(PUBLISHED["nemo"], ignore_merges=True),
    "gpt-4o": lambda: byte_level(PUBLISHED["gpt-oss"]),
}


def proved(tokenizer, folder, **config):
    """(what the file says of its vocabulary, what was proved)."""
    base_with(tokenizer, folder)
    of, adapter = served_by(folder), no_adapter(folder, **config)
    GgufModel.make(of, adapter, "f16").write(folder / "x.gguf")
    fields = {
        key: field.contents() for key, field in gguf.GGUFReader(folder / "x.gguf").fields.items() if key.startswith("tokenizer.ggml.")
    }
    return fields, gguf_proof.prove(of, adapter, folder / "x.gguf")


@pytest.mark.parametrize("name", WAYS)
def test_a_published_way_of_splitting_texts_has_its_name_and_makes_the_same_tokens(name, tmp_path):
    fields, counts = proved(WAYS[name](), tmp_path)
    assert fields["tokenizer.ggml.model"] == "gpt2" and fields["tokenizer.ggml.pre"] == name
    assert counts == {"telling": 8}


@pytest.mark.parametrize("prefix,written", [("legacy", True), ("first", False), (None, False)])
def test_sentence_pieces_make_the_same_tokens(prefix, written, tmp_path):
    fields, counts = proved(sentence_piece(prefix), tmp_path)
    assert fields["tokenizer.ggml.model"] == "llama" and fields["tokenizer.ggml.add_space_prefix"] is written
    assert counts == {"telling": 8}


@pytest.mark.parametrize("way,wrong", [("qwen2", "gpt-2"), ("smaug-bpe", "qwen2"), ("gpt-2", "smollm"), ("gpt-4o", "tekken")])
def test_a_wrong_name_is_found_out_without_any_data(way, wrong, tmp_path, monkeypatch):
    names = {key: wrong if name == way else name for key, name in gguf_vocabulary._NAMES.items()}
    monkeypatch.setattr(gguf_vocabulary, "_NAMES", names)
    with pytest.raises(ExportError, match=r"(?s)other tokens than training did|otherwise than they were trained"):
        proved(WAYS[way](), tmp_path)


def test_the_rows_are_compared_too_and_the_first_that_differs_is_named(tmp_path):
    """NFC composes what a decomposed text has in two characters; llama.cpp does not. The made-up texts show nothing of it."""
    from tokenizers import normalizers

    tokenizer = byte_level(PUBLISHED["qwen2"])
    tokenizer.normalizer = normalizers.NFC()
    data = tmp_path / "data"
    data.mkdir()
    rows = ["What is a cafe?,A place.", "What is a cafe\u0301?,A place.", "What is a re\u0301sume\u0301?,A paper."]
    (data / "rows.csv").write_text("\n".join(["instruction,output", rows[0]]), encoding="utf-8")
    assert proved(tokenizer, tmp_path / "one", train_data_dir=str(data))[1] == {"telling": 8, "rows": 1}
    (data / "rows.csv").write_text("\n".join(["instruction,output", *rows]), encoding="utf-8")
    with pytest.raises(ExportError, match=r"rows.csv, row 3, from token"):
        proved(tokenizer, tmp_path / "two", train_data_dir=str(data))


# --- what is refused ----------------------------------------------------------------------------------------------------------


def lowercase(tokenizer):
    from tokenizers import normalizers

    tokenizer.normalizer = normalizers.Lowercase()
    return tokenizer


def unigram():
    from tokenizers import Tokenizer, models

    return Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0))


def prefixed(tokenizer):
    from tokenizers import pre_tokenizers

    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer


@pytest.mark.parametrize(
    "make,words",
    [
        (lambda: byte_level(PUBLISHED["qwen2"] + "|x"), ["|x", "merged"]),
        (lambda: byte_level(PUBLISHED["qwen2"], ignore_merges=True), ["ignore_merges"]),
        (lambda: byte_level(DIGITS, plain=True), [r"\p{N}{1,3}"]),
        (lambda: lowercase(byte_level(plain=True)), ["<Lowercase>"]),
        (lambda: prefixed(byte_level(plain=True)), ["add_prefix_space"]),
        (lambda: lowercase(sentence_piece(None)), ["Lowercase"]),
        (unigram, ["Unigram"]),
    ],
    ids=["another expression", "merges", "digits", "normalizer", "blank in front", "of pieces", "kind"],
)
def test_an_unknown_way_is_refused_and_not_guessed(make, words, tmp_path):
    make().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    from loraforge_text.base_files import read_base

    with pytest.raises(ExportError) as error:
        gguf_vocabulary.read_vocabulary(read_base(tmp_path), 10_000, [])
    assert all(word in str(error.value) for word in words)


def test_more_tokens_than_the_embedding_has_rows(tmp_path):
    folder = base_with(byte_level(plain=True), tmp_path)
    config = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    config["model"]["vocab"]["zzz"] = 9_999
    (folder / "tokenizer.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ExportError, match=r"a token of the number 9999, and the embedding \d+ rows"):
        GgufModel.make(served_by(folder), no_adapter(folder), "f16").write(tmp_path / "x.gguf")


@pytest.mark.parametrize(
    "damage,words",
    [(lambda data: data[: len(data) // 2], "does not load the file"), (lambda data: b"nonsense", "does not load the file")],
    ids=["half", "nonsense"],
)
def test_a_file_that_llama_cpp_does_not_load_is_refused(damage, words, tmp_path):
    folder = base_with(byte_level(plain=True), tmp_path)
    of, adapter = served_by(folder), no_adapter(folder)
    GgufModel.make(of, adapter, "f16").write(tmp_path / "x.gguf")
    (tmp_path / "x.gguf").write_bytes(damage((tmp_path / "x.gguf").read_bytes()))
    with pytest.raises(ExportError, match=words):
        gguf_proof.prove(of, adapter, tmp_path / "x.gguf")


def test_without_llama_cpp_the_extra_is_named(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"xllamacpp.*pip install 'loraforge\[gguf\]'"):
        gguf_proof.require_llama_cpp()
