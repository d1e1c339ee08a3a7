# SPDX-License-Identifier: Apache-2.0
"""Who asked which adapter with which seal."""

from __future__ import annotations

import hashlib
import json

from builders.serving import client_of, fake_server
from loraforge_serve.access.audit_log import AuditLog


def ask(server, text="a secret of Ms. Li"):
    client_of(server).chat.completions.create(model="legal", messages=[{"role": "user", "content": text}])


def lines_of(file):
    return [line for line in file.read_text(encoding="utf-8").splitlines() if line]


def test_each_answer_is_a_line_with_its_seal_and_without_the_question(tmp_path):
    server = fake_server(audit=AuditLog(tmp_path / "a.jsonl"))
    ask(server)
    told = json.loads(lines_of(tmp_path / "a.jsonl")[0])
    assert (told["what"], told["model"], told["version"], told["seal"], told["complete"]) == ("answer", "legal", "legal.1", "ab" * 32, True)
    assert told["tokens"]["completion_tokens"] == len("legal.1 heard: a secret of Ms. Li")
    assert "secret" not in json.dumps(told)


def test_questions_are_written_only_if_somebody_asked_for_that(tmp_path):
    ask(fake_server(audit=AuditLog(tmp_path / "a.jsonl", prompts=True)))
    assert json.loads(lines_of(tmp_path / "a.jsonl")[0])["messages"][0]["content"] == "a secret of Ms. Li"


def test_the_log_is_continued_and_every_line_names_the_one_before(tmp_path):
    for _ in range(2):  # the server is started twice
        log = AuditLog(tmp_path / "a.jsonl")
        ask(fake_server(audit=log))
        ask(fake_server(audit=log))
        log.close()
    lines = lines_of(tmp_path / "a.jsonl")
    hashes = [None, *(hashlib.sha256(line.encode()).hexdigest() for line in lines)]
    assert [json.loads(line)["before"] for line in lines] == hashes[:-1]
