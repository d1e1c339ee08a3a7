# SPDX-License-Identifier: Apache-2.0
"""The run's folder: whole or absent, and nothing is pickled."""

from __future__ import annotations

import json
import os

import pytest
import torch

from loraforge import RunError
from loraforge.runs.folder import RunFolder, atomic_dir, find_runs, load_state, save_state, write_text


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "a" / "x.json"
    with pytest.raises(FileNotFoundError):
        write_text(file, "nowhere")
    file.parent.mkdir()
    write_text(file, "old")
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_text(file, "new")
    assert file.read_text(encoding="utf-8") == "old" and [p.name for p in file.parent.iterdir()] == ["x.json"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "step-000001"
    with pytest.raises(RuntimeError), atomic_dir(target) as partial:
        (partial / "half").write_text("x", encoding="utf-8")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    for text in ("one", "two"):
        with atomic_dir(target) as partial:
            (partial / "file").write_text(text, encoding="utf-8")
    assert (target / "file").read_text(encoding="utf-8") == "two" and [p.name for p in tmp_path.iterdir()] == ["step-000001"]


def test_an_optimizers_state_survives_without_pickle(tmp_path):
    parameter = torch.nn.Parameter(torch.randn(3))
    optimizer = torch.optim.AdamW([parameter], lr=0.1)
    parameter.grad = torch.ones(3)
    optimizer.step()
    state = {"optimizer": optimizer.state_dict(), "none": None, "list": [1, 2.5, "x"], "empty": {}}
    save_state(tmp_path, state, {"step": 3})
    loaded, position = load_state(tmp_path)
    assert position == {"step": 3} and loaded["list"] == [1, 2.5, "x"] and loaded["none"] is None
    assert list(loaded["optimizer"]["state"]) == [0]
    torch.testing.assert_close(loaded["optimizer"]["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"], rtol=0, atol=0)
    optimizer.load_state_dict(loaded["optimizer"])
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".safetensors"]


def test_whatever_optimizers_keep_comes_back_as_it_was(tmp_path):
    """Rates and running sums as tensors in groups, half precision, bytes, whole numbers, infinity, figures of one number and of none."""
    shared = torch.arange(6.0)
    state = {
        "state": {0: {"s": torch.tensor([1.5, -2.0], dtype=torch.bfloat16), "step": 7, "p0": torch.tensor(0.25), "map": torch.arange(5, dtype=torch.uint8)},
                  1: {"view": shared[::2], "again": shared, "long": torch.tensor(2**40), "off": torch.tensor(True), "none": torch.zeros(0, 3)}},
        "param_groups": [{"lr": torch.tensor(1e-3, dtype=torch.float64), "running_d": torch.tensor([0.1]), "d": 1.2345678901234567e-6,
                          "growth_rate": float("inf"), "k": 3, "flag": True, "betas": (0.9, 0.99), "beta3": None, "label": "lora_B", "params": [0, 1]}],
    }  # fmt: skip
    save_state(tmp_path, state, {})
    loaded, _ = load_state(tmp_path)

    def same(one, other) -> None:
        if torch.is_tensor(one):
            assert torch.equal(one, other) and one.dtype == other.dtype and one.shape == other.shape
        elif isinstance(one, dict):
            assert list(one) == list(other)
            for key in one:
                same(one[key], other[key])
        elif isinstance(one, list | tuple):
            assert len(one) == len(other)
            for a, b in zip(one, other, strict=True):
                same(a, b)
        else:
            assert one == other and type(one) is type(other)

    same(state, loaded)


def test_old_checkpoints_and_torn_ones_go(tmp_path):
    run = RunFolder(tmp_path)
    for step in (1, 2, 3):
        run.checkpoint(step).mkdir(parents=True)
        (run.checkpoint(step) / "state.json").write_text("{}", encoding="utf-8")
    (tmp_path / "checkpoints" / ".step-000004.abc").mkdir()
    (tmp_path / "checkpoints" / "step-000009").mkdir()  # no state: not whole
    assert [p.name for p in run.checkpoints()] == ["step-000001", "step-000002", "step-000003"]
    run.prune(2)
    assert [p.name for p in run.checkpoints()] == ["step-000002", "step-000003"]
    assert not (tmp_path / "checkpoints" / ".step-000004.abc").exists()


def test_runs_are_found_below_a_folder(tmp_path):
    for name in ("a", "b/c", "d"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a", "b/c"):
        (tmp_path / name / "manifest.json").write_text("{}", encoding="utf-8")
    assert {run.path for run in find_runs(tmp_path)} == {tmp_path / "a", tmp_path / "b" / "c"}


@pytest.mark.parametrize(("content", "words"), [(None, "no run"), ("{", "cannot be read"), ("[]", "not a JSON object")])
def test_what_is_no_run_is_explained(tmp_path, content, words):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match=words):
        RunFolder(tmp_path).manifest()


# --- a real run's folder -----------------------------------------------------------------------------------------------------


@pytest.fixture
def run(project, train):
    return train(project(save_steps=2, save_total_limit=2)).run


def test_the_layout_and_the_manifest(run, tmp_path):
    import hashlib
    from pathlib import Path

    names = {p.name for p in run.path.iterdir()}
    files = {
        "config.yaml",
        "manifest.json",
        "manifest.sha256",
        "log.jsonl",
        "loss.png",
        "diagnosis.png",
        "checkpoints.png",
        "model-card.md",
    }
    assert names == {*files, "tensorboard", "checkpoints", "adapter", "export"}
    manifest = run.manifest()
    assert manifest["status"] == "finished"
    rows = manifest["data"]["rows"]
    assert len(rows) == 12 and {row["split"] for row in rows} == {"train", "held-out"}
    assert all(len(row["sha256"]) == 64 for row in rows) and rows[0]["where"] == "metadata.csv, row 2"
    weights = Path(manifest["base"]["folder"]) / "model.safetensors"
    assert manifest["base"]["files"]["model.safetensors"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert manifest["template"]["jinja"].startswith("{%") and manifest["template"]["reason"]
    assert {"python", "torch", "transformers", "peft", "loraforge"} <= set(manifest["versions"])
    assert {"held_out_loss_base", "held_out_loss", "train_loss", "seconds"} <= set(manifest["metrics"])
    assert manifest["seed"] == 42 and manifest["facts"]["trainable_parameters"] > 0
    assert len(run.checkpoints()) == 2
    assert not [p for p in run.path.rglob("*") if p.suffix in (".bin", ".pt", ".pth", ".pkl")]


def test_the_effective_config_repeats_the_run(run, train, tmp_path):
    again = train(run.config_file, f"output_dir={tmp_path / 'again'}").run
    assert (again.adapter / "adapter_model.safetensors").read_bytes() == (run.adapter / "adapter_model.safetensors").read_bytes()


def test_a_second_run_does_not_touch_the_first(run, project, train):
    before = (run.adapter / "adapter_model.safetensors").read_bytes()
    with pytest.raises(RunError, match="already holds a finished run. --fresh renames it"):
        train(project())
    outcome = train(project(seed=1), fresh=True)
    kept = [p for p in run.path.parent.iterdir() if p.name.startswith("out.")]
    assert len(kept) == 1 and (kept[0] / "adapter" / "adapter_model.safetensors").read_bytes() == before
    assert outcome.run.adapter.exists()


def test_resume_refuses_another_config_or_other_data_and_shows_the_difference(run, project, train, tmp_path):
    manifest = run.manifest()
    with pytest.raises(RunError, match="finished; there is nothing to resume"):
        train(project(), resume=True)
    run.manifest_file.write_text(json.dumps({**manifest, "status": "failed"}), encoding="utf-8")
    data = tmp_path / "data" / "metadata.csv"
    data.write_text(data.read_text(encoding="utf-8") + "新问题？,新答案。\n", encoding="utf-8")
    with pytest.raises(RunError) as error:
        train(project(seed=1, learning_rate=0.02), resume=True)
    text = str(error.value)
    assert "seed: was 42, is now 1" in text and "learning_rate: was 0.01, is now 0.02" in text
    assert "the examples have changed. New or altered: metadata.csv, row 14. Gone or altered: none." in text
    lines = data.read_text(encoding="utf-8").splitlines()
    data.write_text("\n".join([lines[0], *reversed(lines[1:-1])]) + "\n", encoding="utf-8")
    with pytest.raises(RunError, match="the same rows stand in another order"):
        train(project(), resume=True)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("mask", [0o077, 0o027, 0o022, 0o002])
def test_what_is_written_has_the_rights_that_the_umask_leaves(tmp_path, mask):
    from loraforge.runs.folder import atomic_dir, atomic_write, write_text

    before = os.umask(mask)
    try:
        write_text(tmp_path / "a.txt", "x")
        write_text(tmp_path / "a.txt", "y")
        atomic_write(tmp_path / "answers", "b.png", b"x")
        with atomic_dir(tmp_path / "c") as partial:
            (partial / "d").write_text("x")
    finally:
        os.umask(before)
    modes = {path.relative_to(tmp_path).as_posix(): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    files = dict.fromkeys(("a.txt", "answers/b.png", "c/d"), 0o666 & ~mask)
    assert modes == {**files, **dict.fromkeys(("answers", "c"), 0o777 & ~mask)}


def test_a_file_in_place_of_a_run_is_no_run(tmp_path):
    file = tmp_path / "style.safetensors"
    file.write_bytes(b"weights")
    with pytest.raises(RunError, match="is no run"):
        RunFolder(file).manifest()
