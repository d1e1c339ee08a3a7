# SPDX-License-Identifier: Apache-2.0
"""Streams of sectors that lead back to themselves: a reader that follows them without counting fills the memory."""

from __future__ import annotations

import struct

import pytest
from builders import office
from builders.text_data import load, problems
from loraforge_text.data.readers.workbooks.compound_file import CompoundFile, Endless, refuse_endless

# In the sound file the workbook lies in the sectors 0 to 7, its table of links in 8 and its directory in 9.
WORKBOOK, TABLE, DIRECTORY = 0, 8, 9
END = 0xFFFFFFFE


def linked(data: bytes, links: dict[int, int]) -> bytes:
    """The file with other links: from sector to sector."""
    changed = bytearray(data)
    for start, end in links.items():
        struct.pack_into("<I", changed, (TABLE + 1) * 512 + 4 * start, end)
    return bytes(changed)


@pytest.fixture
def sound(tmp_path) -> bytes:
    return office.xls(tmp_path / "sound.xls").read_bytes()


@pytest.mark.parametrize(
    "links",
    [{DIRECTORY: DIRECTORY}, {WORKBOOK: WORKBOOK}, {7: 3}, {WORKBOOK: 5, 5: WORKBOOK}, {DIRECTORY: WORKBOOK, 7: DIRECTORY}],
    ids=str,
)
def test_what_has_no_end_is_refused_before_a_library_reads_it(tmp_path, sound, links, monkeypatch):
    monkeypatch.setattr("python_calamine.load_workbook", lambda *given: pytest.fail("it would not come back"))
    (tmp_path / "d.xls").write_bytes(linked(sound, links))
    assert "d.xls: is no readable Excel file (.xls): its sectors lead back to themselves." in problems(tmp_path / "d.xls")[0]


def test_a_list_of_tables_without_an_end(sound):
    changed = bytearray(sound) + struct.pack("<128I", *[END] * 127, 10)  # sector 10 names itself as the next list
    struct.pack_into("<I", changed, 68, 10)
    with pytest.raises(Endless):
        refuse_endless(bytes(changed))


def test_what_ends_is_left_to_the_library(tmp_path, sound):
    assert CompoundFile(sound).names == ("workbook",) and len(CompoundFile(sound).read("workbook")) == 4096
    assert len(load(tmp_path / "sound.xls")[0]) == 5
    for data in (b"", b"no such file", sound[:600], sound[: len(sound) // 2], linked(sound, {7: 70}), linked(sound, {7: END})):
        refuse_endless(data)


# What a download leaves that broke off. The library for it is written in Rust, and panics at most of these ends.
@pytest.mark.parametrize("lost", [98, 292, 486, 583, 971, 1068, 1456, 5000], ids=str)
def test_a_file_that_ends_early_is_refused_in_one_sentence(tmp_path, sound, lost):
    (tmp_path / "d.xls").write_bytes(sound[:-lost])
    (said,) = problems(tmp_path / "d.xls")
    assert "d.xls: is no readable Excel file (.xls): " in said and "\n" not in said
