# SPDX-License-Identifier: Apache-2.0
"""Who is let in, and what a request must bring; every route of the application, those of later steps too."""

from __future__ import annotations

import asyncio
import re
import socket

import pytest
from builders.studios import HOST, Quick
from loraforge_studio.gate import MARK
from loraforge_studio.page.files import HEADERS, page_router
from loraforge_studio.routes import routers
from loraforge_studio.studio import Access
from starlette.requests import Request


@pytest.fixture
def quick(tmp_path):
    return Quick(tmp_path / "home")


def everything(quick):
    """(method, path) of every route, with names in place of parameters."""
    for router in (*routers(quick.studio), page_router()):
        for route in router.routes:
            for method in route.methods:
                yield method, re.sub(r"\{[^}]*\}", "x", route.path)


def test_no_route_answers_a_stranger_and_none_changes_anything_without_the_mark(quick):
    routes = list(everything(quick))
    assert len(routes) > 12 and ("PUT", "/api/works/x/uploads") in routes
    for method, path in routes:
        bare = quick.stranger(method, path)
        open_to_all = path.startswith("/assets/") or path == "/favicon.ico"
        assert bare.status_code == (404 if path.startswith("/assets/") else 200 if open_to_all else 401), (method, path)
        assert all(bare.headers[name] == value for name, value in HEADERS.items() if not open_to_all or name != "Cache-Control")
        if method not in ("GET", "HEAD"):
            for headers in (quick.cookie, {**quick.cookie, MARK: "x"}, {**quick.cookie, MARK: ""}, quick.mark):
                assert quick.stranger(method, path, headers).status_code == (401 if headers is quick.mark else 403), (method, path)
    assert list((quick.studio.folders.home).iterdir()) == [quick.studio.folders.home / ".studio"]


@pytest.mark.parametrize(
    "cookie",
    ["", "x", "a" * 60_000, "loraforge_studio_8060=", "loraforge_studio_8060=\xff\xfe", 'loraforge_studio_8060="\\377\\000"', "loraforge_studio_9=MARK",
     "loraforge_studio=MARK", "=;=;;,", "loraforge_studio_8060=CSRF"],
)  # fmt: skip
def test_a_forged_cookie_lets_nobody_in(quick, cookie):
    said = cookie.replace("MARK", quick.studio.access.mark("cookie")).replace("CSRF", quick.studio.access.mark("csrf"))
    assert quick.stranger("GET", "/api/session", {b"Cookie": said.encode("latin-1")}).status_code == 401


def test_the_token_lets_in_once_and_only_who_has_it(quick, capsys):
    token = quick.studio.access.token
    for wrong in ("", "x", token[:-1], token + "x", "%E4%B8%AD%E6%96%87", "%FF", "%00", "x" * 50_000, f"{token}&a=b", f" {token}"):
        answer = quick.stranger("GET", f"/?token={wrong}")
        assert answer.status_code == 401 and "set-cookie" not in answer.headers and "used already" in answer.text, wrong
        assert '<html lang="en">' in answer.text and "script" not in answer.text
    assert quick.stranger("GET", "/?token=\xe4".encode("latin-1").decode("latin-1")).status_code == 401
    assert quick.stranger("HEAD", f"/?token={token}").status_code == 401  # whoever previews links does not use it up
    answer = quick.stranger("GET", f"/?token={token}")
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    assert all(part in cookie for part in ("loraforge_studio_8060=", "HttpOnly", "SameSite=strict"))
    assert token not in cookie and quick.studio.access.token != token
    assert quick.studio.access.token in capsys.readouterr().out  # for another browser
    assert quick.stranger("GET", f"/?token={token}").status_code == 401
    assert quick.ask("GET", f"/?token={token}").status_code == 303  # this browser is in: its bookmark leads home
    assert quick.stranger("GET", "/", {"Cookie": cookie.partition(";")[0]}).status_code == 200


def test_who_follows_a_link_from_a_page_elsewhere_comes_in_as_well(quick):
    """Browsers keep a strict cookie back while they are sent on from there; a page that goes on by itself is the studio's own."""
    came = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    for path in (f"/?token={quick.studio.access.token}", "/"):
        answer = quick.stranger("GET", path, came)
        assert answer.status_code == 200 and 'http-equiv="refresh" content="0;url=/"' in answer.text
    assert quick.stranger("GET", "/", {"Sec-Fetch-Site": "same-origin"}).status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8060", "127.0.0.1", "127.0.0.1:80", "127.0.0.2:8060", "0.0.0.0:8060", "[::1]:8060", "localhost", "",
             "127.0.0.1:8060.evil.example", "127.0.0.1:8060@evil.example", "127.0.0.1:8060,evil.example", " ", "\xff", "localhost.:8060"]
)  # fmt: skip
def test_a_name_that_is_not_the_studios_is_refused(quick, host):
    for path in ("/", "/assets/app.js", "/api/session", f"/?token={quick.studio.access.token}"):
        answer = quick.ask("GET", path, headers={b"Host": host.encode("latin-1")})
        assert answer.status_code == 421 and "mark" not in answer.json(), path
    assert quick.ask("GET", "/api/session", headers={"Host": "LOCALHOST:8060"}).status_code == 200


def test_a_request_without_a_host_or_with_two_is_refused(quick):
    def status(*hosts):
        sent = []
        scope = {"type": "http", "method": "GET", "path": "/api/session", "query_string": b"", "root_path": "", "scheme": "http",
                 "http_version": "1.0", "headers": [*((b"host", host) for host in hosts), (b"cookie", quick.cookie["Cookie"].encode())]}  # fmt: skip

        async def send(message):
            sent.append(message)

        async def receive():
            return {"type": "http.request"}

        asyncio.run(quick.app(scope, receive, send))
        return sent[0]["status"]

    good = HOST.encode()
    assert [status(), status(good, b"evil"), status(b"evil", good), status(good, good), status(good)] == [421, 421, 421, 421, 200]


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "null"}, {"Origin": ""}, {"Origin": "http://evil.example"}, {"Origin": "https://127.0.0.1:8060"}, {"Origin": "http://127.0.0.1:8061"},
     {"Origin": "http://localhost:8060"}, {"Origin": "http://[::1"}, {"Origin": "http://127.0.0.1:8060/"}, {"Origin": "\x7f\xff"},
     {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "?"}, {"Sec-Fetch-Site": ""}],
)  # fmt: skip
def test_pages_of_strangers_may_not_ask_even_with_all_that_the_browser_has(quick, headers):
    sent = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    for method, path in (("GET", "/api/session"), ("POST", "/api/language"), ("PUT", "/api/works/x/uploads?path=a")):
        assert quick.ask(method, path, headers=sent, json={"language": "en"} if method == "POST" else None).status_code == 403
    assert quick.studio.language == "en"
    good = {"Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin"}
    assert quick.ask("GET", "/api/session", headers=good).json()["mark"] == quick.studio.access.mark("csrf")


def test_a_websocket_is_closed(quick):
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(quick.app({"type": "websocket", "path": "/", "headers": []}, None, send))
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_odd_requests_are_told_in_sentences_and_a_bug_is_not_shown(quick):
    asked = quick.ask("POST", "/api/language", content=b"[[" * 10, headers={"Content-Type": "application/json"})
    assert asked.status_code == 400 and asked.json()["problems"]
    for body in ({"language": "xx"}, {"language": None}, [], "x"):
        assert quick.ask("POST", "/api/language", json=body).status_code == 400
    assert quick.ask("POST", "/api/works", content=b"", headers={"Content-Length": "99999999999"}).status_code == 413
    assert quick.ask("POST", "/api/works", headers={b"Content-Length": b"\xb2"}).status_code == 413
    assert quick.ask("GET", "/api/nothing%1b[0m%0d%0aX: y").json()["problems"] == ["there is nothing at /api/nothing\\u001b[0m\nX: y."]
    assert quick.ask("DELETE", "/api/session").status_code == 405

    @quick.app.get("/api/bug")
    def bug():
        raise RuntimeError("secret")

    answer = quick.ask("GET", "/api/bug")
    assert answer.status_code == 500 and "secret" not in answer.text and answer.headers["x-content-type-options"] == "nosniff"


def test_assets_are_handed_out_by_name_and_an_editors_copy_breaks_nothing(quick, monkeypatch):
    from loraforge_studio.page import files

    for path in (
        "/assets/../files.py",
        "/assets/..%2ffiles.py",
        "/assets/%2e%2e/files.py",
        "/assets//etc/passwd",
        "/assets/",
        "/assets/vendor",
    ):
        assert quick.ask("GET", path).status_code == 404, path
    found = quick.stranger("GET", "/assets/app.js")
    assert found.headers["content-type"] == "text/javascript; charset=utf-8"
    assert quick.stranger("GET", "/assets/app.js", {"If-None-Match": found.headers["etag"]}).status_code == 304
    monkeypatch.setattr(files, "_walk", lambda folder, before: [("app.js~", b""), (".DS_Store", b""), ("noend", b""), ("a.css", b"x")])
    assert list(files.assets.__wrapped__()) == ["a.css"]


def test_the_secret_is_for_its_owner_only_and_stays(tmp_path):
    first = Access(tmp_path)
    file = tmp_path / ".studio" / "session"
    assert file.stat().st_mode & 0o777 == 0o600
    assert Access(tmp_path).mark("cookie") == first.mark("cookie") and Access(tmp_path).token != first.token
    assert first.mark("cookie") != first.mark("csrf")
    for spoil in (lambda: file.chmod(0o644), lambda: file.write_text("short"), lambda: file.write_bytes(b"\xff" * 50), file.unlink):
        before = Access(tmp_path).mark("cookie")
        spoil()
        assert Access(tmp_path).mark("cookie") != before and file.stat().st_mode & 0o777 == 0o600


def test_it_listens_on_this_computer_only(studio):
    running = studio()
    port = int(running.address.rpartition(":")[2])
    assert running.address == f"http://127.0.0.1:{port}"
    with open("/proc/net/tcp", encoding="ascii") as file:
        listening = [line.split()[1] for line in file if line.split()[3] == "0A" and int(line.split()[1].rpartition(":")[2], 16) == port]
    assert listening == [f"0100007F:{port:04X}"]
    with open("/proc/net/tcp6", encoding="ascii") as file:
        assert not [line for line in file if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"]
    for said in (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET / HTTP/1.1\r\nHost: \xff\xff\r\n\r\n",
                 b"\x16\x03\x01\x02\x00", b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n"):  # fmt: skip
        with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
            line.sendall(said)
            line.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while piece := line.recv(65536):
                    answer += piece
            except ConnectionResetError:
                pass
        assert b" 200 " not in answer and b"LoRAForge" not in answer, said[:40]
    assert running.process.poll() is None


def test_a_line_of_events_that_is_taken_up_says_what_it_heard_last(quick):
    heard = []

    @quick.app.get("/api/echo")
    def echo(request: Request):
        heard.append(request.headers.get("last-event-id"))

    for query, headers in (("?last-event-id=run-12", {}), ("?last-event-id=1", {"Last-Event-ID": "2"}), ("", {})):
        quick.ask("GET", f"/api/echo{query}", headers=headers)
    assert heard == ["run-12", "2", None]
