# SPDX-License-Identifier: Apache-2.0
"""What is handed out, with which headers; feedback over HTTP."""

from __future__ import annotations

import json
import re

import pytest
from builders import ROOT
from builders.serving import fake_server
from loraforge_serve.page.routes import POLICY

ASSETS = ROOT / "plugins" / "loraforge_serve" / "page" / "assets"
SAID = {"model": "legal", "question": "q", "answer": "a", "rating": "up"}


@pytest.fixture
def http(tmp_path):
    """``http(feedback=...)``: a client of a server."""
    from fastapi.testclient import TestClient
    from loraforge_serve.app import create_app

    def make(**settings):
        settings = {"feedback": tmp_path / "feedback.jsonl", **settings}
        return TestClient(create_app(fake_server(**settings)), base_url="http://127.0.0.1", raise_server_exceptions=False)

    return make


def test_the_page_is_one_and_small_and_needs_nothing_from_elsewhere(http):
    client = http()
    page = client.get("/")
    assert page.status_code == 200 and page.headers["content-type"] == "text/html; charset=utf-8"
    named = set(re.findall(r'(?:href|src)="(/assets/[\w.]+)', page.text))
    scripts = {f"/assets/{file.name}" for file in ASSETS.glob("*.js")}
    assert named >= {"/assets/page.css", "/assets/page.js", "/assets/icons.svg"}
    for name in named | scripts:
        found = client.get(name)
        assert found.status_code == 200 and found.headers["content-security-policy"] == POLICY, name
        # No address but that of a namespace or a document that a comment cites.
        links = set(re.findall(r"https?://[\w./-]+", found.text)) - {"http://www.w3.org/2000/svg"}
        assert all("doi" in link or "html.spec" in link for link in links), links
    assert sum(file.stat().st_size for file in ASSETS.iterdir()) < 100_000


def test_nothing_inline_and_no_markup_from_text(http):
    page = http().get("/").text
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", page)
    for file in ASSETS.glob("*.js"):
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|eval\(|new Function", file.read_text("utf-8")
        ), file
    policy = dict(part.split(" ", 1) for part in POLICY.split("; "))
    assert policy["default-src"] == "'none'" and policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'" and policy["frame-ancestors"] == "'none'"


def test_only_files_of_the_page_are_handed_out(http):
    client = http()
    for path in (
        "/assets/routes.py",
        "/assets/..%2froutes.py",
        "/assets/../routes.py",
        "/assets/%2e%2e/__init__.py",
        "/assets/",
        "/assets/x.js",
    ):
        assert client.get(path).status_code == 404, path
    assert http(page=False).get("/").status_code == 404


def test_what_has_not_changed_is_not_sent_again(http):
    client = http()
    tag = client.get("/assets/page.js").headers["etag"]
    again = client.get("/assets/page.js", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


def test_the_page_is_told_whether_feedback_is_kept(http):
    assert http().get("/assets/settings.json").json()["feedback"] is True
    client = http(feedback=None)
    assert client.get("/assets/settings.json").json()["feedback"] is False
    refused = client.post("/feedback", json=SAID)
    assert refused.status_code == 404 and "--feedback" in refused.json()["error"]["message"]


def test_feedback_lands_as_a_row(http, tmp_path):
    client = http()
    assert client.post("/feedback", json=SAID).json() == {"kept": True, "learned": True}
    assert client.post("/feedback", json={**SAID, "rating": "down"}).json() == {"kept": True, "learned": False}
    rows = [json.loads(line) for line in (tmp_path / "feedback.jsonl").read_text("utf-8").splitlines()]
    assert [(row["instruction"], row["output"], row["weight"], row["model"]) for row in rows] == [
        ("q", "a", 1, "legal"),
        ("q", "a", 0, "legal"),
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({**SAID, "question": ""}, 422),
        ({"rating": "up"}, 422),
        ([], 422),
        ({**SAID, "answer": "x" * 300_000}, 422),
        ({**SAID, "answer": "\ud800"}, 422),
    ],
)
def test_feedback_that_says_nothing_is_refused_in_words(http, tmp_path, body, status):
    refused = http().post("/feedback", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert refused.status_code == status and len(refused.json()["error"]["message"]) < 500
    assert not (tmp_path / "feedback.jsonl").exists()


def test_pages_of_strangers_cannot_send_feedback_from_a_browser(http):
    assert http().post("/feedback", content=json.dumps(SAID), headers={"Content-Type": "text/plain"}).status_code == 415


def test_a_file_that_cannot_be_written_is_told(http, tmp_path):
    (tmp_path / "gone.jsonl").mkdir()
    refused = http(feedback=tmp_path / "gone.jsonl").post("/feedback", json=SAID)
    assert refused.status_code == 507 and "gone.jsonl" in refused.json()["error"]["message"]


def test_words_are_there_in_both_languages_and_measures_are_called_as_elsewhere():
    text = (ASSETS / "words.js").read_text("utf-8")

    def table(name):
        body = text[text.index(f"const {name} = {{") :].partition("\n};")[0]
        return dict(re.findall(r'^  "?([\w ]+?)"?:\s+"(.*)",$', body, re.MULTILINE))

    english, chinese = table("ENGLISH"), table("CHINESE")
    assert len(english) > 60 and list(english) == list(chinese)
    for key, sentence in english.items():
        assert sorted(re.findall(r"\{\w+\}", sentence)) == sorted(re.findall(r"\{\w+\}", chinese[key])), key
    others = "".join(file.read_text("utf-8") for file in ASSETS.iterdir() if file.name != "words.js")
    assert [key for key in english if f'"{key}"' not in others] == []
    assert set(re.findall(r'\bt\("(\w+)"|data-[tl]="(\w+)"', others)) <= {(k, "") for k in english} | {("", k) for k in english}
    catalogues = [
        json.loads((ROOT / place / "zh.json").read_text("utf-8"))
        for place in ("loraforge", "plugins/loraforge_text", "plugins/loraforge_image")
    ]
    said = re.findall(
        r'^  "?([\w ]+?)"?: \["([^"]*)", "([^"]*)"\],$', text[text.index("const SAID") : text.index("const SHORT")], re.MULTILINE
    )
    measures = [(word, shown) for word, name, shown in said if word == name]
    assert len(measures) >= 10
    for word, shown in measures:
        assert shown in [known.get(word) for known in catalogues], word
