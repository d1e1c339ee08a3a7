# SPDX-License-Identifier: Apache-2.0
"""Which files are read."""

from __future__ import annotations

import errno
import os
import sys
import threading
import zipfile

import pytest

from loraforge import files


def test_an_ordinary_file_is_read(tmp_path):
    (tmp_path / "a").write_bytes("a\r\nb\rc é".encode())
    assert files.read_file(tmp_path / "a") == "a\r\nb\rc é".encode()
    assert files.read_text(tmp_path / "a") == (tmp_path / "a").read_text(encoding="utf-8") == "a\nb\nc é"
    assert files.require_file(tmp_path / "a").st_size == 9
    (tmp_path / "link").symlink_to("a")
    with files.open_file(tmp_path / "link") as file:
        assert file.read(1) == b"a" and file.tell() == 1


@pytest.mark.parametrize("look", [files.require_file, files.open_file, files.read_file, files.read_text])
def test_what_is_no_file_is_told_at_once(tmp_path, look):
    with pytest.raises(FileNotFoundError):
        look(tmp_path / "missing")
    with pytest.raises(OSError, match="^it is no file but a folder$") as error:
        look(tmp_path)
    assert error.value.errno == errno.EISDIR and error.value.filename == str(tmp_path) and error.value.strerror == str(error.value)


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
@pytest.mark.parametrize("look", [files.require_file, files.open_file, files.read_file, files.read_text])
def test_pipes_devices_and_what_the_system_makes_up(tmp_path, look):
    os.mkfifo(tmp_path / "pipe")
    for place, kind in (
        (tmp_path / "pipe", "a pipe"),
        ("/dev/zero", "a device"),
        ("/dev/stdin", "a "),
        ("/proc/self/environ", "that the system"),
    ):
        if place == "/dev/stdin" and not os.path.exists(place):
            continue
        with pytest.raises(OSError, match=f"it is no file but .*{kind}" if kind != "a " else "it is no file but"):
            look(place)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / "inner")
    with pytest.raises(OSError, match="a pipe"):
        files.require_files(tmp_path / "folder")
    (tmp_path / "pipe").unlink()
    with pytest.raises(OSError, match="a pipe"):
        files.require_files(tmp_path)  # a folder below


def test_a_file_that_takes_another_ones_place_between_looking_and_opening(tmp_path, monkeypatch):
    if sys.platform != "linux":
        pytest.skip("of Linux")
    (tmp_path / "a").touch()
    real = files.require_file

    def swapped(path, limit=None):
        told = real(path, limit)
        (tmp_path / "a").unlink()
        os.mkfifo(tmp_path / "a")
        return told

    monkeypatch.setattr(files, "require_file", swapped)
    done = []

    def look():
        with pytest.raises(OSError, match="a pipe"):
            files.read_file(tmp_path / "a")
        done.append(True)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(5)
    assert done == [True]


def test_more_than_the_limit_is_not_read(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 11)
    assert len(files.read_file(tmp_path / "a", 11)) == 11
    with pytest.raises(OSError, match="it has 1 MB; at most 1 MB"):
        files.read_file(tmp_path / "a", 10)


def test_what_comes_out_of_an_archive_is_known_before(tmp_path):
    import io

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("sheet.xml", b"0" * 1_000_000)
        archive.writestr("picture.png", os.urandom(1000))
    assert files.unpacked_size(packed.getvalue()) == 1_000_000
