# SPDX-License-Identifier: Apache-2.0
"""What verify finds: data, base, code, the runs before; manifests from anybody."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

import pytest
from builders.sealed_runs import bad, flip, rewrite

from loraforge import ConfigError, RunError
from loraforge.audit import chain as chain_module
from loraforge.audit import verify as verify_module
from loraforge.audit.card import write_card
from loraforge.audit.verdicts import Verifier
from loraforge.audit.verify import verify
from loraforge.pipeline.reproduce import reproduce
from loraforge.runs import provenance
from loraforge.runs.amending import amend
from loraforge.runs.folder import RunFolder
from loraforge.runs.records import Chain, Record
from loraforge.runs.seal import seal_run


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
    with amend(first, "eval") as change:
        change.entries["evaluation"] = {"examples": 2}
    assert states() == ["unchanged"], "a later command adds a record and leaves the seal"
    seal_run(first, {**first.sealed_manifest()[0], "note": "x"})
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


# --- each look by itself ---------------------------------------------------------------------------------------------------------


def looks(tmp_path, **manifest) -> Verifier:
    return Verifier(None, RunFolder(tmp_path), manifest)


def found(verifier: Verifier) -> list[tuple[str, str]]:
    return [(part.name, part.state) for part in verifier.parts]


@pytest.mark.parametrize(
    ("seal", "manifest", "state"),
    [
        ("d", {}, "unchanged"),
        ("other", {}, "altered"),
        (None, {}, "not recorded"),
        (None, {"files": {}}, "missing"),
        ("", {}, "missing"),
        ("", {"files": {}}, "missing"),
    ],
)
def test_the_manifest_against_the_seal_beside_it(tmp_path, seal, manifest, state):
    if seal is not None:
        (tmp_path / "manifest.sha256").write_text(f"{seal}  manifest.json\n" if seal else "", encoding="utf-8")
    looked = looks(tmp_path, **manifest)
    assert chain_module.verify_seal(looked, "d", "", Chain()) is None
    assert found(looked) == [("manifest.json", state), ("--seal", "not checked")]
    hint = "deleted, or the run was interrupted" in looked.parts[0].sentence
    assert hint is (seal is None and "files" in manifest)


@pytest.mark.parametrize(
    ("wanted", "seals", "state"),
    [
        ("d", None, "unchanged"),
        ("r", None, "unchanged"),
        ("e", None, "altered"),
        ("e", ["e", "f"], "altered"),
        ("e", "e", "altered"),
        ("", ["e"], "not checked"),
    ],
)
def test_the_manifest_against_the_seal_that_was_kept_elsewhere(tmp_path, wanted, seals, state):
    looked = looks(tmp_path, seals=seals)
    there = chain_module.verify_seal(looked, "d", wanted, Chain((Record(1, "r", "card", "", {}, {}),)))
    assert found(looked)[1] == ("--seal", state) and there is {"unchanged": True, "altered": False, "not checked": None}[state]
    assert ("earlier LoRAForge" in looked.parts[1].sentence) == (seals == ["e", "f"])


@pytest.mark.parametrize("form", ["{}", " SHA256:{} ", "sha256:{}\n"])
def test_a_seal_is_taken_as_people_copy_it(sealed, host, form):
    run, seal = sealed
    assert verify(host, run.path, form.format(seal.upper() if "SHA" in form else seal)).anchored is True
    other = "0" * 64
    assert verify(host, run.path, other).anchored is False and verify(host, run.path).anchored is None
    for bad_seal in (seal[:-1], seal + "0", "g" * 64, ""):
        with pytest.raises(ConfigError, match="a seal is 64 digits"):
            verify(host, run.path, bad_seal)


def test_files_that_are_there_gone_altered_and_added(tmp_path):
    for name in ("adapter/a", "export/new", "samples/s", "checkpoints/c", "notes.txt", "ok"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x", encoding="utf-8")
    os.symlink(tmp_path / "ok", tmp_path / "adapter" / "link")
    good = provenance.hash_file(tmp_path / "ok")
    looked = looks(tmp_path, files={"ok": good, "adapter/a": "0", "gone": good, "../x": good})
    verify_module._files(looked, chain_module.Owners(looked, looked.manifest, Chain()))
    assert sorted(found(looked)) == sorted([
        ("ok", "unchanged"), ("adapter/a", "altered"), ("gone", "missing"), ("../x", "altered"), ("adapter/link", "added"), ("export/new", "added"),
        ("samples/s", "added"), ("checkpoints/c", "added"), ("notes.txt", "not recorded"),
    ])  # fmt: skip
    said = {part.name: part.sentence for part in looked.parts}
    assert "is a link that was put there" in said["adapter/link"] and said["export/new"] == "was put there afterwards"


def test_a_file_whose_name_takes_the_place_of_another_elsewhere_is_named(tmp_path):
    """In full-width letters, in capitals, with a sign that nobody sees: of a file of the run, of one that is read, of a closed folder."""
    for name in ("config.yaml", "\uff23onfig.yaml", "con\u200bfig.yaml", "\uff2cog.jsonl", "\uff21dapter/x", "other.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x", encoding="utf-8")
    looked = looks(tmp_path, files={"config.yaml": provenance.hash_file(tmp_path / "config.yaml")})
    verify_module._files(looked, chain_module.Owners(looked, looked.manifest, Chain()))
    told = {part.name: (part.state, part.sentence.partition(":")[0]) for part in looked.parts[1:]}
    like, afterwards = ("added", "is called almost like config.yaml"), ("added", "was put there afterwards")
    assert told.pop("other.yaml")[0] == "not recorded"
    assert told == {"\uff23onfig.yaml": like, "con?fig.yaml": like, "\uff2cog.jsonl": afterwards, "\uff21dapter/x": afterwards}


@pytest.mark.parametrize(
    ("base", "parts"),
    [({"files": {}}, [("base", "not recorded")]), ({"files": {"f": "0"}}, [("None", "not checked")]), ({"files": {"f": "0"}, "folder": "/gone"}, [("/gone", "not checked")]),
     ({}, [("base.files", "not recorded")])],
)  # fmt: skip
def test_a_base_that_cannot_be_looked_at(tmp_path, base, parts):
    looked = looks(tmp_path, base=base)
    verify_module._base(looked)
    assert found(looked) == parts


def test_the_programs_that_made_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "code", lambda host: {"same": "a" * 40, "other": "b" * 40})
    monkeypatch.setattr(provenance, "versions", lambda: {"torch": "2"})
    looked = looks(tmp_path, code={"same": "a" * 40, "other": "c" * 40, "gone": "d"}, versions={"torch": "1"})
    verify_module._code(looked)
    assert found(looked) == [("same", "unchanged"), ("other", "differs"), ("gone", "differs"), ("torch", "differs")]
    assert [part.kind for part in looked.parts] == ["code", "code", "code", "version"]
    assert (
        looked.parts[1].sentence == f"was {'c' * 16} when the run was made; here it is {'b' * 16}"
        and "is not installed" in looked.parts[2].sentence
    )


def test_the_runs_before_it(tmp_path):
    parent = tmp_path / "parent"
    for name, content in (("adapter", b"one"), ("checkpoints/step-000002/adapter", b"two")):
        (parent / name).mkdir(parents=True)
        (parent / name / "adapter_model.safetensors").write_bytes(content)
    (parent / "checkpoints" / "step-000002" / "state.json").write_text("{}", encoding="utf-8")
    (parent / "manifest.json").write_text("{}", encoding="utf-8")
    seal = provenance.hash_file(parent / "manifest.json")
    one, two = (
        provenance.hash_file(parent / name / "adapter_model.safetensors") for name in ("adapter", "checkpoints/step-000002/adapter")
    )
    assert verify_module.ancestor({"run": str(parent), "adapter": one}) == parent / "adapter"
    assert verify_module.ancestor({"run": str(parent), "adapter": two}) == parent / "checkpoints" / "step-000002" / "adapter"
    assert verify_module.ancestor({"run": str(parent), "adapter": "0"}) is None
    run = str(parent)
    entries = [
        {"run": run, "adapter": one, "seal": seal}, {"run": run, "adapter": one, "seal": "0"}, {"run": run, "adapter": two, "seal": None},
        {"run": run, "adapter": "0", "seal": seal}, {"run": str(tmp_path / "gone"), "adapter": one}, {"run": 3}, "x",
    ]  # fmt: skip
    looked = looks(tmp_path, lineage=entries)
    verify_module._lineage(looked)
    assert [part.state for part in looked.parts] == ["unchanged", "differs", "not recorded", "altered", "not checked", "altered", "altered"]
    nothing = looks(tmp_path, lineage=[])
    verify_module._lineage(nothing)
    assert nothing.parts == []
    os.rename(parent / "manifest.json", parent / "m.json")
    os.symlink(parent / "m.json", parent / "manifest.json")
    linked = looks(tmp_path, lineage=entries[:1])
    verify_module._lineage(linked)
    assert [part.state for part in linked.parts] == ["not checked"]


def test_what_lies_inside_of_a_folder(tmp_path):
    root, outside = tmp_path / "hub" / "snapshots" / "main", tmp_path / "outside"
    root.mkdir(parents=True)
    outside.mkdir()
    blobs = tmp_path / "hub" / "blobs"
    blobs.mkdir()
    for place in (blobs / "b", outside / "o", root / "own"):
        place.write_text("x", encoding="utf-8")
    os.symlink(blobs / "b", root / "to_blob")
    os.symlink(outside / "o", root / "to_outside")
    os.symlink(root / "own", root / "to_own")
    os.symlink(outside, root / "folder")
    inside = verify_module._inside
    assert inside(root, "own") == root / "own" == inside(root, "own", blobs=True) and inside(root, "a/b.txt") == root / "a" / "b.txt"
    for name in ("to_blob", "to_outside", "to_own", "folder/o"):
        assert inside(root, name) is None, "links are not followed in a run"
    assert inside(root, "to_blob", blobs=True) == root / "to_blob" and inside(root, "to_own", blobs=True) == root / "to_own"
    for name in ("to_outside", "folder/o", "..", "../x", "a\\..\\x", "/x", "C:x", "\\x", "", "a\0", "\ud800"):
        assert inside(root, name, blobs=True) is None, name


@pytest.mark.parametrize("others", [[], None])
def test_a_base_in_a_hubs_cache_is_links_and_what_joins_them_is_told(tmp_path, others):
    root, blobs = tmp_path / "hub" / "snapshots" / "main", tmp_path / "hub" / "blobs"
    (root / "unet").mkdir(parents=True)
    blobs.mkdir()
    names = ("config.json", "unet/model.safetensors")
    for number, name in enumerate(names):
        (blobs / f"{number}").write_text(name, encoding="utf-8")
        (root / name).symlink_to(blobs / f"{number}")
    recorded = {name: hashlib.sha256(name.encode()).hexdigest() for name in names}
    entry = {"name": "some/base", "folder": str(root), "files": recorded} | ({} if others is None else {"others": others})
    looked = looks(tmp_path, base=entry)
    verify_module._base(looked)
    assert found(looked) == [(name, "unchanged") for name in names]
    (root / "unet" / "code.py").write_text("", encoding="utf-8")
    del looked.parts[:]
    verify_module._base(looked)
    assert found(looked)[2:] == [("unet/code.py", "not recorded" if others is None else "added")]
    for name in (".hidden", "README.md", "added.py", "before.py"):  # what was there then, what no loader reads, and what one does
        (root / name).touch()
    looked = looks(tmp_path, base={**entry, "others": ["before.py", "unet/code.py"]} if others is not None else entry)
    verify_module._base(looked)
    told = {"README.md": "not recorded", "added.py": "added"}
    untold = dict.fromkeys(("added.py", "before.py", "unet/code.py"), "not recorded")
    assert dict(found(looked)[2:]) == (told if others is not None else untold)
