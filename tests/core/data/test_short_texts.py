# SPDX-License-Identifier: Apache-2.0
"""Captions of one folder are told apart together, in the encodings in which people keep them."""

from __future__ import annotations

import pytest

from loraforge import decode_texts

CAPTIONS = {
    "gb18030": ["红色连衣裙的女孩，雨夜", "猫", "霓虹灯下的街道"],
    "big5": ["藍色頭髮的少女", "貓", "夜晚的街道，霓虹燈"],
    "cp932": ["青い髪の少女、制服", "猫", "夜の街"],
    "euc_kr": ["파란 머리 소녀, 교복", "밤", "긴 치마를 입은 여자"],
    "cp1252": ["Größe, schöner Hund", "né", "a woman’s dress – red"],
    "utf-16": ["a cat", "红色的裙子", "naïve"],
    "utf-16-le": ["a cat, sitting", "红色的裙子", "红色，雨夜"],
}


@pytest.mark.parametrize("encoding", CAPTIONS)
def test_each_caption_of_a_folder_is_what_it_was(encoding):
    texts = {f"{i}.txt": text for i, text in enumerate(CAPTIONS[encoding])}
    read = decode_texts({name: text.encode(encoding) for name, text in texts.items()})
    assert {name: text.removeprefix("\ufeff") for name, text in read.texts.items()} == texts and not read.problems
    assert any("captions are read as" in note and '"' in note for note in read.notes)


@pytest.mark.parametrize("text", ["a woman’s dress, red", "1girl, “quoted”, smile", "a knight – in armour", "café"])
def test_mostly_ascii_with_one_mark_of_windows(text):
    assert decode_texts({"a.txt": text.encode("cp1252")}).texts == {"a.txt": text}


def test_utf8_stays_what_it_is_beside_others():
    texts = {"a": "café", "b": "naïve мяч", "c": "Größe", "d": "雨夜", "e": "παλιά πόλη"}
    data = {name: text.encode() for name, text in texts.items()} | {"f": "第五张图，雨夜".encode("gb18030")}
    read = decode_texts(data)
    assert read.texts == {**texts, "f": "第五张图，雨夜"} and len(read.notes) <= 2


def test_letters_of_two_scripts_side_by_side_are_no_utf8():
    data = "一只猫".encode("gb18030")
    assert data.decode("utf-8") == "\u04bb\u05bb\u00e8"
    assert decode_texts({"a.txt": data}).texts == {"a.txt": "一只猫"}


@pytest.mark.parametrize("data", ["привет, мир".encode("cp1251"), b"\xff\xff\xff", b"\xff\xfe\x00\xff", b"a\0b"])
def test_what_cannot_be_told_is_refused_with_its_name(data):
    read = decode_texts({"a.txt": data, "b.txt": b"a cat"})
    assert list(read.texts) == ["b.txt"] and read.problems["a.txt"].startswith("a.txt:")


def test_an_encoding_that_is_given_is_taken():
    assert decode_texts({"a": "привет".encode("cp1251")}, "cp1251").texts == {"a": "привет"}
    assert "knows no encoding 'x'" in decode_texts({"a": b"b"}, "x").problems["a"]
