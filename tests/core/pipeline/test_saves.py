# SPDX-License-Identifier: Apache-2.0
"""What is handed on is written at every save too, where that is asked for; the WebUIs' files are looked at in the image plugin's tests."""

from __future__ import annotations

import pytest

from loraforge import Exporter, ExportError, hookimpl
from loraforge.pipeline import saves
from loraforge.plan import make_plan


class OneFile(Exporter):
    """One file with a fixed name, and one beside it; it refuses the second save."""

    name, task, help, at_saves = "one-file", "text", "One file.", True

    def export(self, adapter, destination):
        if adapter.facts["name"].endswith("000004"):
            raise ExportError("not this one")
        (destination / "weights.txt").write_text(adapter.facts["name"])
        return destination / "weights.txt"


class Bring:
    @hookimpl
    def loraforge_exporters(self):
        return [OneFile()]


def test_a_file_has_the_step_in_its_name_a_folder_is_one_of_its_own_and_what_is_refused_ends_nothing(project, train, host, tmp_path):
    host.register(Bring(), "bring", "test")
    config = project(save_steps=2, max_steps=6, epochs=9, save_total_limit=1, export=["one-file", "peft"], export_at_saves=True)
    run = train(config).run
    place = run.path / "saves"
    assert {path.name: path.read_text() for path in (place / "one-file").iterdir()} == {
        f"weights-00000{step}.txt": f"out-00000{step}" for step in (2, 6)
    }
    assert sorted(path.name for path in (place / "peft").iterdir()) == ["step-000002", "step-000004", "step-000006"]
    assert (place / "peft/step-000006/adapter_model.safetensors").is_file()
    assert len(run.checkpoints()) <= 2  # all saves stay, checkpoints do not
    assert "one-file, step 4: not this one" in run.log_file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"export": ["merged", "peft"]}, "merged is written at the end only"),
        ({"export": []}, "nothing is exported"),
        ({"export": ["peft"]}, ""),
    ],
)
def test_what_is_written_at_the_end_only_is_said_before(settings, said, project, host):
    lines = saves.remarks(make_plan(host, "text", project(export_at_saves=True, **settings)))
    assert said in " ".join(lines) and bool(lines) is bool(said)
    assert not saves.remarks(make_plan(host, "text", project(**settings)))
