# SPDX-License-Identifier: Apache-2.0
"""New files are whole, and never in the place of another."""

from __future__ import annotations

import pytest

from loraforge import ConfigError
from loraforge.starting import writing


def test_a_file_is_written_into_a_folder_that_is_made(tmp_path):
    writing.new_file(tmp_path / "新 文件夹" / "my.yaml", "a: 1\n")
    assert (tmp_path / "新 文件夹" / "my.yaml").read_text(encoding="utf-8") == "a: 1\n"
    assert [path.name for path in (tmp_path / "新 文件夹").iterdir()] == ["my.yaml"]


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_nothing_is_overwritten(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(writing.os, "link", lambda *names: (_ for _ in ()).throw(OSError(1, "no links")))
    writing.new_file(tmp_path / "my.yaml", "old\n")
    with pytest.raises(ConfigError, match=r"my\.yaml exists already; nothing was written"):
        writing.new_file(tmp_path / "my.yaml", "new\n")
    assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [("my.yaml", "old\n")]


def test_a_copy_of_a_folder_is_whole_or_not_there(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.txt").write_text("x", encoding="utf-8")
    writing.new_copy(tmp_path / "a", tmp_path / "c" / "a")
    assert (tmp_path / "c" / "a" / "b" / "x.txt").read_text(encoding="utf-8") == "x"
    with pytest.raises(ConfigError, match="exists already"):
        writing.new_copy(tmp_path / "a", tmp_path / "c" / "a")
    monkeypatch.setattr(writing.shutil, "copyfile", lambda *names: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ConfigError, match="nothing can be written in .*No space left"):
        writing.new_copy(tmp_path / "a", tmp_path / "d" / "a")
    assert list((tmp_path / "d").iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="file is a file, and a folder is needed there"):
        writing.require_room(tmp_path / "file" / "inner")
