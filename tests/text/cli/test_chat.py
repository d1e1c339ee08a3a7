# SPDX-License-Identifier: Apache-2.0
"""A conversation in the terminal."""

from __future__ import annotations

from loraforge.runs import opened


def test_chat_remembers_switches_and_ends(run, host, monkeypatch, command):
    lines = iter(["第1问？", "/base", "第2问？", "/adapter none", "第3问？", "/adapter nonsense", "/new", "退出"])
    monkeypatch.setattr("builtins.input", lambda prompt="": next(lines))
    code, out, _ = command("chat", run.run.path, "--max-tokens", "4")
    assert code == 0
    assert out.count("[out]") == 2 and out.count("[base]") == 2
    assert "The base model answers too." in out and "Answers come from the base model alone." in out and "A new conversation." in out


def test_chat_gives_the_whole_conversation_to_the_model(run, host):
    from loraforge_text.cli.chat import Session

    there = opened.load_run(host, run.run.path)
    seen = []

    class Fake:
        def generate(self, prompts, adapter, **settings):
            seen.append(prompts[0])
            return ["A"]

    session = Session(there, ["out"], False)
    session.ask("一", Fake(), {})
    session.ask("二", Fake(), {})
    assert (
        seen[1]
        == "<|im_start|>user\n一<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\n二<|im_end|>\n<|im_start|>assistant\n"
    )
