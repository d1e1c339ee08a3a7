"""What verify finds: data, base, code, the runs before; manifests from anybody."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from builders.sealed_runs import bad, flip, rewrite

from loraforge import RunError
from loraforge.audit.card import write_card
from loraforge.audit.verify import verify
from loraforge.pipeline.reproduce import reproduce
from loraforge.runs import provenance
from loraforge.runs.seal import reseal, seal_run


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
