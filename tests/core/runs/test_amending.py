# SPDX-License-Identifier: Apache-2.0
"""A later command adds all that it writes, with its record, or nothing; whenever it is killed."""

from __future__ import annotations

import os
import shutil

import pytest
from builders.sealed_runs import evaluated, exported, made_run, promoted, put

from loraforge import RunError
from loraforge.audit.verify import verify
from loraforge.plugin_api.host import PluginHost
from loraforge.runs import amending, provenance
from loraforge.runs.amending import Recorded, amend
from loraforge.runs.folder import RunFolder

PLUGINS = PluginHost(blocked=())


@pytest.fixture(autouse=True)
def _same_code(monkeypatch):
    monkeypatch.setattr(provenance, "code", lambda host: {})


@pytest.fixture
def made(tmp_path):
    return made_run(tmp_path)


def caught(run, seal):
    return {
        (part.name, part.state)
        for part in verify(PLUGINS, run.path, seal, data=False).parts
        if part.state in ("altered", "missing", "added")
    }


def contents(run):
    return {path.relative_to(run.path).as_posix(): path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def test_one_run_has_one_seal_and_a_record_for_each_command(made):
    run, seal = made
    text = run.manifest_file.read_bytes()
    done = [evaluated(run), exported(run), promoted(run)]
    assert [one.seal for one in done] == [seal] * 3 and [one.record for one in done] == [f"records/000{n}.json" for n in (1, 2, 3)]
    assert [one.digest for one in done] == [provenance.hash_file(run.path / one.record) for one in done]
    assert run.manifest_file.read_bytes() == text and (run.path / "manifest.sha256").read_text() == f"{seal}  manifest.json\n"
    found = verify(PLUGINS, run.path, seal, data=False)
    assert found.sound and found.anchored and found.newest == done[-1].digest
    assert [part.sentence.partition(", ")[0] for part in found.of("record")] == ["eval", "export", "promote"]
    merged = run.manifest()
    assert merged["chosen"]["step"] == 3 and merged["metrics"]["held_out_loss"] == 1 / 3 and merged["evaluation"] is None
    assert merged["exports"] == {"peft": "export/peft", "gguf": "export/gguf"} and "eval.json" not in merged["files"]
    assert (run.adapter / "adapter_model.safetensors").read_text() == "weights of 3" and not (run.path / "eval.json").exists()
    promoted(run, 6)
    assert not caught(run, seal) and run.manifest()["chosen"]["step"] == 6


def test_what_changes_nothing_leaves_no_record(made):
    run, seal = made
    first = evaluated(run)
    assert evaluated(run) == Recorded(seal, None, first.digest) and not (run.path / "records" / "0002.json").exists()
    put(run, "model-card.md", "edited by somebody")
    assert evaluated(run).record is None and not caught(run, seal), "what was recorded is there again"


def test_what_a_file_manager_left_in_a_checkpoint_is_no_part_of_it(made):
    run, seal = made
    put(run, "checkpoints/step-000003/adapter/.DS_Store", "x")
    promoted(run)
    assert not caught(run, seal) and ".DS_Store" not in (run.path / "records" / "0001.json").read_text(encoding="utf-8")


def test_what_fails_changes_nothing(made):
    run, _ = made
    before = contents(run)
    with pytest.raises(ZeroDivisionError), amend(run, "promote") as change:
        shutil.copytree(run.checkpoint(3) / "adapter", change.stage.adapter)
        raise ZeroDivisionError
    assert contents(run) == before and not list(run.path.glob(".record*"))


@pytest.mark.parametrize(
    ("command", "name"),
    [("eval", "adapter/x"), ("export", "config.yaml"), ("card", "eval.json"), ("promote", "adapter/x"), ("train", "eval.json")],
)
def test_a_command_that_writes_what_is_not_its_own_is_refused_before_anything_counts(made, command, name):
    run, _ = made
    before = contents(run)
    with pytest.raises(RunError, match="records/0001.json"), amend(run, command) as change:
        put(change.stage, name, "x")
    assert contents(run) == before


class Killed(BaseException):
    pass


def counted(real, left):
    """``real``, which ends the process at the last of ``left`` calls; what comes after that is not done."""

    def call(*args, **options):
        if args and str(args[0]).endswith(".lease"):  # the system takes a dead process's lock away
            return real(*args, **options)
        left[0] -= 1
        if left[0] < 0:  # a dead process cleans nothing up
            return None
        if left[0] == 0:
            raise Killed
        return real(*args, **options)

    return call


def _commands(run):
    return {"eval": lambda: evaluated(run), "export again": lambda: exported(run, "peft"), "promote": lambda: promoted(run)}


@pytest.mark.parametrize("command", ["eval", "export again", "promote"])
def test_killed_at_any_moment_a_command_leaves_a_run_that_verifies_and_the_next_one_goes_on(made, command, monkeypatch):
    """The process ends before each of its calls that change a folder, one after the other, until it gets through."""
    run, seal = made
    kept = run.path.parent / "kept"
    shutil.copytree(run.path, kept)
    moments = [(os, "replace"), (os, "unlink"), (os, "mkdir"), (shutil, "rmtree"), (amending, "write_text"), (amending, "settle")]
    states = set()
    for number in range(1, 60):
        shutil.rmtree(run.path)
        shutil.copytree(kept, run.path)
        left = [number]
        with monkeypatch.context() as patched:
            for module, name in moments:
                patched.setattr(module, name, counted(getattr(module, name), left))
            try:
                _commands(run)[command]()
                survived = True
            except Killed:
                survived = False
        recorded = (run.path / "records" / "0001.json").exists()
        assert not caught(run, seal), (number, recorded)
        states.add((recorded, survived))
        if survived:
            break
        _commands(run)[command]()
        assert not caught(run, seal) and not list(run.path.glob(".record*")), number
        assert (run.path / "records" / "0001.json").exists() and not list((run.path / "records").glob(".*"))
    assert states == {(False, False), (True, False), (True, True)}


def test_a_run_that_was_never_sealed_keeps_what_a_command_found(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.write_manifest({"status": "failed"})
    with amend(run, "eval") as change:
        put(change.stage, "eval.json", "{}")
        change.entries["evaluation"] = {"examples": 1}
    assert change.recorded == Recorded(None, None, None) and run.manifest() == {"status": "failed", "evaluation": {"examples": 1}}
    assert (run.path / "eval.json").read_text() == "{}" and not (run.path / "records").exists()


def test_two_commands_do_not_write_at_once(made):
    run, _ = made
    with amend(run, "card"), pytest.raises(RunError, match="another run is writing there"), amend(run, "card"):
        pass
