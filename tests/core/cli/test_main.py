# SPDX-License-Identifier: Apache-2.0
"""The command line: exit codes, JSON, suggestions, languages, and no torch where none is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PROBE = """
import sys
from loraforge.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as exit_:
    assert not exit_.code, exit_.code
heavy = {"torch", "transformers.modeling_utils", "peft", "accelerate"} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize("arguments", [["--help"], ["plugins"], ["keys", "text"], ["list"], ["runs"], ["check", "text", "CONFIG", "--show", "2"],
                                       ["keys", "text", "--schema"], ["completion", "bash"]])  # fmt: skip
def test_torch_is_not_imported(project, tmp_path, arguments):
    arguments = [str(project()) if a == "CONFIG" else a for a in arguments]
    done = subprocess.run([sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, cwd=tmp_path, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-2000:]


def test_importing_the_package_imports_next_to_nothing():
    code = (
        "import loraforge, sys; assert not {'torch', 'pydantic', 'yaml', 'click', 'rich', 'numpy'} & set(sys.modules), sys.modules.keys()"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_whole_run_prints_what_it_does_and_what_to_type_next(project, command, tmp_path, real_plots):
    code, out, err = command("train", "text", project(save_steps=4), "-v")
    assert code == 0, err
    for words in ("template", "base model", "LoRA injection", "training", "held out", "checkpoint", "export"):
        assert f"  {words} " in out or f"  {words:<14}" in out, words
    for words in (
        "parameters are trained",
        "examples are learned",
        "never trained on",
        "passes over the examples)",
        "Loss on the held-out examples",
        "loss.png",
        f"loraforge sample {tmp_path / 'out'}",
        "tensorboard --logdir",
        "vllm serve",
    ):
        assert words in out, words
    assert (tmp_path / "out" / "loss.png").stat().st_size > 5000


def test_json_on_every_command_that_reports(project, command, tmp_path):
    run = tmp_path / "out"
    calls = [("train", "text", project()), ("check", "text", project(), "--show", "1"), ("sample", run, "第1问？", "--base", "--max-tokens", "3"),
             ("eval", run, "--limit", "1"), ("export", run, "--to", "peft"), ("runs", tmp_path), ("keys", "text"), ("plugins",), ("list",)]  # fmt: skip
    results = {}
    for arguments in calls:
        code, out, err = command(*arguments, "--json")
        assert code == 0, (arguments, err)
        results[arguments[0]] = json.loads(out)
    assert results["train"]["metrics"]["held_out_loss"] > 0
    assert results["check"]["examples"] + results["check"]["held_out"] == 12 and results["check"]["rows"][0]["pieces"][-1]["learned"]
    assert set(results["sample"][0]["answers"]) == {"base", "out"}
    assert results["runs"][0]["status"] == "finished"
    assert any(row["name"] == "peft" for row in results["list"]) and any(row["name"] == "max_seq_length" for row in results["keys"])
    legal = next(row for row in results["list"] if (row["kind"], row["name"]) == ("example", "legal"))
    assert legal["help"] == "Chinese law: 180 questions and answers, 60 points of law, each asked in three ways."


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [(["train", "text", "none.yaml"], 2, "there is no such file"), (["train", "txet", "CONFIG"], 2, "Did you mean 'text'"),
     (["trian"], 2, "Did you mean 'train'"), (["train", "text", "CONFIG", "--set", "epochs=no"], 2, "epochs: must be a number"),
     (["sample", ".", "x"], 2, "is no run"),
        (["sample", "no-such-run", "x"], 2, "there is no such folder"), (["train", "text", "CONFIG", "--resume", "--fresh"], 2, "exclude each other"),
     (["export", ".", "--to", "peft"], 2, "is no run"), (["check", "text", "CONFIG", "--set", "eval_ratio=2"], 2, "0.9 or less"),
     (["--version"], 0, "")],
)  # fmt: skip
def test_exit_codes(project, command, arguments, code, words):
    got, out, err = command(*[project() if a == "CONFIG" else a for a in arguments])
    assert got == code and words in err and "Traceback" not in err + out


def test_errors_are_json_too_when_json_is_asked_for(project, command):
    code, out, _ = command("check", "text", project(batch_size=0, lora_rank=0), "--json")
    assert code == 2 and len(json.loads(out)["error"]) == 2


def test_a_bug_keeps_its_traceback(project, monkeypatch):
    from loraforge.cli import main

    monkeypatch.setattr("loraforge.plan.make_plan", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main.main(["check", "text", str(project())])


def test_check_shows_what_is_learned(project, command):
    code, out, _ = command("check", "text", project(), "--show", "1")
    assert code == 0 and "«答案0：根据《劳动合同法》第10条。<|im_end|>»" in out and "metadata.csv, row 2" in out


def test_colours_are_used_on_a_terminal(project):
    from rich.console import Console

    from loraforge.cli import report
    from loraforge.data.dataset import load_data
    from loraforge.plan import make_plan
    from loraforge.plugin_api.host import PluginHost

    plan = make_plan(PluginHost(blocked=()), "text", project())
    data = load_data(plan)
    out = Console(record=True, force_terminal=True, color_system="standard", width=120, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    report.check(out, {"config": "c", "base_model": "b", "examples": 1, "held_out": 1, "steps": 1, "template": "t", "advice": []}, data, 1)
    assert "\x1b[1;32m«答案0" in out.export_text(styles=True)


def test_export_again_and_elsewhere(project, command, tmp_path):
    command("train", "text", project(export=[]))
    run = tmp_path / "out"
    assert not (run / "export").exists()
    assert command("export", run, "--to", "peft")[0] == 0 and (run / "export" / "peft" / "adapter_config.json").exists()
    code, _, err = command("export", run, "--to", "merged", "--out", tmp_path / "data")
    assert code == 2 and "exists already" in err
    assert (
        command("export", run, "--to", "merged", "--out", tmp_path / "model")[0] == 0
        and (tmp_path / "model" / "model.safetensors").exists()
    )


def test_completion_completes_tasks(tmp_path):
    environment = {**os.environ, "_LORAFORGE_COMPLETE": "bash_complete", "COMP_WORDS": "loraforge train te", "COMP_CWORD": "2"}
    code = "import sys; sys.argv = ['loraforge']; from loraforge.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "plain,text" in done.stdout


def test_ctrl_c_says_how_to_go_on(project, command, monkeypatch):

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("loraforge.pipeline.run.run_training", stop)
    code, _, err = command("train", "text", project())
    assert code == 1 and "--resume continues" in err


def test_runs_lists_what_there_is_and_says_how_to_begin(command, tmp_path):
    code, out, _ = command("runs", tmp_path)
    assert code == 0 and "There are no runs in" in out and "loraforge train text" in out


def test_a_one_file_plugin_on_the_command_line(command, tmp_path):
    file = tmp_path / "hello.py"
    file.write_text(
        "import click\nfrom loraforge import hookimpl\n\n@click.command()\ndef hello():\n    click.echo('hello from a plugin')\n\n"
        "@hookimpl\ndef loraforge_commands():\n    return [hello]\n", encoding="utf-8",
    )  # fmt: skip
    assert command("-p", file, "hello")[1] == "hello from a plugin\n"
    code, out, _ = command("-p", file, "--help")
    assert code == 0 and "hello" in out
    code, _, err = command("-p", tmp_path / "none.py", "hello")
    assert code == 2 and "plugin 'none' is not in use" in err and "there is no file" in err


def test_a_yaml_cannot_load_a_plugin(project, command):
    code, _, err = command("check", "text", project(plugins=["evil.py"]))
    assert code == 2 and "unknown key 'plugins'" in err


# --- languages ---------------------------------------------------------------------------------------------------------------


def test_chinese_when_the_locale_is_chinese(project, command, monkeypatch):
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    code, _, err = command("check", "text", project(batch_size=0, lora_rnak=3))
    assert code == 2 and "没有" in err and "lora_rank" in err and "unknown key" not in err


LONG = "n" * 270
PLACES = (
    ("check", "text", LONG), ("train", "text", LONG), ("check", "text", "CONFIG", "--set", f"train_data_dir={LONG}"), ("sample", LONG, "x"), ("eval", LONG),
    ("check", "text", "CONFIG", "--set", f"metadata_path={LONG}"), ("check", "text", "CONFIG", "--set", f"base_model=./{LONG}"),
    ("check", "text", "CONFIG", "--set", f"init_from_adapter={LONG}"), ("check", "text", "CONFIG", "--set", f"waivers={LONG}"),
    ("check", "text", "CONFIG", "--set", f"word_list={LONG}"), ("check", "text", "CONFIG", "--report", f"{LONG}.csv"), ("verify", LONG), ("card", LONG),
    ("reproduce", LONG), ("promote", LONG, "1"), ("export", LONG, "--to", "peft"), ("golden", LONG, "http://127.0.0.1:9"), ("metadata", LONG), ("inspect", LONG),
    ("metadata", "DATA", "--out", LONG), ("prepare", "image", LONG), ("chat", LONG), ("train", "text", "CONFIG", "--set", f"output_dir={LONG}"),
    ("check", "text", "CONFIG", "--set", "init_from_adapter=/proc/self"),
)  # fmt: skip


@pytest.mark.parametrize("given", PLACES, ids=lambda g: " ".join(g).replace(LONG, "LONG"))
def test_a_name_that_no_file_can_have_is_a_sentence(project, command, tmp_path, given):
    config = project()
    code, out, err = command(*(word.replace("CONFIG", str(config)).replace("DATA", str(tmp_path / "data")) for word in given))
    assert code == 2 and "Traceback" not in out + err and (LONG in err + out or "/proc/self" in err), (code, out, err)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="of Linux")
@pytest.mark.parametrize(("to", "code", "said"), [(">/dev/full", 1, "standard output cannot be written: No space left"), (">&-", 0, ""), (">&- 2>&-", 0, ""), (">/dev/full 2>/dev/full", 1, "")])  # fmt: skip
def test_standard_output_that_is_full_or_closed(to, code, said):
    line = f"{sys.executable} -m loraforge runs /nonexistent {to}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False, env={**os.environ, "LORAFORGE_LANG": "en"})
    assert done.returncode == code and "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert (said in done.stderr) if said else not done.stderr


def test_a_shortage_of_the_computer_is_told_as_one(project, command, monkeypatch):
    from loraforge.data import dataset

    def refuse(*args, **options):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(dataset, "load_data", refuse)
    code, _, err = command("check", "text", project())
    assert code == 1 and "can't start new thread. No row and no file is wrong" in err and "Traceback" not in err
