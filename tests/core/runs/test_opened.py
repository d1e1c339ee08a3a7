# SPDX-License-Identifier: Apache-2.0
"""Runs that were damaged or made up: every command ends in a clear message or passes over what it cannot read."""

from __future__ import annotations

import json
import shutil

import pytest

from loraforge import LoraForgeError
from loraforge.plugin_api.host import PluginHost
from loraforge.runs import opened
from loraforge.runs.checkpoints import checkpoint_rows
from loraforge.runs.folder import RunFolder


@pytest.fixture(scope="module")
def master(tmp_path_factory, base):
    """One finished run for the whole file."""
    from builders.tiny_text import write_config, write_rows

    from loraforge.pipeline.run import run_training
    from loraforge.plan import make_plan

    place = tmp_path_factory.mktemp("master")
    write_rows(place / "data" / "metadata.csv")
    settings = {"train_data_dir": str(place / "data"), "base_model": str(base), "output_dir": str(place / "out"), "save_steps": 3}
    settings |= {"lora_rank": 4, "epochs": 1, "learning_rate": 0.01, "eval_answers": False}
    host = PluginHost(blocked=())
    run_training(make_plan(host, "text", write_config(place / "config.yaml", **settings)), host)
    return place / "out"


@pytest.fixture
def run(master, tmp_path):
    return RunFolder(shutil.copytree(master, tmp_path / "out"))


# --- names --------------------------------------------------------------------------------------------------------------------


def test_a_run_can_be_named_from_inside_of_it(run, host, monkeypatch):
    from pathlib import Path

    monkeypatch.chdir(run.path)
    it = opened.load_run(host, Path("."))
    assert list(it.adapters()) == ["out"]
    assert list(it.adapters([Path("adapter")])) == ["out"]
    assert it.names([Path("."), run.path]) == ["out", "out"] and list(it.adapters([Path("."), run.path])) == ["out"]
    monkeypatch.chdir(run.adapter)
    assert it.names([Path("."), Path("..")]) == ["out", "out"]


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (("a/mo", "b/mo", "a/mo"), ["a-mo", "b-mo", "a-mo"]),
        (("one/checkpoints/step-000050", "two/checkpoints/step-000050"), ["one-step-000050", "two-step-000050"]),
        (("x/a/mo", "x/b/mo", "y/a/mo"), ["x-a-mo", "x-b-mo", "y-a-mo"]),
        (("mo", "x/y/mo"), ["mo", "x-y-mo"]),
        (("mo", "other"), ["mo", "other"]),
    ],
)
def test_adapters_with_one_name_are_told_apart_by_the_folders_in_which_they_differ(tmp_path, folders, names):
    assert opened._names([tmp_path / folder / "adapter" for folder in folders]) == names


@pytest.mark.parametrize(
    ("folder", "name"),
    [("default", "default"), ("earlier run", "earlier run+"), ("base", "base+"), ("train", "train+"), ("keys", "keys+"), ("v1.5", "v1_5")],
)
def test_no_name_of_a_run_clashes_with_another_adapter_or_with_torch(run, host, tmp_path, command, folder, name):
    place = shutil.copytree(run.path, tmp_path / "runs" / folder)
    it = opened.load_run(host, place)
    assert list(it.adapters()) == [name]
    it.inference_model(it.adapters()).generate(["x"], name, max_tokens=1)
    code, out, err = command("sample", place, "试用期？", "--base", "--max-tokens", 2, "--json")
    assert code == 0 and set(json.loads(out)[0]["answers"]) == {"base", name}, err


def test_a_run_that_is_called_earlier_run_is_evaluated(run, tmp_path, command, monkeypatch):
    place = shutil.copytree(run.path, tmp_path / "runs" / "earlier run")
    monkeypatch.chdir(place)
    code, out, err = command("eval", ".", "--limit", 1, "--json")
    assert code == 0 and json.loads(out)["comparisons"], err


# --- manifests ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [[1], "x", 3, {"a": 1}, [], "", False, None])
@pytest.mark.parametrize("key", ["config", "template", "task", "family"])
def test_an_entry_of_another_form_is_a_clear_message(run, host, command, key, value):
    run.write_manifest({**run.manifest(), key: value})
    with pytest.raises(LoraForgeError):
        opened.load_run(host, run.path)
    for name in (["eval"], ["export", "--to", "peft"]):
        code, _, err = command(name[0], run.path, *name[1:])
        assert code == 2 and err and "Traceback" not in err


def test_a_run_whose_plugin_is_not_here_says_how_it_is_brought(run, command):
    run.write_manifest({**run.manifest(), "template": {"name": "clerk"}})
    code, _, err = command("sample", run.path, "x")
    assert code == 2 and "there is no template 'clerk'" in err and "install its plugin, or give its file again (-p FILE.py)" in err


@pytest.mark.parametrize("value", [[1], "x", 3, True])
@pytest.mark.parametrize("key", ["base", "data", "facts", "metrics", "chosen", "exports", "evaluation"])
def test_an_entry_that_is_no_mapping_is_a_clear_message(run, command, key, value):
    run.write_manifest({**run.manifest(), key: value})
    for name in (["eval"], ["promote", 3], ["sample", "x"]):
        code, _, err = command(name[0], run.path, *name[1:])
        assert code == 2 and key in err


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000, "{", "[]", "1" * 5000])
def test_a_manifest_that_is_none_is_a_clear_message(run, command, text):
    run.manifest_file.write_text(text, encoding="utf-8")
    for name in ("eval", "runs"):
        code, _, err = command(name, run.path)
        assert code == 2 and "cannot be read" in err


# --- checkpoints --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", [[1], "x", 3, True, {"step": [1]}, {"step": {}}, {}, None])
def test_a_choice_of_another_form_chooses_none(run, command, chosen):
    run.write_manifest({**run.manifest(), "chosen": chosen})
    code, out, err = command("runs", run.path, "--json")
    assert code == 0 and not any(row["chosen"] for row in json.loads(out)["checkpoints"]), err
    assert command("runs", run.path)[0] == 0


def test_only_folders_that_a_run_names_so_are_checkpoints(run, command):
    before = run.checkpoints()
    assert before
    for name in ("step-foo", "step-", "step-3", "step-٣٣٣٣٣٣", "step--00001", "step-000003x", "step-0000003", "step-" + "9" * 200):
        shutil.copytree(before[0], run.path / "checkpoints" / name)
    assert run.checkpoints() == before
    shutil.copytree(before[0], run.path / "checkpoints" / "step-1000000")
    shutil.copytree(before[0], run.path / "checkpoints" / "step-999999")
    assert [path.name for path in run.checkpoints()][-2:] == ["step-999999", "step-1000000"], "by step, not by letters"
    assert command("runs", run.path)[0] == 0
    code, _, err = command("promote", run.path, 7)
    assert code == 2 and "999999" in err


def test_lines_of_the_log_of_another_form_are_passed_over(run, command):
    rows = checkpoint_rows(run, run.manifest())
    lines = [
        *(
            {"event": kind, "step": step, "loss": 1.0, "epoch": 1}
            for kind in ("StepFinished", "Evaluated")
            for step in (None, "x", [1], {}, 1.5)
        ),
        *({"event": kind, "step": 3, "loss": loss} for kind in ("StepFinished", "Evaluated") for loss in (None, "x", [1], {}, 10**400)),
        {"event": ["StepFinished"], "step": 3, "loss": 1},
        *({"event": kind} for kind in ("StepFinished", "Evaluated", None, 3)),
        [1],
        "x",
        3,
        None,
    ]
    with run.log_file.open("a", encoding="utf-8") as file:
        file.write("\n".join(json.dumps(line) for line in lines) + "\n" + "[" * 100_000 + "\n" + '{"event": "Eval' + "\n" + "1" * 5000)
    assert checkpoint_rows(run, run.manifest()) == rows
    assert command("runs", run.path)[0] == 0


def test_a_step_without_an_epoch_still_counts(run):
    run.log_file.write_text('{"event": "StepFinished", "step": 3, "loss": 2, "epoch": "x"}\n{"event": "Evaluated", "step": 3, "loss": 1}\n')
    row = next(row for row in checkpoint_rows(run, {}) if row["step"] == 3)
    assert (row["epoch"], row["train_loss"], row["held_out_loss"]) == (None, 2.0, 1.0)


# --- likeness -----------------------------------------------------------------------------------------------------------------


def test_rows_begin_where_they_begin_above_what_a_short_float_can_count(monkeypatch):
    import scipy.sparse

    from loraforge.data import similarity

    class Row(frozenset):
        def __len__(self):
            return 2**24 + 1

    class Seen(Exception):
        pass

    def look(parts, **_):
        raise Seen(parts[2].tolist())

    monkeypatch.setattr(scipy.sparse, "csr_array", look)
    with pytest.raises(Seen) as seen:
        similarity.near_pairs([Row("a"), Row("b"), Row("c")])
    assert seen.value.args[0] == [0, 2**24 + 1, 2**25 + 2, 3 * 2**24 + 3]
