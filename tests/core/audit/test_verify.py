"""The seal of a run: what was altered is named, what was not is left alone, and a run can be trained again to the bit."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys

import pytest

from loraforge import RunError
from loraforge.audit.card import write_card
from loraforge.audit.rows import match
from loraforge.audit.verify import verify
from loraforge.pipeline.reproduce import compare, reproduce
from loraforge.plugin_api.host import PluginHost
from loraforge.runs import provenance
from loraforge.runs.folder import RunFolder
from loraforge.runs.seal import kept_seal, require_sound, reseal, seal_run


@pytest.fixture(scope="module")
def master(tmp_path_factory, base):
    """One finished run for the whole file, beside its data: trained once, copied for every test."""
    from tiny import write_config, write_rows

    from loraforge.pipeline.run import run_training
    from loraforge.plan import make_plan

    place = tmp_path_factory.mktemp("master")
    write_rows(place / "data" / "metadata.csv")
    settings = {"train_data_dir": str(place / "data"), "base_model": str(base), "output_dir": str(place / "out"), "save_steps": 3}
    settings |= {"lora_rank": 4, "epochs": 2, "learning_rate": 0.01, "eval_answers": False}
    host = PluginHost(blocked=())
    run_training(make_plan(host, "text", write_config(place / "config.yaml", **settings)), host)
    return place


@pytest.fixture
def data(master):
    """The data file of the run; it is put back after the test."""
    shutil.copytree(master / "data", master / "kept", dirs_exist_ok=True)
    yield master / "data" / "metadata.csv"
    shutil.rmtree(master / "data", ignore_errors=True)
    shutil.move(master / "kept", master / "data")


@pytest.fixture
def sealed(master, tmp_path):
    """A finished, sealed run: its folder and the seal."""
    run = RunFolder(shutil.copytree(master / "out", tmp_path / "out"))
    return run, seal_run(run, run.manifest())


def bad(host, run, **options):
    """(name, state) of everything that is not as it was."""
    found = verify(host, run.path, **options)
    assert found.sound == (not [p for p in found.parts if p.state in ("altered", "missing", "added")])
    return {(part.name, part.state) for part in found.parts if part.state in ("altered", "missing", "added")}


def flip(path, at=-2):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


# --- the folder ---------------------------------------------------------------------------------------------------------------


def test_a_run_that_nobody_touched_is_sound(sealed, host):
    run, seal = sealed
    found = verify(host, run.path, seal)
    assert found.sound and found.anchored and not bad(host, run, seal=seal)
    assert {part.kind for part in found.parts} >= {"manifest", "seal", "file", "data", "base", "template", "code", "version"}
    states = {part.kind: part.state for part in found.parts}
    assert states == dict.fromkeys(states, "unchanged")
    assert [part.sentence for part in found.of("data")] == ["12 of 12 rows say what they said when the run was trained."]
    assert (run.path / "manifest.sha256").read_text(encoding="utf-8") == f"{seal}  manifest.json\n"
    assert seal == hashlib.sha256(run.manifest_file.read_bytes()).hexdigest()
    files = run.manifest()["files"]
    assert {"config.yaml", "log.jsonl", "loss.png", "adapter/adapter_model.safetensors"} <= set(files)
    assert {"checkpoints/step-000003/state.safetensors", "checkpoints/step-000003/adapter/adapter_config.json"} <= set(files)
    assert not [name for name in files if name.startswith(("tensorboard", "answers", "manifest"))]


def test_one_flipped_byte_in_any_sealed_file_is_named(sealed, host):
    run, _ = sealed
    names = list(run.manifest()["files"])
    assert len(names) > 15
    for name in names:
        file = run.path / name
        before = file.read_bytes()
        flip(file, len(before) // 2)
        assert (name, "altered") in bad(host, run, data=False) and len(bad(host, run, data=False)) == 1
        file.write_bytes(before)
    assert not bad(host, run)


def test_missing_and_added_files_are_named(sealed, host):
    run, _ = sealed
    (run.adapter / "adapter_config.json").unlink()
    (run.adapter / "extra.safetensors").write_bytes(b"x")
    (run.checkpoint(3) / "more").mkdir()
    (run.checkpoint(3) / "more" / "x.json").write_text("{}", encoding="utf-8")
    assert bad(host, run) == {
        ("adapter/adapter_config.json", "missing"),
        ("adapter/extra.safetensors", "added"),
        ("checkpoints/step-000003/more/x.json", "added"),
    }


def test_what_grows_by_use_is_no_alteration_and_a_note_beside_it_is_told_as_not_vouched_for(sealed, host):
    run, _ = sealed
    (run.path / "answers").mkdir()
    (run.path / "answers" / "q.png").write_bytes(b"x")
    (run.path / "notes.txt").write_text("mine", encoding="utf-8")
    (run.path / "adapter" / ".DS_Store").write_bytes(b"x")
    found = verify(host, run.path)
    assert found.sound and [(p.name, p.state) for p in found.of("file") if p.state != "unchanged"] == [("notes.txt", "not recorded")]


def test_an_edited_manifest_breaks_the_seal_and_both_together_are_caught_by_the_seal_kept_elsewhere(sealed, host):
    run, seal = sealed
    manifest = run.manifest()
    manifest["metrics"]["held_out_loss"] = 0.001
    run.write_manifest(manifest)
    assert bad(host, run) == {("manifest.json", "altered")}
    forged = hashlib.sha256(run.manifest_file.read_bytes()).hexdigest()
    (run.path / "manifest.sha256").write_text(f"{forged}  manifest.json\n", encoding="utf-8")
    assert bad(host, run) == set(), "nobody can tell without the seal"
    assert verify(host, run.path).of("seal")[0].state == "not checked"
    assert bad(host, run, seal=seal) == {("--seal", "altered")} and verify(host, run.path, seal).anchored is False
    (run.path / "manifest.sha256").unlink()
    assert bad(host, run) == {("manifest.json", "missing")}


def test_later_commands_take_up_what_they_wrote_and_cover_nothing_else_up(sealed, host):
    run, seal = sealed
    assert reseal(run, ["config.yaml"]) == seal, "nothing changed"
    (run.path / "eval.json").write_text("{}", encoding="utf-8")
    flip(run.log_file)
    after = reseal(run, ["eval.json"], evaluation={"examples": 2})
    assert after != seal and run.manifest()["evaluation"] == {"examples": 2} and "eval.json" in run.manifest()["files"]
    assert bad(host, run, seal=after) == {("log.jsonl", "altered")}
    run.manifest_file.write_text(run.manifest_file.read_text(encoding="utf-8") + " ", encoding="utf-8")
    with pytest.raises(RunError, match="not the file that was sealed"):
        reseal(run, ["eval.json"])


@pytest.mark.parametrize("last", [1, 2, 3])
def test_a_crash_while_a_run_is_sealed_anew_leaves_a_manifest_with_its_seal(sealed, host, command, monkeypatch, last):
    run, seal = sealed
    before = run.manifest_file.read_bytes()
    _crash_at(monkeypatch, last)
    (run.path / "eval.json").write_text("{}", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        reseal(run, ["eval.json"], note="new")
    monkeypatch.undo()
    assert (run.manifest_file.read_bytes() == before) == (last < 3)
    assert not {name for name, _ in bad(host, run)} - {"eval.json"}
    assert kept_seal(run) == provenance.hash_file(run.manifest_file)
    assert (kept_seal(run) == seal) == (last < 3)
    after = reseal(run, ["eval.json"], note="newer")
    assert run.manifest()["note"] == "newer" and not bad(host, run, seal=after)
    assert (run.path / "manifest.sha256").read_text(encoding="utf-8") == f"{after}  manifest.json\n"
    assert command("card", run.path)[0] == 0 and not bad(host, run)


@pytest.mark.parametrize("last", [1, 2])
def test_a_crash_at_the_first_sealing_is_named_and_the_card_command_seals_what_is_as_it_was(sealed, host, command, monkeypatch, last):
    run, _ = sealed
    manifest = {key: value for key, value in run.manifest().items() if key != "files"}
    (run.path / "manifest.sha256").unlink()
    run.write_manifest(manifest)
    _crash_at(monkeypatch, last)
    with pytest.raises(KeyboardInterrupt):
        seal_run(run, manifest)
    monkeypatch.undo()
    if last == 1:
        assert not bad(host, run) and verify(host, run.path).of("manifest")[0].state == "not recorded"
        return
    assert bad(host, run) == {("manifest.json", "missing")}
    assert f"loraforge card {run.path}" in verify(host, run.path).of("manifest")[0].sentence
    flip(run.log_file)
    require_sound(run, ["adapter"])
    with pytest.raises(RunError, match=r"cannot be sealed again.*: log.jsonl\.$"):
        reseal(run, ["model-card.md"], note="x")
    assert "note" not in run.manifest() and command("card", run.path)[0] == 2 and not (run.path / "manifest.sha256").exists()
    flip(run.log_file)
    flip(run.adapter / "adapter_model.safetensors")
    with pytest.raises(RunError, match="altered since it was sealed"):
        require_sound(run, ["adapter"])
    flip(run.adapter / "adapter_model.safetensors")
    assert command("card", run.path)[0] == 0 and not bad(host, run)
    assert reseal(run, []) == kept_seal(run)


def _crash_at(monkeypatch, number):
    """The process ends when it wants to write for the ``number``-th time."""
    from loraforge.runs.seal import write_text

    written = []
    real = write_text

    def write(path, text):
        written.append(path)
        if len(written) == number:
            raise KeyboardInterrupt
        real(path, text)

    monkeypatch.setattr("loraforge.runs.seal.write_text", write)


def test_a_seal_of_another_form_is_never_written_over(sealed, host):
    run, _ = sealed
    seal = run.path / "manifest.sha256"
    text = seal.read_text(encoding="utf-8")
    for damage in ("", "\n\n", "x", "0" * 64 + "  manifest.json\n" + "1" * 64 + "  manifest.json\n", f"{'0' * 64}\n{'1' * 64}\n{text}"):
        seal.write_text(damage, encoding="utf-8")
        assert {name for name, _ in bad(host, run)} == {"manifest.json"}, damage
        with pytest.raises(RunError, match="not the file that was sealed"):
            reseal(run, [], note="x")
    seal.unlink()
    seal.mkdir()
    with pytest.raises(RunError, match="not the file that was sealed"):
        reseal(run, [], note="x")
    assert bad(host, run) == {("manifest.json", "missing")}


# --- data, base, code, lineage ------------------------------------------------------------------------------------------------


def rewrite(path, edit):
    lines = path.read_text(encoding="utf-8").splitlines()
    edit(lines)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_altered_rows_are_named_and_so_are_those_that_came_and_went(sealed, host, data):
    run, _ = sealed
    csv = data
    before = csv.read_text(encoding="utf-8")
    where = [row["where"] for row in run.manifest()["data"]["rows"]]

    rewrite(csv, lambda lines: lines.__setitem__(3, lines[3].replace("第12条", "第99条")))
    assert bad(host, run) == {(where[2], "altered"), ("rows", "altered")}

    csv.write_text(before, encoding="utf-8")
    rewrite(csv, lambda lines: lines.append("新的问题？,新的答案。"))
    assert {state for name, state in bad(host, run) if name != "rows"} == {"added"}

    csv.write_text(before, encoding="utf-8")
    rewrite(csv, lambda lines: lines.pop(5))
    assert bad(host, run) == {(where[4], "missing"), ("rows", "altered")}, "the rows after it have other numbers, and are not altered"

    csv.write_text(before, encoding="utf-8")
    rewrite(csv, lambda lines: lines.__setitem__(slice(1, 3), [lines[2], lines[1]]))
    found = verify(host, run.path)
    assert found.sound and found.of("data")[-1].state == "differs" and "order" in found.of("data")[-1].sentence

    csv.write_text(before.replace("答案4：根据《劳动合同法》第14条。", ""), encoding="utf-8")
    assert (where[4], "missing") in bad(host, run), "a row that can no longer be read does not hide the others"


def test_data_that_are_gone_are_not_checked_and_are_no_alteration(sealed, host, data):
    run, _ = sealed
    shutil.rmtree(data.parent)
    found = verify(host, run.path)
    assert found.sound and [p.state for p in found.of("data")] == ["not checked"] and found.of("template")[0].state == "not checked"
    data.parent.mkdir()
    data.write_bytes(b"\xff\xfe\x00garbage")
    assert not verify(host, run.path).sound
    assert verify(host, run.path, data=False).sound


def test_rows_that_a_run_left_out_are_not_called_added(project, train, host, tmp_path):
    rewrite(tmp_path / "data" / "metadata.csv", lambda lines: lines.append("很长的问题" * 400 + ",答案。"))
    run = train(project(on_bad_row="skip")).run
    seal_run(run, run.manifest())
    assert len(run.manifest()["data"]["rows"]) == 12 and not bad(host, run)


def test_rows_that_only_stand_in_notes_are_still_looked_for(sealed, host, data):
    run, _ = sealed
    manifest = run.manifest()
    where = [row["where"] for row in manifest["data"]["rows"]]
    about = [
        f"{where[1]}: is nearly the same as {where[0]}, which is learned, and as x, which is held out; it is kept out of both.",
        f"{where[2]}: waives 'x', but there is no such check; `loraforge list` names them.",
        f"a note that names {where[3]}: it is a note",
    ]
    for skipped in ({}, {"skipped": []}):
        manifest["data"] = {**manifest["data"], "notes": about, **skipped}
        seal_run(run, manifest)
        assert not bad(host, run), skipped


@pytest.mark.parametrize("how", ["where", "hash", "note", "Chinese note"])
def test_rows_that_were_left_out_are_known_by_place_or_hash_or_the_notes_of_an_earlier_version(sealed, host, data, how):
    run, _ = sealed
    manifest = run.manifest()
    rows = manifest["data"]["rows"]
    left, *used = rows[4], *rows[:4], *rows[5:]
    del manifest["data"]["skipped"]
    manifest["data"]["rows"] = used
    seal_run(run, manifest)
    assert (left["where"], "added") in bad(host, run)
    told = {
        "where": {"skipped": [left["where"]]},
        "hash": {"skipped": [left["sha256"]]},
        "note": {"notes": [f"skipped: {left['where']}: it is too long"]},
        "Chinese note": {"notes": [f"已跳过：{left['where']}: 太长"]},
    }[how]
    manifest["data"] |= told
    seal_run(run, manifest)
    assert not bad(host, run)
    # A row that was used stands in the place of the one that was left out: it is still a row that was used.
    rewrite(data, lambda lines: lines.pop(5))
    found = bad(host, run)
    assert not found, found


def test_a_base_that_was_swapped_is_named_and_one_that_is_gone_is_not_checked(project, train, host, base, tmp_path):
    mine = shutil.copytree(base, tmp_path / "mine")
    run = train(project(base_model=str(mine))).run
    seal_run(run, run.manifest())
    flip(mine / "model.safetensors")
    (mine / "tokenizer_config.json").unlink()
    assert bad(host, run) == {("model.safetensors", "altered"), ("tokenizer_config.json", "missing")}
    shutil.rmtree(mine)
    found = verify(host, run.path)
    assert found.sound and [p.state for p in found.of("base")] == ["not checked"] and found.of("data")[-1].state == "unchanged"


def test_other_code_and_versions_differ_and_are_no_alteration(sealed, host):
    run, _ = sealed
    manifest = run.manifest()
    manifest["versions"]["torch"] = "0.1"
    manifest["code"] = {**provenance.code(host), "loraforge_text": "0" * 64, "gone_plugin": "1" * 64}
    seal_run(run, manifest)
    found = verify(host, run.path)
    assert found.sound
    assert {(p.kind, p.name) for p in found.parts if p.state == "differs"} == {
        ("version", "torch"),
        ("code", "loraforge_text"),
        ("code", "gone_plugin"),
    }


def test_code_covers_packages_and_one_file_plugins_and_changes_with_one_byte(tmp_path, monkeypatch):
    file = tmp_path / "mine.py"
    file.write_text("x = 1\n", encoding="utf-8")
    one = provenance.code(PluginHost((file,), blocked=()))
    assert set(one) == {"loraforge", "loraforge_text", "loraforge_image", "mine.py"}
    file.write_text("x = 2\n", encoding="utf-8")
    two = provenance.code(PluginHost((file,), blocked=()))
    assert {name for name in one if one[name] != two[name]} == {"mine.py"}
    package = tmp_path / "loraforge_text"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "zh.json").write_text("{}", encoding="utf-8")
    host = PluginHost(blocked=())
    monkeypatch.delitem(sys.modules, "loraforge_text")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = provenance.code(host)["loraforge_text"]
    (package / "zh.json").write_text("{ }", encoding="utf-8")
    assert len({before, provenance.code(host)["loraforge_text"], one["loraforge_text"]}) == 3


def test_the_machine_is_described_with_the_threads_that_torch_uses():
    import torch

    machine = provenance.machine()
    assert machine["threads"] == torch.get_num_threads() and machine["cores"] and machine["processor"] and machine["system"]
    assert {"torch", "diffusers", "pillow"} <= set(provenance.versions())


def test_the_run_before_is_looked_for_and_its_adapter_compared(sealed, project, train, host, tmp_path):
    first, seal = sealed
    config = project("second.yaml", init_from_adapter=str(first.path), output_dir=str(tmp_path / "second"))
    run = train(config).run
    manifest = run.manifest()
    weights = provenance.hash_file(first.adapter / "adapter_model.safetensors")
    manifest["lineage"] = [{"run": str(first.path), "seal": seal, "adapter": weights, "started": "then"}]
    seal_run(run, manifest)
    states = lambda: [p.state for p in verify(host, run.path).of("lineage")]  # noqa: E731
    assert states() == ["unchanged"]
    reseal(first, [], note="evaluated later")
    assert states() == ["differs"]
    flip(first.adapter / "adapter_model.safetensors")
    assert states() == ["differs"], "the checkpoint of the last step holds the same adapter"
    flip(first.checkpoint(6) / "adapter" / "adapter_model.safetensors")
    assert states() == ["altered"]
    with pytest.raises(RunError, match="continued from is gone, or was altered"):
        reproduce(host, run.path, None, lambda text: None)
    shutil.rmtree(first.path)
    assert states() == ["not checked"]


# --- hostile and old manifests ------------------------------------------------------------------------------------------------


def test_manifests_of_an_earlier_loraforge_are_told_as_not_recorded(sealed, host):
    run, _ = sealed
    manifest = {k: v for k, v in run.manifest().items() if k not in ("files", "code", "lineage", "chosen")}
    (run.path / "manifest.sha256").unlink()
    run.write_manifest(manifest)
    found = verify(host, run.path)
    assert found.sound
    assert {(p.kind, p.state) for p in found.parts if p.state == "not recorded"} == {
        ("manifest", "not recorded"),
        ("file", "not recorded"),
        ("code", "not recorded"),
    }


def test_nothing_outside_the_folder_is_read_whatever_the_manifest_names(sealed, host, tmp_path, monkeypatch):
    run, _ = sealed
    secret = tmp_path / "secret.txt"
    secret.write_text("secret", encoding="utf-8")
    value = provenance.hash_file(secret)
    os.symlink(secret, run.adapter / "link.txt")
    os.symlink(tmp_path, run.path / "samples")
    names = [
        "../secret.txt",
        str(secret),
        "adapter/link.txt",
        "adapter/../../secret.txt",
        "samples/secret.txt",
        "C:\\x",
        "a\0b",
        "",
        "\ud800",
        "x" * 5000,
    ]
    manifest = run.manifest()
    manifest["files"] |= dict.fromkeys(names, value)
    manifest["base"]["files"] |= {"../../secret.txt": value}
    run.manifest_file.write_text(json.dumps(manifest), encoding="utf-8")
    opened = []
    real = provenance.hash_file
    monkeypatch.setattr("loraforge.audit.verify.hash_file", lambda path: opened.append(str(os.path.realpath(path))) or real(path))
    states = {p.name: p.state for p in verify(host, run.path).parts if p.kind in ("file", "base")}
    assert str(secret) not in opened and len(opened) > 10
    assert {states[n.replace("\0", "?").replace("\ud800", "?")] for n in names[:-1]} == {"altered"}
    assert states["x" * 5000] == "missing" and states["../../secret.txt"] == "altered"
    assert states["samples"] == "added"


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: m.update(files=[1]),
        lambda m: m.update(files={"config.yaml": ["x"], "adapter": None}),
        lambda m: m.update(base="x"),
        lambda m: m.update(base={"folder": 3, "files": {"a": 1}}),
        lambda m: m.update(data=[], template=[]),
        lambda m: m.update(data={"rows": [1, {"sha256": None}]}),
        lambda m: m["data"].update(rows=[{"sha256": "0"}], notes={"a": 1}),
        lambda m: m.update(versions="x", code=[], lineage={"run": 1}),
        lambda m: m.update(lineage=[1, {"run": 2}, {"run": "a\0b"}]),
        lambda m: m.update(task=[], family={}),
        lambda m: m.update(template={"name": {}}),
        lambda m: m["template"].clear(),
    ],
)
def test_entries_of_another_form_are_told_and_break_nothing(sealed, host, edit, command, tmp_path):
    run, _ = sealed
    manifest = run.manifest()
    edit(manifest)
    run.write_manifest(manifest)
    assert not verify(host, run.path).sound
    write_card(manifest, None, tmp_path / "card.md")
    assert command("verify", run.path)[0] == 1


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, "3", "\0", '{"a": "\\ud800"}'])
def test_a_manifest_that_is_none_is_a_clear_message(tmp_path, command, text):
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    for name in ("verify", "card", "reproduce"):
        code, _, err = command(name, tmp_path)
        assert code == (2 if text[0] != "{" or text == "{" or name == "reproduce" else 0), (name, err)
        assert "Traceback" not in err


def test_a_link_in_place_of_the_manifest_and_a_seal_that_is_none_are_refused(sealed, command):
    run, _ = sealed
    assert command("verify", run.path, "--seal", "123")[0] == 2
    run.manifest_file.rename(run.path / "m.json")
    os.symlink(run.path / "m.json", run.manifest_file)
    code, _, err = command("verify", run.path)
    assert code == 2 and "is a link" in err


def test_names_cannot_command_a_terminal(sealed, command):
    run, _ = sealed
    (run.adapter / "a\x1b[31mred").write_bytes(b"x")
    code, out, _ = command("verify", run.path)
    assert code == 1 and "a?[31mred" in out and "\x1b" not in out


# --- rows ---------------------------------------------------------------------------------------------------------------------


def test_rows_are_matched_by_their_neighbours():
    assert match(list("abcd"), list("abcd")) == ([], [], [], False)
    assert match(list("abcd"), list("aXcd")) == ([(1, 1)], [], [], False)
    assert match(list("abcd"), list("acXd")) == ([], [1], [2], False)
    assert match(list("abcde"), list("bXde")) == ([(2, 1)], [0], [], False)
    assert match(list("abc"), list("cab")) == ([], [], [], True)
    assert match(list("aab"), list("ab")) == ([], [0], [], False) or match(list("aab"), list("ab")) == ([], [1], [], False)
    assert match([], list("ab")) == ([], [], [0, 1], False)


# --- training again -----------------------------------------------------------------------------------------------------------


def test_a_run_is_reproduced_to_the_bit_and_is_not_touched(sealed, host):
    run, seal = sealed
    told = []
    result = reproduce(host, run.path, None, told.append)
    assert result["verdict"] == "identical" and result["modules"] == [] and told
    new = RunFolder(run.path / "reproduced")
    weights = "adapter_model.safetensors"
    assert (new.adapter / weights).read_bytes() == (run.adapter / weights).read_bytes()
    assert result["losses"]["run"] == result["losses"]["reproduced"] and result["losses"]["run"]["adapter"] is not None
    assert not bad(host, run, seal=seal) and not (new.path / "export").exists()
    assert reproduce(host, run.path, None, told.append)["reproduced"].endswith("reproduced-2")
    assert not bad(host, run, seal=seal)


def test_the_recorded_number_of_threads_is_used_and_given_back(sealed, host, monkeypatch):
    import torch

    run, _ = sealed
    manifest = run.manifest()
    before = torch.get_num_threads()
    manifest["machine"] = {**manifest["machine"], "threads": before + 1}
    seal_run(run, manifest)
    asked = []
    real = torch.set_num_threads
    monkeypatch.setattr(torch, "set_num_threads", lambda n: asked.append(n) or real(n))
    reproduce(host, run.path, None, lambda text: None)
    assert asked == [before + 1, before] and torch.get_num_threads() == before


def test_what_two_processes_made_one_process_makes_again(project, host, tmp_path):
    import subprocess

    config = project(batch_size=1, lora_dropout=0.0)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_addr", "127.0.0.1", "--master_port", "0",
         "--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0", "-m", "loraforge", "train", "text", str(config)],
        capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    run = RunFolder(tmp_path / "out")
    manifest = run.manifest()
    for machine in ({"processes": 2}, {}):  # an earlier LoRAForge wrote it nowhere but in the name of the device
        kept = {key: value for key, value in manifest["machine"].items() if key != "processes"}
        seal_run(run, {**manifest, "machine": {**kept, **machine}})
        told = []
        result = reproduce(host, run.path, None, told.append)
        assert result["verdict"] in ("identical", "close"), result["sentence"]
        new = RunFolder(run.path / "reproduced").manifest()
        assert new["config"]["gradient_accumulation"] == 2 and new["facts"]["steps"] == manifest["facts"]["steps"]
        assert any("2 processes" in line for line in told)
    seal_run(run, {**manifest, "config": {**manifest["config"], "lora_dropout": 0.05}})
    run.config_file.write_text(
        run.config_file.read_text(encoding="utf-8").replace("lora_dropout: 0.0", "lora_dropout: 0.05"), encoding="utf-8"
    )
    reseal(run, ["config.yaml"])
    with pytest.raises(RunError, match="One process draws other dropout"):
        reproduce(host, run.path, None, lambda text: None)


def test_reproduce_wants_one_process_and_a_config_of_the_usual_form(sealed, host, monkeypatch, command):
    run, _ = sealed
    manifest = run.manifest()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RunError, match="trains in one process"):
        reproduce(host, run.path, None, lambda text: None)
    monkeypatch.undo()
    manifest["machine"]["processes"] = 2
    manifest["config"] |= {"gradient_accumulation": "x", "lora_dropout": 0}
    seal_run(run, manifest)
    code, _, err = command("reproduce", run.path)
    assert code == 2 and "Traceback" not in err


def test_a_promoted_step_is_compared_with_the_checkpoint_of_that_step(sealed, host):
    run, _ = sealed
    manifest = run.manifest()
    shutil.rmtree(run.adapter)
    shutil.copytree(run.checkpoint(3) / "adapter", run.adapter)
    manifest["chosen"] = {"step": 3, "by": "promote"}
    seal_run(run, manifest)
    result = reproduce(host, run.path, None, lambda text: None)
    assert result["verdict"] == "identical" and result["step"] == 3


def test_another_seed_in_the_config_is_refused_and_named(sealed, host, command):
    run, _ = sealed
    text = run.config_file.read_text(encoding="utf-8")
    run.config_file.write_text(text.replace("seed: 42", "seed: 7"), encoding="utf-8")
    assert ("config.yaml", "altered") in bad(host, run)
    with pytest.raises(RunError, match=r"seed: was 42, is now 7"):
        reproduce(host, run.path, None, lambda text: None)
    assert not (run.path / "reproduced").exists()
    assert command("reproduce", run.path)[0] == 2


def test_changed_data_or_base_is_refused_and_named(sealed, host, data):
    run, _ = sealed
    rewrite(data, lambda lines: lines.__setitem__(3, lines[3].replace("第12条", "第99条")))
    with pytest.raises(RunError, match="row does not say what it said"):
        reproduce(host, run.path, None, lambda text: None)
    shutil.rmtree(data.parent)
    with pytest.raises(RunError, match="not on this computer"):
        reproduce(host, run.path, None, lambda text: None)


def test_a_run_whose_adapter_is_not_from_its_config_is_not_reproduced(sealed, project, train, host, tmp_path, command):
    run, _ = sealed
    other = train(project("other.yaml", seed=7, output_dir=str(tmp_path / "other"))).run
    shutil.copy(other.adapter / "adapter_model.safetensors", run.adapter)
    seal_run(run, run.manifest())  # somebody who swaps the adapter can seal it anew; training again tells
    assert not bad(host, run)
    code, out, _ = command("reproduce", run.path, "--json", "--out", tmp_path / "again")
    result = json.loads(out)
    assert code == 1 and result["verdict"] == "not reproduced"
    assert len(result["modules"]) == 14 and all(row["absolute"] > 0 and row["cosine"] < 0.9 for row in result["modules"])


def test_on_the_cpu_nearly_equal_is_not_reproduced_unless_the_versions_differ(sealed, host, tmp_path):
    import safetensors.torch

    run, _ = sealed
    file = run.adapter / "adapter_model.safetensors"
    tensors = safetensors.torch.load_file(file)
    safetensors.torch.save_file({name: value * 1.0001 for name, value in tensors.items()}, file, {"format": "pt"})
    manifest = {**run.manifest(), "code": provenance.code(host)}
    seal_run(run, manifest)
    result = reproduce(host, run.path, tmp_path / "one", lambda text: None)
    assert result["verdict"] == "not reproduced" and result["differences"] == []
    assert all(row["cosine"] > 0.999 and 0 < row["relative"] < 0.001 for row in result["modules"])
    manifest["versions"]["torch"] = "0.1"
    seal_run(run, manifest)
    result = reproduce(host, run.path, tmp_path / "two", lambda text: None)
    assert result["verdict"] == "close" and [line for line in result["differences"] if line.startswith("torch: was 0.1, is now")]


def test_adapters_are_compared_by_their_weight_change(sealed, tmp_path):
    import safetensors.torch
    import torch

    run, _ = sealed
    same = shutil.copytree(run.adapter, tmp_path / "same")
    tensors = safetensors.torch.load_file(same / "adapter_model.safetensors")
    turned = {n: t * (2 if ".lora_A." in n else 0.5) for n, t in tensors.items()}  # other tensors, the same weight change
    safetensors.torch.save_file(turned, same / "adapter_model.safetensors", {"format": "pt"})
    assert all(row["absolute"] == 0 and row["relative"] == 0 and row["cosine"] == pytest.approx(1) for row in compare(run.adapter, same))
    name = sorted(n for n in tensors if ".lora_B." in n)[0]
    torch.manual_seed(0)
    safetensors.torch.save_file({**tensors, name: -tensors[name]}, same / "adapter_model.safetensors", {"format": "pt"})
    rows = {row["module"]: row for row in compare(run.adapter, same)}
    changed = rows.pop(name.removeprefix("base_model.model.").removesuffix(".lora_B.weight"))
    assert changed["cosine"] == pytest.approx(-1) and changed["relative"] == pytest.approx(2)
    assert all(row["relative"] == 0 for row in rows.values())


# --- the commands and the card ------------------------------------------------------------------------------------------------


def test_verify_says_what_was_proved_and_what_was_not(sealed, command):
    run, seal = sealed
    code, out, _ = command("verify", run.path)
    assert code == 0 and "Nothing was altered" in out and "Not proved: that manifest.json itself" in out and seal in out
    code, out, _ = command("verify", run.path, "--seal", seal.upper())
    assert code == 0 and "the file whose seal you kept" in out and "Not proved: that manifest.json itself" not in out
    flip(run.adapter / "adapter_model.safetensors")
    code, out, _ = command("verify", run.path, "--no-data")
    assert code == 1 and "adapter/adapter_model.safetensors" in out and "Not everything is as it was" in out
    code, out, _ = command("verify", run.path, "--json")
    result = json.loads(out)
    assert code == 1 and result["sound"] is False and result["seal"] == seal
    assert [p["name"] for p in result["parts"] if p["state"] == "altered"] == ["adapter/adapter_model.safetensors"]


def test_the_card_is_written_from_the_manifest_and_an_equal_one_keeps_the_seal(sealed, host, command):
    run, _ = sealed
    code, out, _ = command("card", run.path)
    assert code == 0 and out.splitlines()[0] == str(run.path / "model-card.md")
    after = verify(host, run.path).seal
    assert verify(host, run.path).sound
    assert command("card", run.path)[0] == 0 and verify(host, run.path).seal == after
    text = (run.path / "model-card.md").read_text(encoding="utf-8")
    digest = provenance.hash_file(run.adapter / "adapter_model.safetensors")
    for word in ("library_name: peft", "## Data / 数据", run.manifest()["data"]["sha256"], digest, "loraforge verify", "learning_rate"):
        assert word in text, word


MANIFEST = {
    "name": "法律<script>",
    "status": "finished",
    "task": "text",
    "config": {"base_model": "org/model", "lora_rank": 8, "train_data_dir": "/home/me/secret/rows"},
    "seed": 1,
    "base": {"name": "org/model", "revision": None, "folder": "/x", "files": {"model.safetensors": "ab"}},
    "data": {
        "sha256": "cd",
        "rows": [{"where": "r", "sha256": "x", "split": side} for side in ("train", "train", "held-out", "set aside")],
        "notes": ["[click](http://evil) <img src=x> | a `b` \n# Approved by everybody"],
        "review": {"approved": 2, "reviewed": 3, "unreviewed": 1, "rejected": 1, "reviewers": {"王`医生|\n## x": 3}},
        "findings": {"error": 0, "warning": 2, "hint": 1, "waived": 1},
    },
    "chosen": {"step": 50, "by": "held-out loss"},
    "evaluation": {
        "examples": 1,
        "comparisons": [
            {"measure": "loss", "rows": 1, "base": 2.5, "adapter": 1.25, "low": -2, "high": -0.5, "verdict": "better"},
            {"measure": "hits", "rows": 1, "base": 0.5, "adapter": 0.75, "low": 0.0, "high": 0.5, "share": True, "verdict": "unclear"},
        ],
        "sentence": ["The adapter is better.", "*Nothing* was forgotten."],
        "memorisation": {"learned_asked": 20, "learned_word_for_word": 4},
    },
    "lineage": [{"run": "/home/me/old", "seal": "ef", "adapter": "01", "started": "2026"}],
    "diagnosis": [{"kind": "x", "sentence": "Over-fitting since step 40."}],
    "versions": {"torch": "2"},
}


def test_a_card_holds_what_a_reviewer_asks_for(tmp_path):
    import yaml

    write_card(MANIFEST, None, tmp_path / "c.md")
    text = (tmp_path / "c.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---")[1])
    assert front == {"base_model": "org/model", "library_name": "peft", "tags": ["lora", "peft", "loraforge", "text"]}
    for word in (
        "4: 2 learned; 1 held out",
        "3 rows (2 approved) and nobody for 1; 1 were rejected",
        "0 errors, 2 warnings",
        "| loss | 1 | 2.500 | 1.250 | -2 … -0.500 | better |",
        "| hits | 1 | 50.0% | 75.0% | 0.0% … 50.0% | unclear |",
        "The adapter is better.",
        "4 word for word",
        "50 (held-out loss)",
        "Over-fitting since step 40.",
        "`ef`",
        "Only 1 examples",
    ):
        assert word in text, word
    assert "/home/me" not in text, "where things lie is nobody's business"


def test_nothing_in_the_data_becomes_markdown(tmp_path):
    write_card(MANIFEST, None, tmp_path / "c.md")
    text = (tmp_path / "c.md").read_text(encoding="utf-8")
    assert "<script>" not in text.replace("\\<script", "") and "](http" not in text.replace("\\](", "")
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# 法律\\<script\\>",
        "## What it is for, and what not / 用途与禁忌",
        "## Base model / 基座模型",
        "## Data / 数据",
        "## Training / 训练",
        "## Evaluation / 评估",
        "## Limits and cautions / 局限与注意事项",
        "## Earlier runs / 来历",
        "## How to verify / 如何核验",
        "## Versions and machine / 版本与机器",
    ]
    assert "``王`医生\\| ## x`` (3)" in text


def test_what_the_manifest_does_not_say_is_left_out(tmp_path):
    write_card({}, None, tmp_path / "c.md")
    text = (tmp_path / "c.md").read_text(encoding="utf-8")
    assert "## Data" not in text and "## Evaluation" not in text and "None" not in text and "base_model" not in text


def test_verify_and_card_do_not_import_torch(sealed):
    import subprocess

    run, _ = sealed
    code = (
        "import sys; from loraforge.cli.main import main\n"
        "for a in (['verify', '--help'], ['verify', sys.argv[1]], ['card', sys.argv[1]]):\n"
        "    try: main(a)\n"
        "    except SystemExit as e: assert not e.code, e.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
