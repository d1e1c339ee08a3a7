# SPDX-License-Identifier: Apache-2.0
"""Where a path may lead, what a name may be, and what becomes of files that are brought."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from builders.studios import Quick
from hypothesis import given, settings
from hypothesis import strategies as st
from loraforge_studio.problems import Refused
from loraforge_studio.work.folders import Folders, safe_name


@pytest.fixture
def quick(tmp_path):
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "secret.txt").write_text("secret")
    return Quick(tmp_path / "home", [tmp_path / "allowed"], upload=1000)


PARTS = st.sampled_from(
    [
        "..",
        ".",
        "/",
        "\\",
        "~",
        "CON",
        "com1",
        "COM¹",
        "nul.txt",
        ".hidden",
        "-rf",
        "$(x)",
        "a" * 200,
        "猫" * 60,
        "é",
        "\0",
        "\u202e",
        "\ud800",
        " ",
        ":",
        "aux",
    ]
)


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.text(max_size=300), st.lists(st.one_of(PARTS, st.text(max_size=5)), max_size=8).map("".join)))
def test_a_safe_name_is_safe_and_stays_as_it_is(text):
    name = safe_name(text)
    assert safe_name(name) == name
    if not name:
        return
    assert Path(name).name == name and not re.search(r'[\\/<>:"|?*\0-\x1f\x7f\u200b-\u200f\u202a-\u202e]', name)
    assert name[0] not in ".- " and name[-1] not in ". " and len(name.encode()) <= 120
    stem = name.split(".")[0].strip().lower()
    assert stem not in {"con", "prn", "aux", "nul", "com1", "com¹", "lpt9", "conin$"}


def test_names_that_people_give_stay():
    for name in (
        "Verträge 2026.xlsx",
        "劳动合同（第二版）.docx",
        "a.b.c.png",
        "😀.png",
        "O'Brien & Söhne; #1.csv",
        "no ending",
        "x" * 115 + ".png",
    ):
        assert safe_name(name) == name


ODD = ["..", "../secret.txt", "../../secret.txt", "w/../../secret.txt", "/etc/passwd", "//etc/passwd", "\\\\server\\share", "C:\\Windows", "C:/x", "~/x",
       "a\0b", "x" * 5000, "/".join(["y"] * 3000), "x" * 300, ".studio/session", "../.studio/session", "w/.studio/../../.studio/session", "link/secret.txt",
       "file:///etc/passwd", "uploads/link", "\ud800", "loop/x", "%2e%2e/secret.txt", "..\\secret.txt"]  # fmt: skip


def test_no_path_leads_out_of_the_folders(quick, tmp_path):
    work = quick.work("w")
    work.uploads.mkdir()
    (work.folder / "link").symlink_to(tmp_path)
    (work.uploads / "link").symlink_to(tmp_path / "secret.txt")
    (work.folder / "loop").symlink_to("loop")
    for path in [
        *ODD,
        str(tmp_path / "secret.txt"),
        str(tmp_path / "allowed" / ".." / "secret.txt"),
        str(tmp_path / "allowedx"),
        str(tmp_path),
    ]:
        for near in (work, None):
            try:
                place = quick.studio.folders.inside(path, near)
            except Refused as refused:
                assert refused.status == 403
                continue
            assert place.is_relative_to(quick.studio.folders.home) and (place == quick.studio.folders.home or not place.exists()), path
        sent = path.encode("utf-8", "replace").decode()
        for asked in (f"/api/works/{work.name}/file", "/api/browse", f"/api/works/{work.name}/curve"):
            answer = quick.ask("GET", asked, params={"path": sent, "run": sent})
            assert answer.status_code in (400, 403, 404) or answer.json().get("steps", 0) == 0, (asked, path)
            assert "secret" not in answer.text.replace("secret.txt", "") and "mark" not in answer.text
    assert quick.ask("GET", "/api/works/w/file", params={"path": str(tmp_path / "allowed" / "picture.png")}).content == b"\x89PNG"


def test_the_secret_is_in_no_folder_even_where_all_around_it_may_be_read(tmp_path):
    quick = Quick(tmp_path / "home", [tmp_path])
    for path in (tmp_path / "home" / ".studio" / "session", tmp_path / "home" / ".studio"):
        assert quick.ask("GET", "/api/browse", params={"path": str(path)}).status_code == 403
        assert quick.ask("GET", "/api/works/w/file", params={"path": str(path)}).status_code == 404  # no such work
        with pytest.raises(Refused):
            quick.studio.folders.inside(path)


@pytest.mark.parametrize("name", ["..", ".", "", ".studio", "a/b", "a\\b", "..%2fx", "%00", "x" * 300, "link", "C:", "-x", "nul"])
def test_a_work_has_a_plain_name_and_is_no_link(quick, tmp_path, name):
    quick.work("w")
    (quick.studio.folders.home / "link").symlink_to(tmp_path)
    with pytest.raises(Refused):
        quick.studio.folders.work(name)
    assert quick.ask("GET", f"/api/works/{name.replace('/', '%2F')}").status_code in (200, 404, 405)
    assert [work["name"] for work in quick.ask("GET", "/api/works").json()] == ["w"]


def test_works_of_any_name_are_begun_beside_each_other(quick):
    names = [
        quick.ask("POST", "/api/works", json={"name": name, "task": "text"}).json()["name"]
        for name in ("a", "a", "../../etc", "", "-rf", "CON")
    ]
    assert names == ["a", "a-2", "etc", "work", "rf", "_CON"]
    assert quick.ask("POST", "/api/works", content=b'{"name": "\\ud800"}').status_code == 400
    shutil.rmtree(quick.studio.folders.home / "a")
    assert quick.ask("GET", "/api/works/a").json()["problems"] == [f"there is no work 'a' in {quick.studio.folders.home}."]
    assert "a" not in [work["name"] for work in quick.ask("GET", "/api/works").json()]


def put(quick, path, data=b"data", **options):
    return quick.ask("PUT", "/api/works/w/uploads", params={"path": path}, content=data, **options)


def brought(work):
    return {place.relative_to(work.folder).as_posix(): place.read_bytes() for place in work.uploads.rglob("*") if place.is_file()}


def test_what_is_brought_is_kept_as_it_was_and_never_written_over(quick):
    work = quick.work("w")
    assert put(quick, "Table.csv").json() == {"path": "uploads/Table.csv", "bytes": 4}
    assert put(quick, "Table.csv").status_code == 201  # the same once more
    refused = put(quick, "Table.csv", b"other")
    assert refused.status_code == 409 and "already with other contents" in refused.json()["problems"][0]
    assert put(quick, "folder/a.png").status_code == 201
    for path, why in (("folder", "a folder has its name"), ("Table.csv/b", "a file has the name of its folder")):
        answer = put(quick, path)
        assert answer.status_code == 409 and why in answer.json()["problems"][0]
    assert brought(work) == {"uploads/Table.csv": b"data", "uploads/folder/a.png": b"data"}
    assert quick.ask("GET", "/api/works/w/uploads").json()["count"] == 2


def test_hostile_names_do_nothing(quick, tmp_path):
    work = quick.work("w")
    for path in ["", "/", "..", "...", "\0", "/".join("abcdefghijklmnop"), "a/ /b"]:
        assert put(quick, path).status_code == 400, path
    for path in [
        "../../../x",
        "/etc/x",
        "C:\\x\\y",
        "\\\\server\\share\\f",
        "a\0b",
        "x" * 5000,
        "CON",
        ".bashrc",
        "-rf",
        "$(touch pwned)`id`",
        "<img src=x>.png",
    ]:
        assert put(quick, path).status_code == 201, path
    (work.uploads / "out").symlink_to(tmp_path)
    assert put(quick, "out/secret.txt", b"x").status_code == 409 and put(quick, "out/new", b"x").status_code == 409
    assert (tmp_path / "secret.txt").read_text() == "secret" and not (tmp_path / "new").exists()
    for place in brought(work):
        assert all(part == safe_name(part) for part in place.split("/"))
    assert {one.name for one in tmp_path.iterdir()} == {"home", "allowed", "secret.txt"}


def test_uploads_are_limited_and_half_of_one_leaves_nothing(quick):
    work = quick.work("w")
    assert put(quick, "a", b"x" * 1001).status_code == 413  # announced

    async def pieces():
        for _ in range(11):
            yield b"x" * 100

    for content, status in ((pieces(), 413), (pieces(), 413)):  # not announced
        answer = put(quick, "a", content)
        assert answer.status_code == status and "larger than" in answer.json()["problems"][0]
    assert put(quick, "a", b"x", headers={"Content-Length": "1001"}).status_code == 413

    def broken_off():
        sent, heard = [], [{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}]
        headers = [
            (b"host", b"127.0.0.1:8060"),
            *((name.lower().encode(), value.encode()) for name, value in {**quick.cookie, **quick.mark}.items()),
        ]
        scope = {"type": "http", "method": "PUT", "path": "/api/works/w/uploads", "query_string": b"path=a", "root_path": "", "scheme": "http",
                 "http_version": "1.1", "headers": headers}  # fmt: skip

        async def receive():
            return heard.pop(0)

        async def send(message):
            sent.append(message)

        asyncio.run(quick.app(scope, receive, send))
        return sent[0]["status"]

    assert broken_off() == 400
    assert list(work.uploads.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", home], capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        full_disk(home)
    finally:
        subprocess.run(["umount", "-l", home], check=True)


def test_a_disk_that_refuses_is_told_and_leaves_what_was_there(tmp_path, monkeypatch):
    """As above where nothing can be mounted."""
    quick = Quick(tmp_path / "home")
    work = quick.work("w")

    def refuse(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    work.config.write_text("epochs: 1\n")
    monkeypatch.setattr(os, "fsync", refuse)
    for answer in (put(quick, "a"), quick.ask("PUT", "/api/works/w/config", json={"values": {"epochs": 2}})):
        assert answer.status_code == 507 and "No space left" in answer.json()["problems"][0]
    assert work.config.read_text() == "epochs: 1\n" and list(work.uploads.iterdir()) == []
    assert not [one for one in work.folder.iterdir() if one.name.startswith(".w")]


def full_disk(home):
    quick = Quick(home)
    work = quick.work("w")
    work.config.write_text("epochs: 1\n")
    assert put(quick, "first").status_code == 201
    for answer in (put(quick, "big", b"x" * 500_000), put(quick, "big/er", b"x" * 500_000)):
        assert answer.status_code == 507 and "No space left" in answer.json()["problems"][0]
    with (home / "ballast").open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(b"x" * 4096)
    for answer in (
        put(quick, "more"),
        quick.ask("PUT", "/api/works/w/config", json={"text": "#" * 9000}),
        quick.ask("POST", "/api/works", json={"name": "n"}),
    ):
        assert answer.status_code == 507 and "No space left" in answer.json()["problems"][0], answer.text
    assert work.config.read_text() == "epochs: 1\n" and brought(work) == {"uploads/first": b"data"}
    with pytest.raises(Refused, match="No space left"):
        quick.studio.start(work, "check", ["list"])
    assert quick.studio.jobs.of(work) == []
    assert quick.ask("GET", "/api/works").json()[0]["name"] == "w"


def test_files_are_handed_out_as_pictures_or_text_and_never_run(quick):
    work = quick.work("w")
    work.uploads.mkdir()
    hostile = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    kinds = {"a.svg": "text/plain", "a.html": "text/plain", "a.js": "text/plain", "a.xml": "text/plain", "a.pdf": "text/plain", "none": "text/plain",
             "a.PNG": "image/png", "a.jpg": "image/jpeg", "a.webp": "image/webp", "a.avif": "image/avif", "a.svgz": "text/plain", "a.xhtml": "text/plain"}  # fmt: skip
    for name, kind in kinds.items():
        (work.uploads / name).write_bytes(hostile)
        answer = quick.ask("GET", "/api/works/w/file", params={"path": f"uploads/{name}"})
        assert answer.headers["content-type"].startswith(kind) and answer.content == hostile, name
        assert (
            answer.headers["x-content-type-options"] == "nosniff"
            and answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        )
        again = quick.ask("GET", "/api/works/w/file", params={"path": f"uploads/{name}"}, headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304
    assert quick.ask("GET", "/api/works/w/file", params={"path": "uploads"}).status_code == 404
    os.mkfifo(work.uploads / "pipe")
    assert quick.ask("GET", "/api/works/w/file", params={"path": "uploads/pipe"}).status_code == 404


def test_browsing_shows_what_is_there_whatever_it_is_called(quick, tmp_path, monkeypatch):
    place = tmp_path / "allowed"
    (place / "sub").mkdir()
    (place / ".hidden").touch()
    (place / "dead").symlink_to("nowhere")
    os.mknod(os.fsencode(place) + b"/caf\xe9.png")
    answer = quick.ask("GET", "/api/browse", params={"path": str(place)}).json()
    assert [one["name"] for one in answer["folders"]] == ["sub"] and [one["name"] for one in answer["files"]] == [
        "caf\\udce9.png",
        "picture.png",
    ]
    assert answer["more"] == 0
    monkeypatch.setattr("loraforge_studio.routes.bringing._MOST", 2)
    assert quick.ask("GET", "/api/browse", params={"path": str(place)}).json()["more"] == 2
    roots = quick.ask("GET", "/api/browse").json()["folders"]
    assert [one["path"] for one in roots] == [str(quick.studio.folders.home), str(place)]
    shutil.rmtree(place)
    answer = quick.ask("GET", "/api/browse", params={"path": str(place)})
    assert answer.status_code == 404 and answer.json()["problems"] == [f"{place} cannot be read: No such file or directory."]


def test_a_config_that_is_no_text_or_gone_is_told(quick):
    work = quick.work("w")
    assert quick.ask("PUT", "/api/works/w/config", json={"values": {"epochs": 2}}).status_code == 409
    work.config.write_bytes("output_dir: caf\xe9".encode("latin-1"))
    assert quick.ask("GET", "/api/works/w").json()["config"] == "output_dir: caf\ufffd"  # it can be looked at
    answer = quick.ask("PUT", "/api/works/w/config", json={"values": {"epochs": 2}})
    assert answer.status_code == 422 and "is not UTF-8 (byte 15)" in answer.json()["problems"][0]
    work.config.write_text("epochs: 1\n# mine\n")
    quick.ask("PUT", "/api/works/w/config", json={"values": {"epochs": 2, "seed": 7}})
    assert work.config.read_text() == "epochs: 2\n# mine\nseed: 7\n"
    assert [line for line in (work.folder / "commands.sh").read_text().splitlines() if "w.yaml" in line] == [
        "# w.yaml: epochs: 2",
        "# w.yaml: seed: 7",
    ]


def test_the_folder_of_the_studio_may_be_a_link_and_others_must_be_there(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    folders = Folders(tmp_path / "link")
    assert folders.home == tmp_path / "real" and folders.new("a").folder == tmp_path / "real" / "a"
