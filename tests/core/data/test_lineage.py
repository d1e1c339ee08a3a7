# SPDX-License-Identifier: Apache-2.0
"""The run that a run continues from: found from any of its adapters, and what it knows of the questions."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from loraforge import ConfigError, RunError
from loraforge.audit.verify import ancestor
from loraforge.data.lineage import Parent, adapter_folder, parent_of, require_adapter
from loraforge.data.splitting import ASIDE, HELD_OUT, LEARNED
from loraforge.runs.folder import RunFolder

RUN = {"format": 1, "config": {}, "task": "text"}


def parent(**manifest) -> Parent:
    return Parent(RunFolder(Path("run")), Path("run/adapter"), manifest)


def test_what_was_learned_once_counts_as_learned_for_ever():
    rows = [
        {"asks": "q1", "sha256": "r1", "split": HELD_OUT},
        {"asks": "q2", "sha256": "r2", "split": LEARNED},
        {"asks": "q2", "sha256": "r3", "split": HELD_OUT},
        {"asks": "q3", "sha256": "r4", "split": ASIDE},  # no side
        {"sha256": "r5", "split": LEARNED},  # an earlier version
        {"asks": "q6"},
        {"asks": "q10", "sha256": "r10", "beside": ["a1", "a2"], "split": HELD_OUT},
        {"asks": "q10", "sha256": "r10", "beside": ["a1"], "split": LEARNED},
        {"asks": "q11", "beside": "nonsense", "split": HELD_OUT},
        "damaged",
    ]
    inherited = {"q1": LEARNED, "q7": HELD_OUT, "q8": LEARNED, "q9": "nonsense"}
    known = parent(data={"rows": rows}, inherited=inherited).sides()
    assert known == {
        "q1": LEARNED,
        "r1": HELD_OUT,
        "q2": LEARNED,
        "r2": LEARNED,
        "r3": HELD_OUT,
        "r5": LEARNED,
        "q7": HELD_OUT,
        "q8": LEARNED,
        "q10": LEARNED,
        "r10": LEARNED,
        "a1": LEARNED,
        "a2": HELD_OUT,
        "q11": HELD_OUT,
    }


@pytest.mark.parametrize(
    ("rows", "knows"), [([{"asks": 1}, {"asks": 2}], True), ([{"asks": 1}, {}], False), ([{}, {"asks": 1}], False), ([], True)]
)
def test_an_earlier_version_does_not_know_its_questions(rows, knows):
    assert parent(data={"rows": rows}).knows_questions is knows


@pytest.mark.parametrize("manifest", [{}, {"data": None}, {"data": {"rows": None}}, {"data": [], "inherited": []}])
def test_a_manifest_that_says_nothing_of_rows(manifest):
    assert parent(**manifest).sides() == {}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "out"
    for inner in ("adapter", "export/peft", "checkpoints/step-000050/adapter"):
        (folder / inner).mkdir(parents=True)
        (folder / inner / "adapter_config.json").write_text("{}", encoding="utf-8")
    (folder / "manifest.json").write_text(json.dumps(RUN), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("named", "adapter"),
    [
        ("", "adapter"),
        ("adapter", "adapter"),
        ("export/peft", "export/peft"),
        ("checkpoints/step-000050", "checkpoints/step-000050/adapter"),
        ("checkpoints/step-000050/adapter", "checkpoints/step-000050/adapter"),
    ],
)
def test_a_run_is_found_from_each_of_its_adapters(run, named, adapter, monkeypatch):
    monkeypatch.chdir(run.parent)
    for path in (run / named, Path("out") / named):
        found = parent_of(str(path))
        assert found is not None and (found.run.path, found.adapter, found.manifest) == (run, run / adapter, RUN)


@pytest.mark.parametrize("part", ["format", "config", "task"])
def test_a_manifest_of_something_else_is_passed_over(run, part):
    (run / "manifest.json").write_text(json.dumps({**RUN, part: None}), encoding="utf-8")
    assert parent_of(str(run)) is None


def test_a_strangers_adapter_has_no_run_around_it(run, tmp_path):
    assert parent_of(None) is None and parent_of("") is None
    deep = run / "checkpoints" / "step-000050" / "adapter" / "more"
    deep.mkdir()
    assert parent_of(str(deep)) is None, "four folders up is somebody else's"
    assert adapter_folder(run) == run / "adapter" and adapter_folder(deep) == deep
    (run / "adapter" / "adapter_config.json").unlink()
    assert adapter_folder(run) == run


def test_the_lineage_names_this_run_first(run):
    weights = run / "adapter" / "adapter_model.safetensors"
    manifest = {**RUN, "started": "2024", "data": {"sha256": "rows"}, "lineage": [{"run": "before"}]}
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    found = parent_of(str(run))
    assert found is not None and found.digest() is None
    weights.write_bytes(b"numbers")
    (run / "manifest.sha256").write_text("ABC  manifest.json\n", encoding="utf-8")
    digest = hashlib.sha256(b"numbers").hexdigest()
    assert found.digest() == digest
    mine = {"run": str(run), "started": "2024", "seal": "abc", "adapter": digest, "data": "rows"}
    assert found.lineage() == [mine, {"run": "before"}]
    bare = Parent(found.run, run / "export", {**RUN, "lineage": "damaged", "data": None})
    assert bare.lineage() == [{"run": str(run), "started": None, "seal": "abc", "adapter": None, "data": None}]


def test_the_weights_of_an_adapter_mean_its_folder_and_another_file_is_refused(tmp_path):
    (tmp_path / "adapter").mkdir()
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(b"x")
    assert adapter_folder(weights) == weights
    with pytest.raises(RunError, match="single file"):
        require_adapter(str(weights))
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    assert adapter_folder(weights) == tmp_path / "adapter" == adapter_folder(tmp_path)
    require_adapter(str(weights))


def test_an_exported_file_belongs_to_its_run_and_is_known_by_its_own_hash(tmp_path):
    (tmp_path / "export" / "webui").mkdir(parents=True)
    (tmp_path / "manifest.json").write_text(json.dumps(RUN))
    file = tmp_path / "export" / "webui" / "neon.safetensors"
    file.write_bytes(b"weights")
    found = parent_of(str(file))
    assert found is not None and found.run.path == tmp_path and found.digest() == hashlib.sha256(b"weights").hexdigest()
    assert ancestor(found.lineage()[0]) == file
    file.write_bytes(b"others")
    assert ancestor(found.lineage()[0] | {"adapter": hashlib.sha256(b"weights").hexdigest()}) is None


def test_an_adapter_of_another_rank_is_told_before_anything_is_loaded(tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"x")
    for written, refused in (
        ('{"r": 8}', True),
        ('{"r": 16}', False),
        ("{}", False),
        ("[", False),
        ('{"r": 8, "peft_type": "IA3"}', False),
    ):
        (tmp_path / "adapter_config.json").write_text(written)
        if refused:
            with pytest.raises(ConfigError, match="rank 8; this config says 16"):
                require_adapter(str(tmp_path), 16)
        else:
            require_adapter(str(tmp_path), 16)
