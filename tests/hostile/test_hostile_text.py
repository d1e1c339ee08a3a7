# SPDX-License-Identifier: Apache-2.0
"""Rows, names and answers of hostile origin, through all commands: nothing that is printed or reported is obeyed by whoever shows it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from builders.tiny_text import make_base, write_config

from loraforge.errors import printable

pytestmark = pytest.mark.skipif(os.name == "nt", reason="names that Windows does not allow")
EVIL = "条款$(touch X)`touch X`; touch X | 'q' \"d\" !! “乙” \x1b[31m\x9b2J\x07\u202eabc\u2066\x00\u200b=1+1"
NAME = "-r $(touch X)`touch X`;'\"!\x1b[31m\u202e\n名"  # of a folder
STUB = '#!/bin/sh\nexec \'%s\' -c \'import os,sys;open(os.environ["LOG"],"ab").write(b"\\0".join(map(os.fsencode,sys.argv[1:]))+b"\\n\\n")\' "$@"\n'


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of a hostile name with a base and hostile rows in it."""
    place = tmp_path_factory.mktemp("hostile") / NAME
    make_base(place / "base")
    (place / "data").mkdir()
    lines = [json.dumps({"instruction": f"-{i}{EVIL}", "output": f"答案{i}{EVIL}可能也许"}) for i in range(12)]
    (place / "data" / "rows\x1b[31m\u202e.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (place / "words.txt").write_text("[hedging]\n答案\n", encoding="utf-8")
    return place


def config_of(place: Path, **more) -> Path:
    values = {"train_data_dir": str(place / "data"), "base_model": str(place / "base"), "output_dir": str(place / "out"), "lora_rank": 2,
              "epochs": 1, "save_steps": 0, "eval_answers": False, "export": ["peft", "merged"], "stop_on": "never",
              "word_list": str(place / "words.txt"), "system_prompt": EVIL.replace("\x00", "")}  # fmt: skip
    return write_config(place / "c.yaml", **values, **more)


@pytest.fixture(scope="module")
def printed(place):
    """What ``train`` printed."""
    import contextlib
    import io

    from loraforge.cli.main import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), contextlib.suppress(SystemExit):
        main(["train", "text", "-v", str(config_of(place))])
    assert "Next:" in out.getvalue(), out.getvalue()
    return out.getvalue()


def test_what_train_prints_can_be_pasted(place, printed, tmp_path):
    assert printable(printed) == printed
    for name in ("loraforge", "tensorboard", "vllm", "transformers", "python"):
        stub = tmp_path / "bin" / name
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(STUB % sys.executable)
        stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    lines = [line.removeprefix("  ") for line in printed.partition("Next:\n")[2].rstrip("\n").split("\n")]
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(["sh", "-c", "\n".join(lines)], capture_output=True, cwd=work, check=False,
                          env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "LOG": str(tmp_path / "log")})  # fmt: skip
    assert list(work.iterdir()) == [] and done.stderr == b"" and done.returncode == 0
    calls = [[os.fsdecode(word) for word in call.split(b"\0")] for call in (tmp_path / "log").read_bytes().split(b"\n\n") if call]
    run = str(place / "out")
    assert (
        calls[0][:4] == ["sample", run, "--base", "--"]
        and calls[0][4].startswith("-")
        and "$(touch X)" in calls[0][4]
        and len(calls[0]) == 5
    )
    assert calls[1] == ["--logdir", f"{run}/tensorboard"]
    served = [call for call in calls if call[0] == "serve"]
    assert (
        served[0][served[0].index("--lora-modules") + 1] == f"out={run}/export/peft"
        and served[1:] == [["serve", f"{run}/export/merged"]] * 2
    )


COMMANDS = (
    ("check", "text", "CONFIG", "--show", "20"), ("check", "text", "CONFIG", "--show", "20", "--json"), ("check", "text", "CONFIG", "--set", f"x{EVIL}=1".replace("\x00", "")),
    ("check", "text", "CONFIG", "--report", "R.csv", "--report", "R.html"), ("sample", "RUN", EVIL.replace("\x00", ""), "--base", "--max-tokens", "4"),
    ("sample", "RUN", "x", "--json", "--max-tokens", "4"), ("runs", "PLACE"), ("runs", "RUN"), ("verify", "RUN"), ("verify", "RUN", "--json"), ("card", "RUN"),
    ("export", "RUN", "--to", "peft", "--out", "OUT"), ("export", "RUN", "--to", "peft", "--out", "OUT"), ("promote", "RUN", "3"), ("train", "text", "CONFIG"),
    ("golden", "RUN", "http://127.0.0.1:9/\x1b"), ("metadata", "DATA", "--out", "M.csv"), ("metadata", "DATA/none\x1b\u202e"), ("inspect", "RUN/adapter"),
    ("eval", "RUN", "--grade", "RUN/config.yaml"), ("check", "text", "PLACE/none\x1b.yaml"), ("che\x1bck",), ("sample", "\x1b\u202e", "x"),
    ("check", "image", "CONFIG"), ("prepare", "image", "DATA"), ("reproduce", "RUN/none"),
)  # fmt: skip


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_command_shows_what_a_terminal_obeys(place, printed, command, tmp_path, monkeypatch, language):
    monkeypatch.setenv("LORAFORGE_LANG", language)
    words = {"CONFIG": place / "c.yaml", "RUN": place / "out", "PLACE": place, "DATA": place / "data", "OUT": tmp_path / "o\x1b\u202e"}
    words |= {name: tmp_path / name for name in ("R.csv", "R.html", "M.csv")}
    for given in COMMANDS if language == "en" else COMMANDS[:1] + COMMANDS[-8:]:
        arguments = [
            next((str(path) + word[len(key) :] for key, path in words.items() if word == key or word.startswith(f"{key}/")), word)
            for word in given
        ]
        _, out, err = command(*arguments)
        for text in (out, err):
            assert printable(text) == text, given
            assert "Traceback" not in text, (given, text)
        if "--json" in given:
            json.loads(out)
    for file in (tmp_path / "R.csv", tmp_path / "R.html", place / "out" / "findings.csv", place / "out" / "model-card.md"):
        if language == "en":
            text = file.read_text(encoding="utf-8-sig")
            assert printable(text) == text.replace("\r\n", "\n") and len(text) > 200, file


def test_what_a_chat_shows(place, printed, monkeypatch, capsys):
    from builders.tiny_text import TEXTS
    from loraforge_text.cli import chat

    from loraforge.cli.main import main

    assert TEXTS
    typed = iter(["hello", "/exit"])
    monkeypatch.setattr("builtins.input", lambda _: next(typed))
    monkeypatch.setattr(chat.Session, "ask", lambda self, *given: [("out", EVIL)])
    with pytest.raises(SystemExit):
        main(["chat", str(place / "out")])
    out = capsys.readouterr().out
    assert printable(out) == out and "\\u001b[31m" in out
