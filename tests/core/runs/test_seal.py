# SPDX-License-Identifier: Apache-2.0
"""The seal of a run: what was altered is named, and what was not is left alone."""

from __future__ import annotations

import hashlib

import pytest
from builders.sealed_runs import bad, flip, made_run

from loraforge import RunError
from loraforge.audit.verify import verify
from loraforge.runs import seal, signing
from loraforge.runs.amending import amend
from loraforge.runs.seal import complete_seal, kept_seal, require_sound, seal_run


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
        complete_seal(run)
    assert command("card", run.path)[0] == 2 and not (run.path / "manifest.sha256").exists()
    flip(run.log_file)
    flip(run.adapter / "adapter_model.safetensors")
    with pytest.raises(RunError, match="altered since it was sealed"):
        require_sound(run, ["adapter"])
    flip(run.adapter / "adapter_model.safetensors")
    assert command("card", run.path)[0] == 0 and not bad(host, run)
    assert complete_seal(run) == kept_seal(run)


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
        with pytest.raises(RunError, match="not the file that was sealed"), amend(run, "card"):
            pass
    seal.unlink()
    seal.mkdir()
    with pytest.raises(RunError, match="not the file that was sealed"), amend(run, "card"):
        pass
    assert bad(host, run) == {("manifest.json", "missing")}


@pytest.mark.parametrize("last", ["manifest.json", "manifest.json.minisig"])
def test_a_second_sealing_that_is_interrupted_leaves_no_older_seal_or_signature(tmp_path, monkeypatch, last):
    """They would be of another manifest, and the run would look altered."""
    signer = signing.read_secret(signing.generate(tmp_path / "keys", "me")[0], str)
    run, _ = made_run(tmp_path)
    manifest = run.sealed_manifest()[0]
    seal_run(run, manifest, signer)
    assert {"manifest.sha256", "manifest.json.minisig"} <= {path.name for path in run.path.iterdir()}
    write = seal.write_text

    def killed(path, text):
        write(path, text)
        if path.name == last:
            raise KeyboardInterrupt

    monkeypatch.setattr(seal, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        seal_run(run, {**manifest, "note": "another"}, signer)
    left = {path.name for path in run.path.iterdir()}
    assert "manifest.sha256" not in left and ("manifest.json.minisig" in left) == (last == "manifest.json.minisig")
    monkeypatch.undo()
    assert complete_seal(run, signer) == kept_seal(run) == hashlib.sha256(run.manifest_file.read_bytes()).hexdigest()
