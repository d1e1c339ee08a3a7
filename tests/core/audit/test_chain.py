# SPDX-License-Identifier: Apache-2.0
"""Who signed a run, what is signed, and what a forger without the key cannot do."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

import pytest
from builders.sealed_runs import EVALUATION, evaluated, exported, forged, made_run, promoted, put

from loraforge.audit.chain import Owners
from loraforge.audit.verdicts import Verifier
from loraforge.audit.verify import _files, verify
from loraforge.plugin_api.host import PluginHost
from loraforge.runs import provenance, signing
from loraforge.runs.folder import RunFolder
from loraforge.runs.records import Chain, Record
from loraforge.runs.seal import seal_run

PLUGINS = PluginHost(blocked=())


@pytest.fixture(autouse=True)
def _same_code(monkeypatch):
    monkeypatch.setattr(provenance, "code", lambda host: {})


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """(the user's signer, a stranger's)."""
    made = [signing.generate(tmp_path_factory.mktemp("keys"), who)[0] for who in ("王医生", "Mallory")]
    return tuple(signing.read_secret(path, str) for path in made)


@pytest.fixture
def run(tmp_path, keys):
    """A signed run with two signed records."""
    made, _ = made_run(tmp_path)
    seal_run(made, made.sealed_manifest()[0], keys[0])
    evaluated(made, keys[0])
    exported(made, signer=keys[0])
    return made


def look(run, key, **options):
    return verify(PLUGINS, run.path, data=False, key=key, **options)


def caught(run, key, **options):
    return {(part.kind, part.name) for part in look(run, key, **options).parts if part.state in ("altered", "missing", "added")}


def test_a_signed_run_needs_no_number(run, keys):
    found = look(run, keys[0].public)
    assert found.sound and found.signed == f"{keys[0].public.name}, called 王医生" and found.anchored is None
    assert [(part.name, part.state) for part in found.of("signature")] == [
        (name, "unchanged") for name in ("manifest.json", "records/0001.json", "records/0002.json")
    ]
    promoted(run, signer=keys[0])
    assert look(run, keys[0].public).signed and not caught(run, keys[0].public)


def signed_by(run, name, signer):
    file = run.path / name
    put(run, f"{name}.minisig", signer.sign(file.read_bytes(), file.name))


def _evaluation(run):
    result = {**EVALUATION, "examples": 9999}
    return forged(run, files={"eval.json": put(run, "eval.json", json.dumps(result))}, entries={"evaluation": result})


FORGERIES = {
    "an evaluation with a record of its own": (lambda r, m: _evaluation(r), "records/0003.json"),
    "the same, signed by somebody else": (lambda r, m: (_evaluation(r), signed_by(r, "records/0003.json", m)), "records/0003.json"),
    "the same, with the signature of another record": (
        lambda r, m: (_evaluation(r), shutil.copy(r.path / "records/0002.json.minisig", r.path / "records/0003.json.minisig")), "records/0003.json",
    ),
    "all of it sealed and signed anew by somebody else": (
        lambda r, m: (shutil.rmtree(r.path / "records"), put(r, "adapter/adapter_model.safetensors", "evil"), seal_run(r, r.sealed_manifest()[0], m)), "manifest.json",
    ),
    "the manifest's signature taken away": (lambda r, m: (r.path / "manifest.json.minisig").unlink(), "manifest.json"),
    "a record's signature taken away": (lambda r, m: (r.path / "records/0001.json.minisig").unlink(), "records/0001.json"),
    "a signature that is a link": (lambda r, m: (shutil.move(r.path / "manifest.json.minisig", r.path.parent / "s"), os.symlink(r.path.parent / "s", r.path / "manifest.json.minisig")), "manifest.json"),
    "a signature that is none": (lambda r, m: put(r, "manifest.json.minisig", "yes"), "manifest.json"),
    "the key's number under another key's signature": (
        lambda r, m: signed_by(r, "manifest.json", signing.Signer(signing.PublicKey(signing.read_public(KEY[0]).id, m.public.key), m.seed)), "manifest.json",
    ),
}  # fmt: skip
KEY: list[str] = []


@pytest.mark.parametrize("name", list(FORGERIES))
def test_without_the_key_nothing_can_be_added_or_signed(run, keys, name):
    KEY[:] = [keys[0].public.text]
    forge, named = FORGERIES[name]
    forge(run, keys[1])
    found = look(run, keys[0].public)
    assert ("signature", named) in caught(run, keys[0].public) and found.signed is None


def test_a_signature_that_was_kept_shows_what_was_taken_away(run, keys, tmp_path):
    kept = shutil.copy(run.path / "records" / "0002.json.minisig", tmp_path / "kept.minisig")
    assert not caught(run, keys[0].public, signature=kept)
    assert [part.state for part in look(run, None, signature=kept).of("signature")][-1] == "not checked"
    for name in ("records/0002.json", "records/0002.json.minisig"):
        (run.path / name).unlink()
    shutil.rmtree(run.exports / "gguf")
    assert not caught(run, keys[0].public), "what is left is signed, all of it"
    assert caught(run, keys[0].public, signature=kept) == {("signature", str(kept))}


def test_a_signature_without_its_record_is_told_and_is_what_a_killed_command_leaves(run, keys):
    (run.path / "records" / "0002.json").unlink()
    shutil.rmtree(run.exports / "gguf")
    found = look(run, keys[0].public)
    assert found.sound and [(part.name, part.state) for part in found.of("signature")][-1] == ("records/0002.json.minisig", "differs")
    evaluated(run, examples=7)
    assert not (run.path / "records" / "0002.json.minisig").exists() and ("signature", "records/0002.json") in caught(run, keys[0].public)


def test_ones_own_signature_is_checked_without_asking_and_a_strangers_is_told(run, keys, tmp_path, monkeypatch):
    assert [part.state for part in look(run, None).of("signature")] == ["not checked"] * 3
    monkeypatch.setattr(signing, "settings_folder", lambda: tmp_path / "mine")
    put(run, "../mine/signing.pub", f"untrusted comment: x\n{keys[1].public.text}\n")
    assert {part.state for part in look(run, None).of("signature")} == {"not checked"}
    put(run, "../mine/signing.pub", f"untrusted comment: x\n{keys[0].public.text}\n")
    assert look(run, None).signed
    _evaluation(run)
    assert caught(run, None) == {("signature", "records/0003.json")}


def test_the_commands_sign_where_there_is_a_key(tmp_path, command, monkeypatch):
    run, _ = made_run(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setenv("APPDATA", str(tmp_path / "settings"))
    assert json.loads(command("card", run.path, "--json")[1])["signed"] is None
    code, out, err = command("keygen", "--name", "Dr. Li")
    public = tmp_path / "settings" / "loraforge" / "signing.pub"
    assert code == 0 and str(public) in out, err
    assert command("keygen")[0] == 2 and "is a run's folder" in command("keygen", "--out", run.path / "keys")[2]
    put(run, "adapter/adapter_model.safetensors", "weights of 6")
    (run.path / "model-card.md").unlink()
    made = {}
    for options in ((), ("--key", "none")):
        monkeypatch.setenv("LORAFORGE_LANG", "zh" if not options else "en")  # another language, another card
        made[options] = json.loads(command("card", run.path, "--json", *options)[1])
    monkeypatch.setenv("LORAFORGE_LANG", "en")
    name = signing.read_public(str(public)).name
    assert made[()]["signed"] == name and made[("--key", "none")]["signed"] is None
    code, out, _ = command("verify", run.path, "--no-data", "--public-key", public)
    assert code == 1 and "manifest.json: is not signed" in out and "records/0003.json: is not signed" in out and "records/0002.json" in out
    assert "2 of" not in out
    code, _, err = command("verify", run.path, "--public-key", run.path / "config.yaml")
    assert code == 2 and "is no public key" in err
    assert command("verify", run.path, "--signature", tmp_path / "gone")[0] == 2
    code, _, err = command("card", run.path, "--key", tmp_path / "gone.key")
    assert code == 2 and "gone.key cannot be read" in err


def test_a_passphrase_is_asked_for_or_named(tmp_path, command, monkeypatch):
    run, _ = made_run(tmp_path)
    monkeypatch.setattr(signing, "_OPERATIONS", 32768)
    monkeypatch.setattr(signing, "_MEMORY", 1 << 20)
    monkeypatch.setenv("LORAFORGE_KEY_PASSPHRASE", "geheim")
    assert command("keygen", "--out", tmp_path / "k", "--passphrase")[0] == 0
    assert (
        command("card", run.path, "--key", tmp_path / "k" / "signing.key")[0] == 0
        and (run.path / "records" / "0001.json.minisig").is_file()
    )
    monkeypatch.setenv("LORAFORGE_KEY_PASSPHRASE", "other")
    assert "the passphrase is wrong" in command("card", run.path, "--key", tmp_path / "k" / "signing.key")[2]
    monkeypatch.delenv("LORAFORGE_KEY_PASSPHRASE")
    code, _, err = command("card", run.path, "--key", tmp_path / "k" / "signing.key")
    assert code == 2 and "LORAFORGE_KEY_PASSPHRASE" in err


@pytest.mark.parametrize(
    ("aside", "place", "name", "value", "waits"),
    [
        ("new", "old", "eval.json", "new", True),
        ("new", None, "eval.json", "new", True),  # taken away already
        ("new", "else", "eval.json", "new", False),
        ("else", "old", "eval.json", "new", False),
        (None, "old", "eval.json", "new", False),
        ("new", "old", "log.jsonl", "new", False),  # the record says nothing of it
        ("new", "old", "eval.json", None, True),  # what the record takes away
        ("new", "else", "eval.json", None, False),
        ("new", None, "eval.json", None, False),
        (None, "old", "eval.json", None, False),
        ("new", "link", "eval.json", "new", False),
        ("new", "link", "eval.json", None, False),
        ("link", "old", "eval.json", "new", False),
        ("a linked folder", "old", "eval.json", "new", False),
    ],
)
def test_what_a_killed_command_left_aside_waits_only_if_nobody_touched_either(aside, place, name, value, waits, tmp_path):
    """The second record was written, and its file is on its way to its place."""

    def digest(text):
        return text and hashlib.sha256(text.encode()).hexdigest()

    run, stage, elsewhere = (tmp_path / part for part in ("run", "run/.record-0002", "elsewhere"))
    run.mkdir()
    elsewhere.mkdir()
    for text in ("old", "new"):
        (elsewhere / text).write_text(text, encoding="utf-8")
    if aside == "a linked folder":
        (elsewhere / name).write_text("new", encoding="utf-8")
        stage.symlink_to(elsewhere, target_is_directory=True)
    elif aside:
        stage.mkdir()
        (stage / name).symlink_to(elsewhere / "new") if aside == "link" else (stage / name).write_text(aside, encoding="utf-8")
    if place:
        (run / name).symlink_to(elsewhere / "old") if place == "link" else (run / name).write_text(place, encoding="utf-8")
    records = tuple(Record(i, "", "eval", "", {"eval.json": digest(text)}, {}) for i, text in ((1, "old"), (2, "new")))
    looked = Verifier(PLUGINS, RunFolder(run), {"files": {name: digest(value)} if value else {}})
    owners = Owners(looked, {"files": {"eval.json": digest("first")}}, Chain(records))
    assert owners.waits(name, digest(value)) is waits
    if waits:
        _files(looked, owners)
        assert [(part.kind, part.name, part.state) for part in looked.parts] == ([("later", name, "unchanged")] if value else [])
