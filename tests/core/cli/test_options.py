# SPDX-License-Identifier: Apache-2.0
"""Arguments as people type them: without the task, the other way round, data for a config."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("command_name", ["check", "train"])
def test_the_task_is_taken_from_the_config(project, command, command_name):
    code, out, err = command(command_name, project(task_type="text-generation"))
    assert code == 0, err
    assert "tiny" in out


@pytest.mark.parametrize("command_name", ["check", "train"])
def test_without_a_task_the_commands_to_type_are_said(project, command, command_name):
    config = project()
    code, _, err = command(command_name, config, "--set", "seed=2")
    assert code == 2 and f"loraforge {command_name} text {config}" in err and f"loraforge {command_name} image {config}" in err
    assert "Missing argument" not in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("rest", [(), ("--set", "seed=3"), ("--json",)])
def test_config_and_task_the_other_way_round(project, command, rest):
    code, out, err = command("check", project(), "text", *rest)
    assert code == 0, err
    assert out


@pytest.mark.parametrize("arguments", [("check",), ("check", "text"), ("train",), ("train", "image"), ("check", "txet")])
def test_what_is_missing_is_asked_for(command, arguments):
    code, _, err = command(*arguments)
    assert code == 2 and "Missing argument" in err


def test_a_config_that_is_none_is_said_before_a_missing_task(command, tmp_path):
    (tmp_path / "data.csv").write_text("问题,回答\n", encoding="utf-8")
    for arguments in (("check", tmp_path / "data.csv"), ("train", "text", tmp_path / "data.csv"), ("train", tmp_path / "data.csv", "text")):
        code, _, err = command(*arguments)
        assert code == 2 and "is a table or document, not a config" in err, arguments
    assert "there is no such file" in command("check", tmp_path / "none.yaml")[2]


def test_errors_that_show_late_have_their_line_too(project, command):
    config = project(lora_target="all")
    line = next(n for n, text in enumerate(config.read_text(encoding="utf-8").splitlines(), 1) if text.startswith("lora_target"))
    for name in ("check", "train"):
        code, _, err = command(name, "text", config)
        assert code == 2 and f"{config}:{line}: lora_target: " in err and "Did you mean 'all-linear'?" in err


def test_a_long_warm_up_is_advised_against(project, command):
    config = project(warmup=50, max_steps=4)
    line = next(n for n, text in enumerate(config.read_text(encoding="utf-8").splitlines(), 1) if text.startswith("warmup"))
    for name in ("check", "train"):
        code, out, err = command(name, "text", config)
        assert code == 0 and f"{config}:{line}: warmup is 50, and the run has 4 steps" in out, err
    assert "warmup is" not in command("check", "text", project(warmup=1, max_steps=4))[1]


def test_a_long_context_is_no_reason_for_advice(project, command):
    assert "max_seq_length" not in command("check", "text", project(max_seq_length=8192))[1]


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_an_option_that_is_a_number_is_a_finite_one(command, number):
    code, _, err = command("eval", "run", "--minutes", number)
    assert code == 2 and "--minutes" in err and "Traceback" not in err


def test_an_option_without_bounds_shows_none_in_the_help(command):
    code, out, _ = command("sample", "--help")
    assert code == 0 and "--scale" in out and "None]" not in out
