# SPDX-License-Identifier: Apache-2.0
"""Somebody who may write into a run's folder, and knows how everything in it is made, forges it. The verifier holds the seal."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from builders.sealed_runs import EVALUATION, evaluated, exported, forged, hash_of, made_run, promoted, put

from loraforge import RunError
from loraforge.audit.verify import verify
from loraforge.plugin_api.host import PluginHost
from loraforge.runs import provenance
from loraforge.runs.folder import RunFolder
from loraforge.runs.seal import seal_run

PLUGINS = PluginHost(blocked=())
BAD = ("altered", "missing", "added")
WEIGHTS = "adapter/adapter_model.safetensors"


@pytest.fixture(autouse=True)
def _same_code(monkeypatch):
    """The hash of the whole source takes longer than all the rest of a look."""
    monkeypatch.setattr(provenance, "code", lambda host: {})
    monkeypatch.setattr(provenance, "versions", lambda: {"python": "3"})


@pytest.fixture
def run(tmp_path):
    """A sealed run; ``run.seal`` is what the verifier keeps."""
    made, seal = made_run(tmp_path)
    object.__setattr__(made, "seal", seal)
    return made


def look(run, seal=None, **options):
    return verify(PLUGINS, run.path, seal or run.seal, data=False, **options)


def caught(run, **options):
    return {part.name for part in look(run, **options).parts if part.state in BAD}


def rewritten(run, edit, seal=True):
    """The manifest, changed and perhaps sealed again."""
    manifest, _ = run.sealed_manifest()
    edit(manifest)
    run.write_manifest(manifest)
    if seal:
        put(run, "manifest.sha256", f"{provenance.hash_file(run.manifest_file)}  manifest.json\n")


def altered(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def swapped_adapter(run):
    put(run, WEIGHTS, "evil")
    return {WEIGHTS: "evil"}


def chain_of_three(run):
    evaluated(run)
    exported(run)
    evaluated(run, examples=11)


# --- forgeries: (what is done, what is named) ------------------------------------------------------------------------------------

MANIFEST = {
    "figures in the manifest": (lambda r: rewritten(r, lambda m: m["evaluation"].update(examples=99), seal=False), "manifest.json"),
    "figures, sealed again": (lambda r: rewritten(r, lambda m: m["evaluation"].update(examples=99)), "--seal"),
    "adapter and figures, sealed again, which names the old seal as its own": (
        lambda r: (swapped_adapter(r), seal_run(r, {**r.sealed_manifest()[0], "seals": [r.seal], "evaluation": None})), "--seal",
    ),
    "a row moved into the hold-out, sealed again": (lambda r: rewritten(r, lambda m: m["data"]["rows"][0].update(split="held-out")), "--seal"),
    "two seals in the seal file": (
        lambda r: (rewritten(r, lambda m: m.update(seed=2)), put(r, "manifest.sha256", f"{r.seal}  manifest.json\n{provenance.hash_file(r.manifest_file)}  manifest.json\n")),
        "--seal",
    ),
    "the whole run replaced by another with its own chain": (
        lambda r: (shutil.rmtree(r.path), shutil.rmtree(r.path.parent / "base"), made_run(r.path.parent), rewritten(r, lambda m: m.update(seed=3)), evaluated(r)), "--seal",
    ),
    "the seal file taken away": (lambda r: (r.path / "manifest.sha256").unlink(), "manifest.json"),
    "the seal file a link": (lambda r: (shutil.move(r.path / "manifest.sha256", r.path / "x"), os.symlink("x", r.path / "manifest.sha256")), "manifest.json"),
}  # fmt: skip

FILES = {
    "the adapter": (swapped_adapter, WEIGHTS),
    "the adapter a link to equal content elsewhere": (
        lambda r: (shutil.move(r.path / WEIGHTS, r.path.parent / "w"), os.symlink(r.path.parent / "w", r.path / WEIGHTS)), WEIGHTS,
    ),
    "the adapter's folder a link": (lambda r: (shutil.move(r.adapter, r.path.parent / "a"), os.symlink(r.path.parent / "a", r.adapter)), WEIGHTS),
    "the adapter a hard link to something else": (
        lambda r: (put(r, "../evil", "evil"), (r.path / WEIGHTS).unlink(), os.link(r.path.parent / "evil", r.path / WEIGHTS)), WEIGHTS,
    ),
    "pickled weights beside the adapter": (lambda r: put(r, "adapter/adapter_model.bin", "x"), "adapter/adapter_model.bin"),
    "a shard beside the adapter": (lambda r: put(r, "adapter/model-00002-of-00002.safetensors", "x"), "adapter/model-00002-of-00002.safetensors"),
    "weights whose name differs in case": (lambda r: put(r, "adapter/Adapter_Model.safetensors", "x"), "adapter/Adapter_Model.safetensors"),
    "a folder whose name differs in case": (lambda r: put(r, "Adapter/more.safetensors", "x"), "Adapter/more.safetensors"),
    "a name in full-width letters": (lambda r: put(r, "ｅval.json", "x"), "ｅval.json"),
    "a name with a letter that has no width": (lambda r: put(r, "export\u200b/x.gguf", "x"), "export\u200b/x.gguf".replace("\u200b", "?")),
    "a report whose name differs in case": (lambda r: put(r, "Findings.csv", "x"), "Findings.csv"),
    "a config whose name differs in case": (lambda r: put(r, "CONFIG.yaml", "x"), "CONFIG.yaml"),
    "a checkpoint that was never trained": (lambda r: put(r, "checkpoints/step-000009/adapter/adapter_model.safetensors", "x"), "checkpoints/step-000009/adapter/adapter_model.safetensors"),
    "the log": (lambda r: altered(r.log_file, "0.33", "0.11"), "log.jsonl"),
    "a sample": (lambda r: put(r, "samples/step-000003/01.png", "better"), "samples/step-000003/01.png"),
    "figures in eval.json": (lambda r: altered(r.path / "eval.json", '"adapter": 1.25', '"adapter": 0.01'), "eval.json"),
}  # fmt: skip

BASE = {
    name: (lambda r, name=name: put(r, f"../base/{name}", "x"), name)
    for name in ("adapter_config.json", "model-00002-of-00002.safetensors", "model.safetensors.index.json", "chat_template.jinja",
                 "additional_chat_templates/rag.jinja", "consolidated.pth", "generation_config.json", "modeling_evil.py", "TOKENIZER.MODEL")
}  # fmt: skip
BASE["a second pickled file, which was there and is another now"] = (
    lambda r: altered(r.path.parent / "base" / "config.json", "c", "d"),
    "config.json",
)

RECORDS = {
    "the adapter, by eval": (lambda r: forged(r, files=swapped_adapter(r)), "records/0001.json"),
    "the adapter, by promote of a step that has other weights": (
        lambda r: forged(r, command="promote", files=swapped_adapter(r), entries={"chosen": {"step": 3, "by": "promote", "held_out_loss": 1 / 3}}), "records/0001.json",
    ),
    "the adapter, by promote of a checkpoint that was made afterwards": (
        lambda r: (put(r, "checkpoints/step-000009/adapter/adapter_model.safetensors", "evil"),
                   forged(r, command="promote", files=swapped_adapter(r), entries={"chosen": {"step": 9, "by": "promote", "held_out_loss": 0.1}})),
        "records/0001.json",
    ),
    "more weights, by a promotion": (
        lambda r: forged(r, command="promote", files={"adapter/adapter_model.bin": put(r, "adapter/adapter_model.bin", "x")}, entries={"chosen": {"step": 6, "by": "promote", "held_out_loss": 1 / 6}}),
        "records/0001.json",
    ),
    "fewer files of the adapter, by a promotion": (
        lambda r: ((r.adapter / "adapter_config.json").unlink(),
                   forged(r, command="promote", files={"adapter/adapter_config.json": None}, entries={"chosen": {"step": 6, "by": "promote", "held_out_loss": 1 / 6}})),
        "records/0001.json",
    ),
    "a promotion with a better loss than the log has": (lambda r: promoted(r, 3, loss=0.001), "records/0001.json"),
    "figures in eval.json and none in the record": (lambda r: forged(r, files={"eval.json": put(r, "eval.json", json.dumps({**EVALUATION, "examples": 99}))}), "eval.json"),
    "figures in the record and none in eval.json": (lambda r: forged(r, entries={"evaluation": {**EVALUATION, "examples": 99}}), "eval.json"),
    **{
        f"the entry {key}": (lambda r, key=key, command=command: forged(r, command=command, entries={key: {}}), "records/0001.json")
        for key, command in (("data", "eval"), ("config", "promote"), ("base", "export"), ("files", "eval"), ("lineage", "eval"), ("metrics", "promote"), ("identity", "card"),
                             ("template", "grade"), ("evaluation", "card"), ("chosen", "eval"), ("seals", "eval"))
    },
    **{
        f"the file {name!r}, by {command}": (lambda r, name=name, command=command: forged(r, command=command, files={name: "x"}), "records/0001.json")
        for name, command in (
            ("config.yaml", "eval"), ("log.jsonl", "eval"), ("findings.csv", "card"), ("samples/step-000003/01.png", "eval"), ("checkpoints/step-000003/state.json", "promote"),
            ("manifest.json", "eval"), ("manifest.sha256", "card"), ("records/0001.json", "eval"), ("../base/model.safetensors", "export"), ("export/../adapter/x", "export"),
            ("export/x/../../adapter/x", "export"), ("export//x", "export"), ("export/x", "export"), ("/etc/passwd", "export"), ("export/a\\..\\..\\adapter/x", "export"),
            ("Eval.json", "eval"), ("ｅval.json", "eval"), ("./eval.json", "eval"), ("adapter/./x", "promote"), ("", "eval"), ("adapter", "promote"), ("eval.json", "card"), ("export/a\0/b", "export"),
        )
    },
    "the card taken away": (lambda r: forged(r, files={"model-card.md": None}), "records/0001.json"),
    "a command that nobody knows": (lambda r: forged(r, command="retrain"), "records/0001.json"),
    "another run's record": (lambda r: forged(r, seal="0" * 64), "records/0001.json"),
    "a record that follows nothing": (lambda r: forged(r, previous="0" * 64), "records/0001.json"),
    "a number that is not its own": (lambda r: (evaluated(r), shutil.copy(r.path / "records/0001.json", r.path / "records/0002.json")), "records/0002.json"),
    "a first record called 0": (lambda r: forged(r).rename(r.path / "records/0000.json"), "records/0000.json"),
    "a second chain beside the first": (lambda r: (evaluated(r), put(r, "records/0001b.json", "{}")), "records/0001b.json"),
    "a second chain in another folder": (lambda r: (evaluated(r), put(r, "records/other/0001.json", "{}")), "records/other"),
    "a record with another ending": (lambda r: (evaluated(r), shutil.copy(r.path / "records/0001.json", r.path / "records/0001.JSON")), "records/0001.JSON"),
    "a record that is a link": (lambda r: (evaluated(r), shutil.move(r.path / "records/0001.json", r.path.parent / "l"), os.symlink(r.path.parent / "l", r.path / "records/0001.json")), "records/0001.json"),
    "records in a folder that is a link": (lambda r: (evaluated(r), shutil.move(r.path / "records", r.path.parent / "l"), os.symlink(r.path.parent / "l", r.path / "records")), "records"),
    "a record that is a folder": (lambda r: (r.path / "records/0001.json").mkdir(parents=True), "records/0001.json"),
    "a record dropped in the middle": (lambda r: (chain_of_three(r), (r.path / "records/0002.json").unlink()), "records/0002.json"),
    "the first record dropped": (lambda r: (chain_of_three(r), (r.path / "records/0001.json").unlink()), "records/0001.json"),
    "a record dropped and the others moved up": (
        lambda r: (chain_of_three(r), (r.path / "records/0002.json").unlink(), (r.path / "records/0003.json").rename(r.path / "records/0002.json")), "records/0002.json",
    ),
    "two records exchanged": (
        lambda r: (chain_of_three(r), [(r.path / f"records/{a}").rename(r.path / f"records/{b}") for a, b in (("0001.json", "x"), ("0002.json", "0001.json"), ("x", "0002.json"))]), "records/0001.json",
    ),
    "figures of an early record": (lambda r: (chain_of_three(r), altered(r.path / "records/0001.json", '"examples": 9', '"examples": 99')), "records/0002.json"),
    "a key that stands twice": (
        lambda r: (evaluated(r), altered(r.path / "records/0001.json", '"entries": {', '"entries": {}, "entries": {')), "records/0001.json",
    ),
    "an entry more": (lambda r: (evaluated(r), altered(r.path / "records/0001.json", '"command"', '"adapter": "x", "command"')), "records/0001.json"),
    "a hash that is none": (lambda r: forged(r, files={"eval.json": "G" * 64}), "records/0001.json"),
    "a number that is true": (lambda r: altered(forged(r), '"number": 1', '"number": true'), "records/0001.json"),
    "an empty record": (lambda r: put(r, "records/0001.json", ""), "records/0001.json"),
    "a record that is nested too deeply": (lambda r: put(r, "records/0001.json", "[" * 100_000), "records/0001.json"),
    "a record far ahead": (lambda r: forged(r, number=999_999_999), "records/0001.json"),
    "an export beside the chain": (lambda r: (exported(r), put(r, "export/gguf/more.gguf", "x")), "export/gguf/more.gguf"),
    "an altered export": (lambda r: (exported(r), put(r, "export/gguf/model.gguf", "x")), "export/gguf/model.gguf"),
    "files said to wait to be put in place": (
        lambda r: (exported(r), put(r, "export/gguf/model.gguf", "evil"), put(r, ".record-0001/export/gguf/model.gguf", "gguf")), "export/gguf/model.gguf",
    ),
    "an export taken away, and something else said to wait for its place": (
        lambda r: (exported(r), (r.path / "export/gguf/model.gguf").unlink(), put(r, ".record-0001/export/gguf/model.gguf", "evil")),
        "export/gguf/model.gguf",
    ),
    "an evaluation that a promotion took away, put back": (lambda r: (before := (r.path / "eval.json").read_text(), promoted(r, 3), put(r, "eval.json", before)), "eval.json"),
}  # fmt: skip

FORGERIES = {
    f"{kind}: {name}": done
    for kind, known in (("manifest", MANIFEST), ("file", FILES), ("base", BASE), ("record", RECORDS))
    for name, done in known.items()
}


@pytest.mark.parametrize("name", list(FORGERIES))
def test_a_forgery_is_named_in_front_of_the_seal(run, name):
    assert not caught(run)
    forge, named = FORGERIES[name]
    forge(run)
    assert named in caught(run)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in FORGERIES
        if name.startswith("record: ") and "export" not in name and "eval" not in name and "wait" not in name and "loss" not in name
    ],
)
def test_no_command_builds_on_a_chain_that_was_forged(run, name):
    FORGERIES[name][0](run)
    with pytest.raises(RunError):
        exported(run, "other")
    assert not (run.exports / "other").exists()


def test_a_key_that_stands_twice_in_the_manifest_is_an_error(run):
    altered(run.manifest_file, '"seed": 1', '"seed": 1, "seed": 2')
    with pytest.raises(RunError, match="'seed' stands there twice"):
        look(run)


def test_what_a_forger_with_a_right_record_can_add_is_listed_and_called_unproved(run, command):
    """No chain of hashes can tell a forger's evaluation from an honest one; a signature can. What was sealed stays as it was."""
    result = {**EVALUATION, "examples": 9999}
    forged(run, files={"eval.json": put(run, "eval.json", json.dumps(result))}, entries={"evaluation": result})
    code, out, _ = command("verify", run.path, "--seal", run.seal, "--no-data")
    assert code == 0 and "Nothing that was sealed was altered" in out and "Nothing was altered" not in out
    assert "records/0001.json: eval, 2026-02-01T00:00:00+0000: wrote eval.json; entered evaluation" in out
    assert "who wrote the records of later commands, and that their figures are true" in out
    assert run.sealed_manifest()[0]["evaluation"] == EVALUATION and run.manifest()["evaluation"] == result


def test_records_taken_away_at_the_end_are_seen_by_the_newest_hash_alone(run):
    exported(run)
    newest = evaluated(run).digest
    first = run.path / "records" / "0001.json"
    assert not caught(run) and look(run, newest).anchored and look(run, provenance.hash_file(first)).anchored and look(run).newest == newest
    (run.path / "records" / "0002.json").unlink()
    put(run, "eval.json", json.dumps({**EVALUATION, "rows": [], "run": "x"}))
    put(run, "model-card.md", "# legal\n")
    assert not caught(run), "nobody can tell by the seal of the training"
    assert caught(run, seal=newest) == {"--seal"}


def test_an_earlier_version_rewrote_its_manifest_and_its_word_for_that_is_not_taken(run):
    rewritten(run, lambda m: m.update(seals=[run.seal], note="by an earlier LoRAForge"))
    newest = provenance.hash_file(run.manifest_file)
    assert not caught(run, seal=newest) and caught(run) == {"--seal"}
    (said,) = [part.sentence for part in look(run).of("seal")]
    assert "anybody could have written this" in said
    evaluated(run)
    assert not caught(run, seal=newest), "later commands add records to it"


def test_a_base_is_compared_by_what_a_loader_would_read(run):
    base = run.path.parent / "base"
    for name in ("LICENSE", "readme.txt", "picture.png", ".gitattributes"):
        (base / name).write_text("x", encoding="utf-8")
    found = look(run)
    told = {part.name: part.state for part in found.of("base") if part.state != "unchanged"}
    assert found.sound and told == dict.fromkeys(("LICENSE", "readme.txt", "picture.png"), "not recorded")
    rewritten(run, lambda m: m["base"].pop("others"))
    (base / "evil.bin").write_text("x", encoding="utf-8")
    seal = provenance.hash_file(run.manifest_file)
    told = {part.name: part.state for part in look(run, seal).of("base") if part.state != "unchanged"}
    assert told == {"evil.bin": "not recorded", "pytorch_model.bin": "not recorded"}, "an earlier version did not list them"


def test_a_base_that_is_one_file_has_neighbours_that_are_nobodys_business(tmp_path):
    (tmp_path / "model.safetensors").write_text("x", encoding="utf-8")
    (tmp_path / "other.safetensors").write_text("x", encoding="utf-8")
    entry = provenance.base(str(tmp_path / "model.safetensors"), None, [tmp_path / "model.safetensors"])
    assert "others" not in entry and entry["files"] == {"model.safetensors": hash_of("x")}


def test_a_planted_folder_of_waiting_files_is_never_put_in_place(run):
    exported(run)
    put(run, ".record-0001/adapter/adapter_model.safetensors", "evil")
    put(run, ".record-0007/adapter/adapter_model.safetensors", "evil")
    with pytest.raises(RunError, match="is not the file that records/0001.json names"):
        evaluated(run)
    assert (run.path / WEIGHTS).read_text() == "weights of 6"


def test_a_record_cannot_be_planted_in_a_run_that_was_never_sealed(tmp_path):
    run = RunFolder(tmp_path)
    run.write_manifest({"status": "failed"})
    forged(run, entries={"evaluation": EVALUATION})
    with pytest.raises(RunError, match="never sealed"):
        run.manifest()
